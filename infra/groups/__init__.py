"""Consumer groups as an operator handles them: who is in them, and setting where they go on."""
