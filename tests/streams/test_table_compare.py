"""A conversation's rows against the same made again: every way to differ has its word, and what is written makes them equal."""

import msgspec
import pytest

from schemas.codec import encode
from streams.identity import Name
from streams.rows import ConversationRow, IdsRow, Sealed, Turn, sealed_key
from streams.table_compare import Known, UnreadableError, Verdict, done_of, is_sealed, judge, known_of, writes

KEY = b"wa:1:2"
TURNS = [Turn("user", f"{number}") for number in range(5)]
ROW = ConversationRow(done=9, turns=TURNS, ids=b"12345678abcdefgh", ids_newest_ms=50, name=Name(since=5, canonical="wa:1:3"))


def known(row: ConversationRow = ROW, *, before: bytes = b"", **changed: object) -> Known:
    row = msgspec.structs.replace(row, **changed)
    return Known(row=row, ids=before + row.ids)


@pytest.mark.parametrize(
    ("old", "new", "is_whole", "verdict"),
    [
        (known(), known(), True, "same"),
        (known(ids_newest_ms=51), known(), True, "same"),
        (None, known(), True, "missing"),
        (None, known(), False, "missing"),
        (known(done=8), known(), True, "changed"),
        (known(turns=TURNS[1:]), known(), True, "changed"),
        (known(before=b"ABCDEFGH"), known(), True, "changed"),
        (known(name=Name(since=4)), known(), True, "changed"),
        (known(before=b"ABCDEFGH"), known(turns=TURNS[2:]), False, "same"),
        (known(name=Name(since=1, canonical="wa:1:3")), known(), False, "same"),
        (known(name=Name(since=1)), known(), False, "older"),
        (known(turns=TURNS[1:]), known(), False, "older"),
        (known(done=10), known(), True, "ahead"),
        (known(done=10), None, True, "ahead"),
        (known(), None, True, "unexplained"),
        (known(), None, False, "older"),
    ],
)
def test_the_verdict(old: Known | None, new: Known | None, is_whole: bool, verdict: Verdict) -> None:
    """Offset, words, ids and name count, times of writing do not; where the log lacks its beginning more may be there than is made."""
    assert judge(old, new, committed=10, is_whole=is_whole) == verdict


def rows(row: ConversationRow, ids: dict[int, IdsRow]) -> dict[bytes, bytes]:
    return {KEY: encode(row)} | {sealed_key(KEY, number): encode(each) for number, each in ids.items()}


SEALED = rows(
    msgspec.structs.replace(ROW, sealed=[Sealed(0, 10), Sealed(1, 20)], next_sealed=2),
    {0: IdsRow(done=3, ids=b"aaaaaaaa", newest_ms=10), 1: IdsRow(done=6, ids=b"bbbbbbbb", newest_ms=20)},
)


def test_ids_are_those_of_all_rows() -> None:
    found = known_of(KEY, SEALED.get)
    assert found is not None
    assert found.ids == b"aaaaaaaabbbbbbbb12345678abcdefgh"
    assert known_of(b"wa:1:9", SEALED.get) is None
    assert [is_sealed(key) for key in SEALED] == [False, True, True]


@pytest.mark.parametrize("damage", [{KEY: b"{"}, {sealed_key(KEY, 1): b""}, {KEY: b'{"v":7}'}])
def test_damaged_rows(damage: dict[bytes, bytes]) -> None:
    with pytest.raises(UnreadableError):
        known_of(KEY, {**SEALED, **damage}.get)


def restored(log: list[tuple[bytes, bytes | None]]) -> dict[bytes, bytes]:
    found: dict[bytes, bytes] = {}
    for key, value in log:
        if value is None:
            found.pop(key, None)
        elif key not in found or done_of(value) >= done_of(found[key]):
            found[key] = value
    return found


@pytest.mark.parametrize(
    "old",
    [
        {},
        SEALED,
        rows(ROW, {}),
        {KEY: b"{"},
        rows(
            msgspec.structs.replace(ROW, done=400, sealed=[Sealed(0, 1), Sealed(4, 2)]),
            {
                0: IdsRow(done=300, ids=b"xxxxxxxx", newest_ms=1),
                4: IdsRow(done=9, ids=b"yyyyyyyy", newest_ms=2),
            },
        ),
    ],
)
def test_what_is_written_makes_them_equal(old: dict[bytes, bytes]) -> None:
    """Whatever was there: also rows with higher offsets, and rows of ids that nothing speaks of; killed in the middle it goes on."""
    log: list[tuple[bytes, bytes | None]] = [*old.items()]
    wanted = writes(KEY, old=old.get, new=SEALED.get)
    assert restored([*log, *wanted]) == SEALED
    for count in range(len(wanted)):
        between = restored([*log, *wanted[:count]])
        again = writes(KEY, old=between.get, new=SEALED.get)
        after = restored([*log, *wanted[:count], *again])
        assert {key: after.get(key) for key in SEALED} == SEALED
    assert writes(KEY, old=SEALED.get, new=SEALED.get) == []
    assert writes(KEY, old=old.get, new=lambda _: None) == []
