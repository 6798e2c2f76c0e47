"""Values of a prepared write as the protocol takes them.

The driver's own `bind` asks of every value anew what its column is, which is most of what a row costs here. A write is always bound whole
and has no nulls, so its columns are looked at once for each statement.
"""

import struct
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import msgspec
from cassandra import cqltypes
from cassandra.query import BoundStatement

_PACKERS: dict[Any, Callable[[Any], bytes]] = {
    cqltypes.UTF8Type: str.encode,
    cqltypes.BytesType: bytes,
    cqltypes.Int32Type: struct.Struct(">i").pack,
    cqltypes.LongType: struct.Struct(">q").pack,
}
# What the server counts for a value beside its bytes: a timestamp, a time to live and a time of deletion.
_CELL_BYTES = 20


class Write(msgspec.Struct, frozen=True):
    """A write with its values: the driver's `statement`, the CQL it was made of, and how many bytes it has for the server, at most."""

    statement: Any
    cql: str
    size: int


class Limits(NamedTuple):
    """How large a request to several partitions may be before the server warns of it; it refuses what is ten times as large."""

    size: int = 5 * 1024
    partitions: int = 10


class Binder:
    """Makes writes of one prepared statement."""

    def __init__(self, cql: str, prepared: Any, protocol_version: int) -> None:
        self._cql = cql
        self._prepared = prepared
        self._packers = [_packer(column.type, protocol_version) for column in prepared.column_metadata]
        self._overhead = _CELL_BYTES * len(self._packers)

    def bind(self, values: Sequence[Any]) -> Write:
        """Return the write of these values. ValueError if they are too many or too few, TypeError or struct.error for a wrong type."""
        packed = [pack(value) for pack, value in zip(self._packers, values, strict=True)]
        statement = BoundStatement(self._prepared)
        statement.values = packed
        return Write(statement, self._cql, self._overhead + sum(map(len, packed)))


def _packer(kind: Any, protocol_version: int) -> Callable[[Any], bytes]:
    return _PACKERS.get(kind) or partial(_serialized, kind, protocol_version)


def _serialized(kind: Any, protocol_version: int, value: Any) -> bytes:
    packed: bytes = kind.serialize(value, protocol_version)
    return packed
