"""`python -m infra` is `ottla`."""

from infra.cli import main

main()
