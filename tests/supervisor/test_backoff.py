"""How long to wait before a restart."""

from infra.supervisor.backoff import Backoff


def test_waits_double_up_to_half_a_minute() -> None:
    """Deaths in a row wait twice as long each time, 30 s at most."""
    backoff = Backoff()
    assert [backoff.after(1) for _ in range(9)] == [0.5, 1, 2, 4, 8, 16, 30, 30, 30]


def test_a_minute_of_health_begins_anew() -> None:
    """After 60 s of running the next death counts as the first; after 59 it does not."""
    backoff = Backoff()
    for _ in range(5):
        backoff.after(1)
    assert backoff.after(59) == 16
    assert backoff.after(60) == 0.5
    assert backoff.after(1) == 1


def test_five_brief_runs_in_a_row_are_worth_a_word_once() -> None:
    """The fifth run in a row that ended within seconds is said, the sixth is not said again, one long run starts the count anew."""
    backoff = Backoff()
    said = []
    for ran_s in (1, 1, 1, 1, 1, 1, 20, 1, 1, 1, 1, 1):
        backoff.after(ran_s)
        said.append(backoff.hopeless)
    assert [index for index, word in enumerate(said) if word] == [4, 11]
