"""`python -m infra` is `ottla`."""

from infra.cli import main

if __name__ == "__main__":
    main()
