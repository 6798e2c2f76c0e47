"""What `python -m streams.filled_table` says of the rows it has written: the words between it and the scenario `ids`."""

import msgspec


class Filled(msgspec.Struct, kw_only=True):
    """Rows written so far, with the bytes of their keys and values.

    `conversations` have `ids` in `row_bytes`, of which `id_bytes` are there for the ids and `turn_bytes` for what was said. The busy
    conversation is counted apart: `sealed_ids` in the `sealed_bytes` of its sealed rows, the row that every message of it writes again,
    and the processor seconds it takes to tell that an id is new in it, reads of the store left out.
    """

    records: int = 0
    conversations: int = 0
    ids: int = 0
    row_bytes: int = 0
    id_bytes: int = 0
    turn_bytes: int = 0
    sealed_ids: int = 0
    sealed_bytes: int = 0
    busy_row_bytes: int = 0
    busy_look_up_s: float = 0.0
