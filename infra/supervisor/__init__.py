"""`ottla up`: every part of one installation as child processes of one command, kept running, shown, and stopped in order."""
