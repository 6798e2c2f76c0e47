"""`python -m sinks [NAME...]`: the same as `ottla run sinks [NAME...]`."""

import sys

from infra.cli import main

if __name__ == "__main__":
    sys.exit(main(["run", "sinks", *sys.argv[1:]]))
