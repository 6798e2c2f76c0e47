"""`ottla bench`: what a message costs on this machine, beside floors that are measured in the same run."""
