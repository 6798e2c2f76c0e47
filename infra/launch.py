"""Become another command, which then dies with the process that started it (Linux; elsewhere it only becomes the command).

Run as a script: `python launch.py PARENT_PID SIGNAL COMMAND...`. A script and not a `preexec_fn`, because running Python between
fork and exec can deadlock a parent that has threads, and Kafka clients have them.
"""

import ctypes
import os
import sys

_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Ask the kernel for the signal, make sure the parent still lives, become the command."""
    parent_pid, signal_number, command = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal_number)
        if os.getppid() != parent_pid:
            # It died before the request was in place: nobody would ever send the signal.
            sys.exit(1)
    os.execvp(command[0], command)  # noqa: S606 - the command comes from our own supervisor, and no shell is wanted


if __name__ == "__main__":
    main()
