"""What is wrong with this installation, in sentences: small checks, each with a deadline, that change nothing."""
