"""Say in one sentence why a server did not start, from its log and what is known of the machine."""

import re
import shutil
from pathlib import Path

from infra import children
from infra.errors import ServerError
from infra.servers.plan import Plan

_TAIL_BYTES = 256 * 1024
_NEEDED_BYTES = 200 * 1024 * 1024
_LONGEST = 240
_DATE = r"^\S+ \[[^\]]*\] "
_ERROR_LINE = re.compile(_DATE + r"(?:ERROR|FATAL) (?:\S+ - )?(.*)")
_INFO_LINE = re.compile(_DATE + "INFO ")
_THROWN = re.compile(r"^(?:Exception .*|Caused by: .*|Error: .*|Error occurred .*|[\w.$]+(?:Exception|Error): .*)$")

_FULL = ("No space left on device", "Disk quota exceeded", "Insufficient disk space")
_PORT = ("Address already in use", "BindException", "is in use by another process")
_MEMORY = ("OutOfMemoryError", "Could not reserve enough space", "insufficient memory for the Java", "Cannot allocate memory")
_READ_ONLY = ("Permission denied", "AccessDeniedException", "Read-only file system", "FSReadError", "Insufficient permissions")
_DAMAGED = (
    "Corrupt",
    "corrupt",
    "meta.properties",
    "node ID not found",
    "all log dirs in",
    "InconsistentBrokerMetadataException",
    "Could not read commit log descriptor",
    "CommitLogReplayException",
    "ConfigurationException: Saved cluster name",
    "Found invalid messages",
    "InvalidRecordException",
    "Error while deserializing",
    "malformed",
)


def check_room(home: Path) -> None:
    """Raise ServerError if the disk of this home is all but full: a server that starts on it would stop at some worse moment."""
    free = shutil.disk_usage(home).free
    if free < _NEEDED_BYTES:
        raise ServerError(
            f"Only {free // 1_000_000} MB are free on the disk of OTTLA_HOME={home}: the local servers need {_NEEDED_BYTES // 1_000_000}; "
            "make room or set OTTLA_HOME to another disk."
        )


def last_error(log: Path) -> str:
    """Return what the last error in a log says; empty if it has none."""
    found = ""
    for line in tail(log).splitlines():
        matched = _ERROR_LINE.match(line) or _THROWN.match(line)
        if matched:
            found = matched.group(matched.lastindex or 0)
    return found.strip()[:_LONGEST]


def tail(log: Path) -> str:
    """Return the end of a log; empty if there is none."""
    try:
        with log.open("rb") as stream:
            stream.seek(max(0, stream.seek(0, 2) - _TAIL_BYTES))
            return stream.read().decode(errors="replace")
    except OSError:
        return ""


def why_not_started(plan: Plan, home: Path, code: int, port: int) -> ServerError:
    """Return the error for a server that ended with this exit code before it served."""
    log = plan.log(home)
    # Cassandra begins with its whole command line as information, which holds words that elsewhere mean trouble.
    complaints = "\n".join(line for line in tail(log).splitlines() if not _INFO_LINE.match(line))

    def says(signs: tuple[str, ...]) -> bool:
        return any(sign in complaints for sign in signs)

    if says(_FULL):
        return ServerError(f"{plan.title} stopped because the disk of OTTLA_HOME={home} is full: make room and start again.")
    if says(_PORT):
        return PortTakenError(f"{plan.title} could not listen on 127.0.0.1:{port} because something else does: start again.")
    if says(_MEMORY):
        return ServerError(f"{plan.title} did not get the memory it needs: free some (both servers take 1.3 GB) and start again.")
    if says(_READ_ONLY):
        return ServerError(f"{plan.title} may not read or write its files in {plan.folder(home)}: correct their permissions.")
    said = last_error(log)
    if says(_DAMAGED):
        return ServerError(
            f"The data of {plan.title} in {plan.folder(home)} is damaged ({said}): put a copy back, or remove that folder to begin empty."
        )
    how = children.describe_exit(code)
    return ServerError(f"{plan.title} ended while starting ({how}{f', last error: {said}' if said else ''}): {log} has the rest.")


class PortTakenError(ServerError):
    """The port was taken between choosing it and listening on it: another one may do."""
