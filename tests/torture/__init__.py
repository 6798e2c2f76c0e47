"""The fault runner: the real services as processes, faults, a history of what was seen from outside, and a checker that reads it."""
