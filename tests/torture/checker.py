"""Judges the history of a run: names what was lost, doubled, reordered or told wrongly. Pure; knows nothing of how Ottla works inside.

It takes from Ottla the contract alone: how ids of sends are made (schemas.ids), and that a conversation's order is that of its bodies.

Order is promised among sends whose predecessor was settled or parked. So an effect that arrives after that of a later message of its
conversation is a `reorder`, unless its own send was given up as unknown (it is listed, or a reading showed it so): then the next one was
rightly sent before it, and the platform took it late. Such a one is counted as late-unknown. Whether the later one was unknown does not
matter.

Books: every distinct stored message is in exactly one of answered (the platform took its reply or fallback), suppressed (nobody waits for
an answer to it), dead-lettered and parked (listed, and the platform has nothing). A message that is due an answer counts as dead-lettered
by the sender only: beside a dead letter of the streams the user is owed a fallback, and such a letter names the bad one's siblings too.
"""

import statistics
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable
from typing import Any

import msgspec

from schemas.ids import event_id, key_hash, read_callback_data, send_id
from tests.torture.history import Begun, Effect, Entry, Fault, Letter, Listed, Posted, Reading, Recorded, Refused, Status, Stored

LOST, UNSEEN, PHANTOM, DUPLICATE, REORDER = "lost-write", "unseen", "phantom", "duplicate", "reorder"
NONMONOTONIC, BOOKS, UNSETTLED = "nonmonotonic", "books", "unsettled"
SETTLED_S = 10.0
"""Within so long of its status a lost answer is to be settled, while nothing is broken."""

NAMES = (LOST, UNSEEN, PHANTOM, DUPLICATE, REORDER, NONMONOTONIC, BOOKS, UNSETTLED)
"""lost-write: stored, and nothing came of it · unseen: it happened, and history does not show it · phantom: shown, sent or listed though
nobody caused it, or gone to somebody else · duplicate: answered twice · reorder: answered after a later message · nonmonotonic: a status
that was told is taken back · books: a message in none or several of the books · unsettled: the answer was lost, a status told that the
send arrived, and it is still unknown."""

EXAMPLES_MAX = 10

# A failed message may still turn out to have been delivered; one that was only sent has failed.
_LADDER = ("queued", "unknown", "accepted", "sent", "failed", "delivered", "read", "played")
_RANKS = {status: rank for rank, status in enumerate(_LADDER)} | {"rejected": _LADDER.index("unknown")}
_ACCEPTED = _RANKS["accepted"]
_NEVER = -1
_SERVER_ERROR = 500
_STEPS = ("reply", "fallback")


class Anomaly(msgspec.Struct, frozen=True):
    """Something that must not be: its name, the conversation, and a sentence that names messages or sends."""

    name: str
    conversation: str
    what: str


class Books(msgspec.Struct, frozen=True, kw_only=True):
    """Where the distinct stored messages went; `fallbacks` are those of the answered ones that got the fallback text."""

    accepted: int = 0
    answered: int = 0
    fallbacks: int = 0
    suppressed: int = 0
    dead_lettered: int = 0
    parked: int = 0

    @property
    def sum(self) -> int:
        """What accepted must equal."""
        return self.answered + self.suppressed + self.dead_lettered + self.parked


class Settlement(msgspec.Struct, frozen=True, kw_only=True):
    """Sends that the platform took and whose sender did not learn it: how many a status told of, how many are settled.

    Seconds are from the first status to the record of the outcome or, of what was recorded as unknown, to the first reading that shows it
    settled. Of `timed` sends they are known; `in_time` counts those within SETTLED_S.
    """

    lost_answers: int = 0
    told: int = 0
    settled: int = 0
    timed: int = 0
    in_time: int = 0
    p50_s: float | None = None
    max_s: float | None = None


class Recovery(msgspec.Struct, frozen=True, kw_only=True):
    """How often a fault began, how often something worked again after it, and after how many seconds."""

    fault: str
    begun: int
    recovered: int
    p50_s: float | None
    max_s: float | None


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """The verdict. `totals` counts every anomaly by name, `anomalies` holds the first ten of each name."""

    seed: int
    command: str
    counts: dict[str, int]
    totals: dict[str, int]
    anomalies: list[Anomaly]
    late_unknown: list[Anomaly]
    books: Books
    settlement: Settlement
    recovery: list[Recovery]

    @property
    def clean(self) -> bool:
        """Whether there is no anomaly."""
        return not any(self.totals.values())

    def lines(self) -> list[str]:
        """Return the verdict for a terminal."""
        books, settlement = self.books, self.settlement
        lines = [
            f"seed {self.seed}: {'clean' if self.clean else 'ANOMALIES'}",
            ", ".join(f"{count:,} {name}" for name, count in self.counts.items()),
            f"books: {books.accepted:,} accepted = {books.answered:,} answered ({books.fallbacks:,} with the fallback) + "
            f"{books.suppressed:,} suppressed + {books.dead_lettered:,} dead-lettered + {books.parked:,} parked"
            + ("" if books.accepted == books.sum else f" - UNBALANCED, the sum is {books.sum:,}"),
            f"lost answers: {settlement.lost_answers:,}, told by a status {settlement.told:,}, settled {settlement.settled:,}"
            + (f", after {settlement.p50_s:.1f} s (p50), {settlement.max_s:.1f} s (max)" if settlement.max_s is not None else "")
            + f", {settlement.in_time:,} of {settlement.timed:,} within {SETTLED_S:.0f} s",
        ]
        lines += [f"fault {each.fault}: {_times(each)}" for each in self.recovery]
        lines += [f"{name}: {total:,}" for name, total in self.totals.items()]
        return lines + [f"  {each.name} {each.conversation}: {each.what}" for each in (*self.anomalies, *self.late_unknown)]

    def markdown(self) -> str:
        """Return the verdict as tables."""
        books, settlement = self.books, self.settlement
        cells = [(name, f"{count:,}") for name, count in self.counts.items()]
        cells += [(name, f"**{total:,}**" if total else "0") for name, total in self.totals.items()]
        cells += [
            (
                "books: accepted = answered + suppressed + dead-lettered + parked",
                f"{books.accepted:,} = {books.answered:,} + {books.suppressed:,} + {books.dead_lettered:,} + {books.parked:,}",
            ),
            ("fallbacks among the answered", f"{books.fallbacks:,}"),
            ("lost answers / told by a status / settled", f"{settlement.lost_answers:,} / {settlement.told:,} / {settlement.settled:,}"),
            (f"settled within {SETTLED_S:.0f} s of the status / whose time is known", f"{settlement.in_time:,} / {settlement.timed:,}"),
        ]
        lines = [f"| seed {self.seed} | {'clean' if self.clean else '**anomalies**'} |", "|---|---:|"]
        lines += [f"| {name} | {value} |" for name, value in cells]
        if self.recovery:
            lines += ["", "| fault | begun | works again | p50 s | max s |", "|---|---:|---:|---:|---:|"]
            lines += [
                f"| {each.fault} | {each.begun:,} | {each.recovered:,} | {_seconds(each.p50_s)} | {_seconds(each.max_s)} |"
                for each in self.recovery
            ]
        return "\n".join(lines) + "\n"


def _times(recovery: Recovery) -> str:
    after = f"{_seconds(recovery.p50_s)} s (p50), {_seconds(recovery.max_s)} s (max)"
    return f"{recovery.begun:,} times, works again {recovery.recovered:,} times, after {after}"


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


class _Conversation:
    """How many messages were posted, and the latest of them of which an effect was seen."""

    __slots__ = ("highest", "key_hash", "name", "posted")

    def __init__(self, name: str) -> None:
        self.name = name
        self.key_hash = key_hash(name.encode())
        self.posted = 0
        self.highest = _NEVER


class _Message:
    __slots__ = ("answer", "conversation", "has_letter", "id", "position", "seen", "sends", "stored")

    def __init__(self, posted: Posted, conversation: _Conversation) -> None:
        self.id = posted.message
        self.conversation = conversation
        self.answer = posted.answer
        self.position = conversation.posted
        self.stored = False
        self.seen = False
        self.has_letter = False
        self.sends: tuple[_Send, ...] = ()

    @property
    def is_answered(self) -> bool:
        return any(send.effects for send in self.sends)


class _Send:
    __slots__ = (
        "answer_lost",
        "effects",
        "final",
        "id",
        "listed",
        "message",
        "recorded_at",
        "rejected",
        "settled_at",
        "shown",
        "step",
        "told",
        "told_at",
        "unknown",
    )

    def __init__(self, message: _Message, step: str) -> None:
        conversation = message.conversation.name
        self.id = send_id(conversation=conversation, cause=event_id(conversation, message.id), step=step)
        self.message = message
        self.step = step
        self.effects = 0
        self.answer_lost = False
        self.told = _NEVER  # ranks
        self.shown = _NEVER
        self.final = _NEVER
        self.told_at = 0.0
        self.settled_at = 0.0
        self.recorded_at = 0.0
        self.unknown = False
        self.listed = False
        self.rejected = False

    @property
    def is_settled(self) -> bool:
        return self.final >= _ACCEPTED and not self.listed


class _Judge:
    """Takes the entries one by one and keeps, for each message and send, only what the verdict needs."""

    def __init__(self, drop: Collection[str]) -> None:
        self._drop = drop
        self._begun = Begun(at=0, seed=0, command="")
        self._conversations: dict[str, _Conversation] = {}
        self._messages: dict[str, _Message] = {}
        self._sends: dict[str, _Send] = {}
        self._by_platform_id: dict[str, _Send] = {}
        self._bodies: dict[int, list[_Message]] = {}
        self._overtaken: list[_Send] = []
        self._faults: dict[str, int] = defaultdict(int)
        self._progress: dict[str, list[float]] = defaultdict(list)
        self._counts: dict[str, int] = dict.fromkeys(("bodies", "repeats", "refusals", "effects", "statuses", "readings", "listed"), 0)
        self._totals = {name: 0 for name in NAMES if name not in drop}
        self._anomalies: list[Anomaly] = []
        self._takers: dict[type[Entry], Callable[[Any], None]] = {
            Begun: self._begins,
            Posted: self._posted,
            Stored: self._stored,
            Refused: self._refused,
            Effect: self._effect,
            Status: self._status,
            Reading: self._reading,
            Recorded: self._recorded,
            Listed: self._listed,
            Letter: self._letter,
            Fault: self._fault,
        }

    def take(self, entry: Entry) -> None:
        self._takers[type(entry)](entry)

    def _found(self, name: str, conversation: str, what: str) -> None:
        if name in self._drop:
            return
        self._totals[name] += 1
        if self._totals[name] <= EXAMPLES_MAX:
            self._anomalies.append(Anomaly(name, conversation, what))

    def _posted(self, posted: Posted) -> None:
        self._counts["repeats"] += posted.repeat
        message = self._messages.get(posted.message)
        if message is None:
            conversation = self._conversations.setdefault(posted.conversation, _Conversation(posted.conversation))
            message = self._messages[posted.message] = _Message(posted, conversation)
            conversation.posted += 1
            message.sends = tuple(_Send(message, step) for step in _STEPS)
            self._sends.update((send.id, send) for send in message.sends)
        if not message.stored:
            self._bodies.setdefault(posted.body, []).append(message)

    def _begins(self, begun: Begun) -> None:
        self._begun = begun

    def _stored(self, stored: Stored) -> None:
        self._counts["bodies"] += 1
        for message in self._bodies.pop(stored.body, ()):
            message.stored = True

    def _refused(self, _: Refused) -> None:
        self._counts["refusals"] += 1

    def _effect(self, effect: Effect) -> None:
        self._counts["effects"] += 1
        ours = read_callback_data(effect.callback)
        send = self._sends.get(ours[0]) if ours else None
        if ours is None or send is None:
            self._found(PHANTOM, effect.conversation, f"no posted message explains {effect.callback or 'a send without callback data'}")
            return
        message, conversation = send.message, send.message.conversation
        if (effect.conversation, ours[1]) != (conversation.name, conversation.key_hash):
            self._found(PHANTOM, effect.conversation, f"the {send.step} to {message.id} belongs to {conversation.name}")
        if message.answer != "text":
            self._found(PHANTOM, conversation.name, f"a {send.step} to {message.id}, to which nobody waits for an answer")
        if message.is_answered:
            before = " and ".join(each.step for each in message.sends if each.effects)
            self._found(DUPLICATE, conversation.name, f"{message.id} got a {send.step} after its {before}")
        elif message.position < conversation.highest:
            self._overtaken.append(send)
        conversation.highest = max(conversation.highest, message.position)
        send.effects += 1
        send.answer_lost = send.answer_lost or effect.answered == 0 or effect.answered >= _SERVER_ERROR
        self._by_platform_id[effect.platform_id] = send

    def _status(self, status: Status) -> None:
        self._counts["statuses"] += 1
        ours = read_callback_data(status.callback)
        send = (self._sends.get(ours[0]) if ours else None) or self._by_platform_id.get(status.platform_id)
        if send is not None:
            send.told = max(send.told, _RANKS.get(status.status, _NEVER))
            send.told_at = send.told_at or status.at

    def _reading(self, reading: Reading) -> None:
        self._counts["readings"] += 1
        if reading.direction == "in":
            message = self._messages.get(reading.id)
            if message is None:
                self._found(PHANTOM, reading.conversation, f"history shows {reading.id}, which nobody posted")
            elif reading.final:
                message.seen = True
            return
        send = self._sends.get(reading.id)
        if send is None:
            self._found(PHANTOM, reading.conversation, f"history shows the send {reading.id}, which no posted message explains")
            return
        rank = _RANKS.get(reading.status, _NEVER)
        if rank < send.shown:
            self._found(NONMONOTONIC, reading.conversation, f"{send.id} was {_LADDER[send.shown]} and is {reading.status or 'nothing'}")
        elif reading.final and rank < send.told:
            self._found(NONMONOTONIC, reading.conversation, f"{send.id} was told {_LADDER[send.told]} and is {reading.status or 'nothing'}")
        send.shown = max(send.shown, rank)
        send.unknown = send.unknown or reading.settled or reading.status == "unknown"
        if reading.final:
            send.final = max(rank, 0)
        elif rank >= _ACCEPTED and send.told_at and not send.settled_at:
            send.settled_at = reading.at

    def _recorded(self, recorded: Recorded) -> None:
        send = self._sends.get(recorded.send)
        if send is not None and recorded.outcome == "accepted":
            send.recorded_at = send.recorded_at or recorded.at

    def _listed(self, listed: Listed) -> None:
        self._counts["listed"] += 1
        send = self._sends.get(listed.send)
        if send is None:
            self._found(PHANTOM, listed.conversation, f"the list has the send {listed.send}, which no posted message explains")
        else:
            send.listed = send.unknown = True

    def _letter(self, letter: Letter) -> None:
        name = f"dead letters of {letter.stage}"
        self._counts[name] = self._counts.get(name, 0) + 1
        if letter.stage == "streams":
            for message in (self._messages.get(each) for each in letter.messages):
                if message is not None:
                    message.has_letter = True
        elif letter.stage == "sender":
            for send in (self._sends.get(each) for each in letter.sends):
                if send is not None:
                    send.rejected = True

    def _fault(self, fault: Fault) -> None:
        if fault.phase == "progress":
            self._progress[fault.name].append(fault.seconds)
        elif fault.phase == "begin":
            self._faults[fault.name] += 1

    def report(self) -> Report:
        books = self._books()
        self._look_for_unseen()
        late = self._order()
        settlement = self._settlement()
        return Report(
            seed=self._begun.seed,
            command=self._begun.command,
            counts={"conversations": len(self._conversations), "messages": len(self._messages), **self._counts, "late-unknown": len(late)},
            totals=self._totals,
            anomalies=self._anomalies,
            late_unknown=late[:EXAMPLES_MAX],
            books=books,
            settlement=settlement,
            recovery=[self._recovery(name) for name in sorted({*self._faults, *self._progress})],
        )

    def _recovery(self, fault: str) -> Recovery:
        times = self._progress[fault]
        return Recovery(fault=fault, begun=self._faults[fault], recovered=len(times), p50_s=_median(times), max_s=max(times, default=None))

    def _books(self) -> Books:
        counts: dict[str, int] = defaultdict(int)
        for message in self._messages.values():
            if not message.stored:
                continue
            counts["accepted"] += 1
            places = _places(message)
            for place in places:
                counts[place] += 1
            counts["fallbacks"] += any(send.effects for send in message.sends if send.step == "fallback")
            conversation = message.conversation.name
            if not places:
                letter = " but a dead letter" if message.has_letter else ""
                self._found(LOST, conversation, f"{message.id} was stored, and nothing came of it{letter}")
            if len(places) != 1:
                self._found(BOOKS, conversation, f"{message.id} is {' and '.join(places) or 'in no book'}")
        return Books(**counts)

    def _look_for_unseen(self) -> None:
        for message in self._messages.values():
            conversation = message.conversation.name
            # What belongs to nobody is in the dead letters; no conversation need show it.
            if message.stored and not message.seen and message.answer != "dead-letter":
                self._found(UNSEEN, conversation, f"history does not show {message.id}")
            for send in message.sends:
                if send.effects and send.final == _NEVER:
                    self._found(UNSEEN, conversation, f"history does not show {send.id}, the {send.step} to {message.id}")

    def _order(self) -> list[Anomaly]:
        late = []
        for send in self._overtaken:
            conversation, what = send.message.conversation.name, f"the {send.step} to {send.message.id} came after that to a later message"
            if send.unknown:
                late.append(Anomaly("late-unknown", conversation, what))
            else:
                self._found(REORDER, conversation, what)
        return late

    def _settlement(self) -> Settlement:
        lost = [send for send in dict.fromkeys(self._by_platform_id.values()) if send.answer_lost]
        told = [send for send in lost if send.told_at]
        settled = [send for send in told if send.is_settled]
        for send in told:
            if not send.is_settled and send.final != _NEVER:
                self._found(UNSETTLED, send.message.conversation.name, f"a status told that {send.id} arrived, and it is still unknown")
        # Before its status only a claim's former owner, or another answer, can have known it: then it took no time.
        times = [max(0.0, at - send.told_at) for send in settled if (at := send.recorded_at or send.settled_at)]
        return Settlement(
            lost_answers=len(lost),
            told=len(told),
            settled=len(settled),
            timed=len(times),
            in_time=sum(each <= SETTLED_S for each in times),
            p50_s=_median(times),
            max_s=max(times, default=None),
        )


def _places(message: _Message) -> list[str]:
    """Return the books that a message is in."""
    answered = message.is_answered
    books = {
        "answered": answered,
        "suppressed": message.answer == "none",
        "parked": not answered and any(send.listed for send in message.sends),
        "dead_lettered": any(send.rejected for send in message.sends) or (message.answer == "dead-letter" and message.has_letter),
    }
    return [book for book, is_in in books.items() if is_in]


def _median(times: list[float]) -> float | None:
    return statistics.median(times) if times else None


def check(entries: Iterable[Entry], *, drop: Collection[str] = ()) -> Report:
    """Return the verdict on a history, in the order in which it was written; ids of messages are unique in a run.

    `drop` names anomalies that are not looked for, such as `unseen` where nobody read history at the end. It holds in memory what it knows
    of each message and send, not the entries.
    """
    judge = _Judge(drop)
    for entry in entries:
        judge.take(entry)
    return judge.report()
