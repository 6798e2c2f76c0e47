# ruff: noqa: INP001  # copied into the image as it is, part of no package
"""Ask a role in this container whether it can do its work: `python healthcheck.py PORT`; exit code 0 if its /readyz answers 200.

A file of its own that imports nothing of ours: it is run every few seconds.
"""

import http.client
import sys

TIMEOUT_S = 8
READY = 200


def main() -> int:
    """Return 0 if the role is ready, else 1 and print why."""
    connection = http.client.HTTPConnection("127.0.0.1", int(sys.argv[1]), timeout=TIMEOUT_S)
    try:
        connection.request("GET", "/readyz")
        answer = connection.getresponse()
        print(answer.read(500).decode(errors="replace"))  # noqa: T201  # docker inspect shows it
    except (OSError, http.client.HTTPException) as error:
        print(error)  # noqa: T201
        return 1
    finally:
        connection.close()
    return 0 if answer.status == READY else 1


if __name__ == "__main__":
    sys.exit(main())
