"""The errors a person can make or must act on: each is one sentence, and each knows the exit code of the command that meets it."""

FAILED, USAGE, NOT_FOUND, UNSAFE = 1, 2, 3, 4


class OttlaError(Exception):
    """Something failed; the text is one sentence that says what to do."""

    exit_code = FAILED


class UsageError(OttlaError):
    """The command was given something it cannot use."""

    exit_code = USAGE


class NotFoundError(OttlaError):
    """What was asked for does not exist."""

    exit_code = NOT_FOUND


class RefusedError(OttlaError):
    """What was asked for is refused because it would lose or double something."""

    exit_code = UNSAFE


class ServerError(OttlaError):
    """A local Kafka or Cassandra cannot be fetched, started, reached or stopped."""
