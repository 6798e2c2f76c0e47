"""Events: what the records of each topic hold, one module for each event."""
