"""infra.newest: what is remembered, and what is forgotten for it."""

from infra.newest import Newest


def test_the_first_is_forgotten_first() -> None:
    """A value put again keeps the place of its key, and whoever put the one too many is told what went."""
    newest: Newest[str, int] = Newest(2)
    assert [newest.put("a", 1), newest.put("b", 2), newest.put("a", 3)] == [None, None, None]
    assert (newest.get("a"), len(newest)) == (3, 2)
    assert newest.put("c", 4) == 3
    assert ("a" in newest, newest.get("a"), newest.get("b"), newest.get("c"), len(newest)) == (False, None, 2, 4, 2)
