"""`python -m sinks [NAME...]`: the same as `ottla run sinks [NAME...]`."""

import sys

from infra.cli import main

if __name__ == "__main__":
    sys.argv[1:1] = ["run", "sinks"]
    main()
