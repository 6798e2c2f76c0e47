"""tests.torture.checker: a history that is right is clean, and each thing that can be wrong is found and called by its name."""

import itertools
import random
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import hypothesis
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.ids import callback_data, conversation_key, event_id, send_id
from tests.torture.checker import Report, check
from tests.torture.history import (
    Begun,
    Effect,
    Entry,
    Fault,
    HistoryWriter,
    Letter,
    Listed,
    Posted,
    Reading,
    Recorded,
    Refused,
    Status,
    Stored,
)

_STATUSES = ("sent", "delivered", "read")


@dataclass
class _Message:
    id: str
    conversation: str
    answer: str
    step: str = "reply"
    parked: bool = False

    @property
    def send(self) -> str:
        return send_id(conversation=self.conversation, cause=event_id(self.conversation, self.id), step=self.step)

    @property
    def callback(self) -> str:
        return callback_data(send=self.send, conversation=self.conversation)

    @property
    def platform_id(self) -> str:
        return f"wamid.out-{self.send}"

    def effect(self, *, answered: int = 200) -> Effect:
        return Effect(
            at=0, conversation=self.conversation, callback=self.callback, platform_id=self.platform_id, text="answer", answered=answered
        )

    def reading(self, status: str, *, final: bool = False) -> Reading:
        return Reading(at=0, conversation=self.conversation, id=self.send, direction="out", status=status, final=final)

    @property
    def seen(self) -> Reading:
        return Reading(at=0, conversation=self.conversation, id=self.id, direction="in", status="received", final=True)


def _key(number: int) -> str:
    return conversation_key(channel="wa", account="1", contact=str(15550000000 + number))


class _Play:
    """A history in which all is well: conversations side by side, refusals, repeats, fallbacks, lost answers, parked sends, poison."""

    def __init__(self, *, conversations: int, messages: int, seed: int) -> None:
        self._chance = random.Random(seed)
        self._bodies = iter(range(1 << 30))
        self.messages: list[_Message] = []
        lanes = [list(self._conversation(number, messages)) for number in range(conversations)]
        ends = list(self._ends())
        self.entries: list[Entry] = [Begun(at=0, seed=seed, command="test"), *self._merged(lanes), *ends]
        self.entries = [msgspec.structs.replace(entry, at=number / 10) for number, entry in enumerate(self.entries)]

    def _merged(self, lanes: list[list[Entry]]) -> Iterator[Entry]:
        turns = [lane for lane in lanes for _ in lane]
        self._chance.shuffle(turns)
        rest = {id(lane): iter(lane) for lane in lanes}
        yield Fault(at=0, name="kill", target="streams", phase="begin")
        yield from (next(rest[id(lane)]) for lane in turns)
        yield Fault(at=0, name="kill", target="streams", phase="progress", seconds=self._chance.uniform(1, 9))

    def _conversation(self, number: int, messages: int) -> Iterator[Entry]:
        for position in range(messages):
            draw = self._chance.random()
            message = _Message(
                id=f"wamid.{number}.{position}",
                conversation=_key(number),
                answer="none" if draw < 0.1 else "dead-letter" if draw < 0.15 else "text",
                step="fallback" if draw > 0.9 else "reply",
                parked=0.8 < draw < 0.85,
            )
            self.messages.append(message)
            yield from self._written(message)
            if message.answer == "text" and not message.parked:
                yield from self._answered(message)

    def _written(self, message: _Message) -> Iterator[Entry]:
        body = next(self._bodies)
        posted = Posted(at=0, body=body, message=message.id, conversation=message.conversation, answer=message.answer)
        yield posted
        if self._chance.random() < 0.1:
            yield Refused(at=0, body=body, status=self._chance.choice((0, 503)))
        yield Stored(at=0, body=body)
        if self._chance.random() < 0.2:
            again = next(self._bodies)
            yield msgspec.structs.replace(posted, body=again, repeat=True)
            yield Stored(at=0, body=again)

    def _answered(self, message: _Message) -> Iterator[Entry]:
        yield message.effect(answered=self._chance.choice((200, 200, 200, 0, 502)))
        for status in _STATUSES:
            yield Status(at=0, platform_id=message.platform_id, status=status, callback=message.callback)
            if self._chance.random() < 0.3:
                yield message.reading(status)

    def _ends(self) -> Iterator[Entry]:
        for message in self.messages:
            yield message.seen
            if message.answer == "dead-letter":
                yield Letter(at=0, conversation=message.conversation, stage="streams", cause="no-identity", messages=[message.id])
            if message.answer != "text":
                continue
            yield message.reading("unknown" if message.parked else "read", final=True)
            if message.parked:
                yield Listed(at=0, send=message.send, conversation=message.conversation)
            if message.step == "fallback":
                yield Letter(at=0, conversation=message.conversation, stage="streams", cause="agent-error", messages=[message.id])

    def answered(self) -> list[_Message]:
        """Return the messages whose answer the platform has."""
        return [message for message in self.messages if message.answer == "text" and not message.parked]

    def where(self, entry_type: type[Entry], message: _Message) -> list[int]:
        """Return the places of entries of a type that speak of a message or its send."""
        names = {message.id, message.send, message.callback}
        return [
            place
            for place, entry in enumerate(self.entries)
            if isinstance(entry, entry_type) and names & {getattr(entry, name, "") for name in ("message", "id", "send", "callback")}
        ]

    def without(self, entry_type: type[Entry], message: _Message) -> list[Entry]:
        """Return the history without those."""
        places = {*self.where(entry_type, message)}
        return [entry for place, entry in enumerate(self.entries) if place not in places]

    def after_effect(self, message: _Message, *entries: Entry) -> list[Entry]:
        """Return the history with entries right after a message's answer."""
        place = self.where(Effect, message)[0] + 1
        return [*self.entries[:place], *entries, *self.entries[place:]]


Plant = Callable[[_Play, random.Random], list[Entry]]


def _one(play: _Play, chance: random.Random) -> _Message:
    return chance.choice(play.answered())


def _answer_lost(play: _Play, chance: random.Random) -> list[Entry]:
    return play.without(Effect, _one(play, chance))


def _unlisted(play: _Play, chance: random.Random) -> list[Entry]:
    parked = chance.choice([message for message in play.messages if message.answer == "text" and message.parked])
    return play.without(Listed, parked)


def _poison_not_listed(play: _Play, chance: random.Random) -> list[Entry]:
    poison = chance.choice([message for message in play.messages if message.answer == "dead-letter"])
    return [entry for entry in play.entries if not (isinstance(entry, Letter) and poison.id in entry.messages)]


def _message_unseen(play: _Play, chance: random.Random) -> list[Entry]:
    message = chance.choice([message for message in play.messages if message.answer != "dead-letter"])
    return [entry for entry in play.entries if not (isinstance(entry, Reading) and entry.id == message.id)]


def _send_unseen(play: _Play, chance: random.Random) -> list[Entry]:
    message = _one(play, chance)
    return [entry for entry in play.entries if not (isinstance(entry, Reading) and entry.final and entry.id == message.send)]


def _never_posted(play: _Play, chance: random.Random) -> list[Entry]:
    message = _one(play, chance)
    stranger = _Message(id="wamid.nobody", conversation=message.conversation, answer="text")
    return play.after_effect(message, stranger.effect())


def _without_callback(play: _Play, chance: random.Random) -> list[Entry]:
    message = _one(play, chance)
    return play.after_effect(message, msgspec.structs.replace(message.effect(), callback=""))


def _to_somebody_else(play: _Play, chance: random.Random) -> list[Entry]:
    place = play.where(Effect, _one(play, chance))[0]
    misled = msgspec.structs.replace(play.entries[place], conversation=_key(999))
    return [*play.entries[:place], misled, *play.entries[place + 1 :]]


def _to_a_reaction(play: _Play, chance: random.Random) -> list[Entry]:
    silent = chance.choice([message for message in play.messages if message.answer == "none"])
    place = play.where(Posted, silent)[0] + 1
    return [*play.entries[:place], silent.effect(), *play.entries[place:]]


def _shown_by_history_alone(play: _Play, chance: random.Random) -> list[Entry]:
    return [*play.entries, _Message(id="wamid.nobody", conversation=_one(play, chance).conversation, answer="text").seen]


def _twice(play: _Play, chance: random.Random) -> list[Entry]:
    message = _one(play, chance)
    return play.after_effect(message, msgspec.structs.replace(message.effect(), platform_id="wamid.out-again"))


def _reply_and_fallback(play: _Play, chance: random.Random) -> list[Entry]:
    message = _one(play, chance)
    other = _Message(message.id, message.conversation, "text", "reply" if message.step == "fallback" else "fallback")
    return play.after_effect(message, other.effect())


def _overtaken(play: _Play, chance: random.Random) -> list[Entry]:
    answered = play.answered()
    pairs = [(one, two) for one, two in itertools.pairwise(answered) if one.conversation == two.conversation]
    one, two = chance.choice(pairs)
    first, second = play.where(Effect, one)[0], play.where(Effect, two)[0]
    return [*play.entries[:first], *play.entries[first + 1 : second + 1], play.entries[first], *play.entries[second + 1 :]]


def _taken_back(play: _Play, chance: random.Random) -> list[Entry]:
    message = _one(play, chance)
    place = play.where(Status, message)[-1] + 1
    return [*play.entries[:place], message.reading("delivered"), message.reading("sent"), *play.entries[place:]]


def _lower_than_told(play: _Play, chance: random.Random) -> list[Entry]:
    message = _one(play, chance)
    lower = message.reading("sent", final=True)
    entries = [entry for entry in play.entries if not (isinstance(entry, Reading) and entry.id == message.send)]
    return [*entries, lower]


def _rejected_and_answered(play: _Play, chance: random.Random) -> list[Entry]:
    message = _one(play, chance)
    return [*play.entries, Letter(at=0, conversation=message.conversation, stage="sender", cause="rejected", sends=[message.send])]


def _parked_and_rejected(play: _Play, chance: random.Random) -> list[Entry]:
    parked = chance.choice([message for message in play.messages if message.answer == "text" and message.parked])
    return [*play.entries, Letter(at=0, conversation=parked.conversation, stage="sender", cause="rejected", sends=[parked.send])]


def _told_and_unknown(play: _Play, chance: random.Random) -> list[Entry]:
    message = _one(play, chance)
    cut = [
        msgspec.structs.replace(entry, answered=0) if isinstance(entry, Effect) and entry.callback == message.callback else entry
        for entry in play.entries
    ]
    return [*cut, Listed(at=0, send=message.send, conversation=message.conversation)]


PLANTS: list[tuple[Plant, set[str]]] = [
    (_answer_lost, {"lost-write", "books"}),
    (_unlisted, {"lost-write", "books"}),
    (_poison_not_listed, {"lost-write", "books"}),
    (_message_unseen, {"unseen"}),
    (_send_unseen, {"unseen"}),
    (_never_posted, {"phantom"}),
    (_without_callback, {"phantom"}),
    (_to_somebody_else, {"phantom"}),
    (_to_a_reaction, {"phantom", "books", "unseen"}),
    (_shown_by_history_alone, {"phantom"}),
    (_twice, {"duplicate"}),
    (_reply_and_fallback, {"duplicate", "unseen"}),
    (_overtaken, {"reorder"}),
    (_taken_back, {"nonmonotonic"}),
    (_lower_than_told, {"nonmonotonic"}),
    (_rejected_and_answered, {"books"}),
    (_parked_and_rejected, {"books"}),
    (_told_and_unknown, {"unsettled"}),
]
_PLAY = _Play(conversations=40, messages=8, seed=7)


def _named(report: Report) -> set[str]:
    return {name for name, total in report.totals.items() if total}


def test_a_right_history_is_clean() -> None:
    """Refusals, repeats, fallbacks, lost answers, parked sends and poison are no anomalies, and the books say the numbers."""
    report = check(_PLAY.entries)
    messages = _PLAY.messages
    assert report.clean, report.lines()
    assert report.books.accepted == report.books.sum == len(messages) == 320
    assert report.books.answered == len(_PLAY.answered())
    assert report.books.fallbacks == sum(message.step == "fallback" for message in _PLAY.answered()) > 0
    assert report.books.parked == sum(message.parked for message in messages) > 0
    assert report.books.dead_lettered == sum(message.answer == "dead-letter" for message in messages) > 0
    assert report.settlement.lost_answers == report.settlement.told == report.settlement.settled > 0
    assert report.settlement.max_s is not None
    assert report.settlement.timed >= report.settlement.in_time > 0
    assert [(each.fault, each.begun, each.recovered) for each in report.recovery] == [("kill", 1, 1)]
    assert report.recovery[0].p50_s == report.recovery[0].max_s


@pytest.mark.parametrize(("seconds", "in_time"), [(-1.0, 1), (9.9, 1), (10.1, 0)])
def test_how_long_a_lost_answer_was_unknown(seconds: float, in_time: int) -> None:
    """It is settled when its outcome is written, whenever somebody reads that; before its status it was known by other ways."""
    message = _Message(id="wamid.1", conversation=_key(1), answer="text")
    told = Status(at=100.0, platform_id=message.platform_id, status="sent", callback=message.callback)
    entries: list[Entry] = [
        Begun(at=0, seed=1, command="test"),
        Posted(at=0, body=1, message=message.id, conversation=message.conversation, answer="text"),
        Stored(at=0, body=1),
        message.effect(answered=0),
        told,
        msgspec.structs.replace(message.reading("sent"), at=150.0),
        message.seen,
        message.reading("sent", final=True),
        Recorded(at=100.0 + seconds, send=message.send, outcome="accepted"),
    ]
    report = check(entries)
    assert report.clean, report.lines()
    assert (report.settlement.timed, report.settlement.in_time) == (1, in_time)
    assert report.settlement.max_s == pytest.approx(max(0.0, seconds))


@pytest.mark.parametrize(("plant", "names"), PLANTS, ids=[plant.__name__.strip("_") for plant, _ in PLANTS])
def test_what_is_planted_is_found(plant: Plant, names: set[str]) -> None:
    """One wrong thing in the same history: it is named, once and with an example, and so is what follows from it, and nothing else."""
    report = check(plant(_PLAY, random.Random(1)))
    assert not report.clean
    assert _named(report) == names
    assert sorted(anomaly.name for anomaly in report.anomalies) == sorted(names)


@hypothesis.settings(max_examples=60, deadline=None)
@given(
    conversations=st.integers(1, 12),
    messages=st.integers(1, 12),
    seed=st.integers(0, 1 << 32),
    planted=st.sampled_from(PLANTS),
)
def test_any_plant_in_any_history_is_found(conversations: int, messages: int, seed: int, planted: tuple[Plant, set[str]]) -> None:
    """Whatever history is generated: it is clean, and with something wrong in it that is found and named."""
    play = _Play(conversations=conversations, messages=messages, seed=seed)
    assert check(play.entries).clean
    plant, names = planted
    try:
        wrong = plant(play, random.Random(seed))
    except IndexError:  # nothing in this history can go wrong in that way
        return
    assert _named(check(wrong)) == names


def _late(*, entries: tuple[Entry, ...] = (), settled: bool = False) -> Report:
    """Judge a history in which the platform takes the answer to the first message after that to the second."""
    one, two = (_Message(id=f"wamid.{number}", conversation=_key(0), answer="text") for number in (1, 2))
    written: list[Entry] = [
        entry
        for body, message in enumerate((one, two))
        for entry in (Posted(at=0, body=body, message=message.id, conversation=message.conversation), Stored(at=0, body=body))
    ]
    final: list[Entry] = [
        msgspec.structs.replace(one.reading("read", final=True), settled=settled),
        two.reading("read", final=True),
        one.seen,
        two.seen,
    ]
    return check([*written, two.effect(), *entries, one.effect(answered=0), *final])


def test_a_late_send_is_a_reorder_unless_it_was_given_up() -> None:
    """Only the late one's own fate excuses it: that it was recorded as unknown, by a reading on the way or at the end."""
    one, two = (_Message(id=f"wamid.{number}", conversation=_key(0), answer="text") for number in (1, 2))
    assert _named(_late()) == {"reorder"}
    assert _named(_late(entries=(two.reading("unknown"),))) == {"reorder"}
    for excused in (_late(entries=(one.reading("unknown"),)), _late(settled=True)):
        assert excused.clean
        assert excused.counts["late-unknown"] == len(excused.late_unknown) == 1


def test_a_message_that_was_never_stored_is_owed_nothing_and_may_be_answered() -> None:
    """A body without a 200 may be in the log or not: neither an answer nor its absence is wrong."""
    message = _Message(id="wamid.1", conversation=_key(0), answer="text")
    posted = Posted(at=0, body=1, message=message.id, conversation=message.conversation)
    assert check([posted, Refused(at=0, body=1)]).clean
    answered = check([posted, Refused(at=0, body=1), message.effect(), message.reading("accepted", final=True)])
    assert answered.clean
    assert answered.books.accepted == 0


def test_failed_stands_between_sent_and_delivered() -> None:
    """A failed message may turn out delivered; one that was delivered does not fail."""
    message = _Message(id="wamid.1", conversation=_key(0), answer="text")
    stored: list[Entry] = [Posted(at=0, body=1, message=message.id, conversation=message.conversation), Stored(at=0, body=1)]
    rest: list[Entry] = [message.seen, message.effect()]
    upwards: list[Entry] = [message.reading("sent"), message.reading("failed"), message.reading("delivered", final=True)]
    downwards: list[Entry] = [message.reading("delivered"), message.reading("failed", final=True)]
    assert check([*stored, *rest, *upwards]).clean
    assert _named(check([*stored, *rest, *downwards])) == {"nonmonotonic"}


def test_examples_are_bounded_and_totals_are_not() -> None:
    """With everything lost the report stays short and tells how much it is; what is dropped is not looked for."""
    lost = [entry for entry in _PLAY.entries if not isinstance(entry, Effect)]
    report = check(lost)
    assert report.totals["lost-write"] == len(_PLAY.answered())
    assert [anomaly.name for anomaly in report.anomalies].count("lost-write") == 10
    assert check(lost, drop={"lost-write", "books"}).clean


def test_time_and_memory_are_bounded_by_the_messages() -> None:
    """At the pace and with the memory that judges a million entries of a hundred thousand messages in a minute and a quarter GiB."""
    play = _Play(conversations=100, messages=50, seed=3)
    started = time.process_time()
    assert check(play.entries).clean
    assert time.process_time() - started < 60 * len(play.entries) / 1_000_000
    tracemalloc.start()
    check(iter(play.entries))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < (1 << 28) * len(play.messages) / 100_000


def _cli(path: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tests.torture.check", str(path), *words], capture_output=True, text=True, check=False, timeout=60
    )


def test_the_command_judges_a_kept_history(tmp_path: Path) -> None:
    """It prints the verdict of a file and says by its exit code whether it is clean."""
    good, bad = tmp_path / "good.jsonl", tmp_path / "bad.jsonl"
    for path, entries in ((good, _PLAY.entries), (bad, _twice(_PLAY, random.Random(1)))):
        with HistoryWriter(path) as writer:
            for entry in entries:
                writer.write(entry)
    clean = _cli(good)
    assert (clean.returncode, "seed 7: clean" in clean.stdout) == (0, True), clean.stdout + clean.stderr
    wrong = _cli(bad, "--markdown")
    assert wrong.returncode == 1
    assert "| duplicate | **1** |" in wrong.stdout
    assert "duplicate: 1" in _cli(bad).stdout
