"""Runs in memory, decided again: crashes, failures, duplicates and linked keys give the same; every other way to differ is told."""

import random
import sys
from pathlib import Path

import pytest

from infra.kafka.record import Record
from infra.simulator.webhooks import text_body
from schemas.events.config import Agent
from streams.agents.base import AgentError, Reply, Turn
from streams.decisions import DEFAULT_FALLBACK
from streams.replay.answers import OtherAgent
from streams.replay.store import Answered, Store
from tests.streams.replay.recorded_runs import Again, Run
from tests.streams.test_identity import ACCOUNT, changed_number, key, message

PEOPLE = [(f"1555000777{number}", f"US.{number}3491208655302741918") for number in range(4)]


async def eventful(seed: int, *, crash_share: float) -> Run:
    """Post what a platform may post in an order that the seed draws, and handle it over crashes."""
    run = Run(chance=random.Random(seed), crash_share=crash_share)
    bodies = []
    for phone, user in PEOPLE:
        bodies += [message(f"{phone} {number}", phone=phone) for number in range(6)]
        bodies += [message(f"{phone} both {number}", phone=phone, user=user) for number in range(2)]
        bodies += [message(f"{phone} user {number}", user=user) for number in range(2)]
        bodies += [message(f"{phone} poison {number}", phone=phone) for number in range(2)]
        bodies += [message(f"{phone} late", phone=phone, at_s=run.clock.ms // 1000 - 3 * 86_400)]
        bodies += [changed_number(old=phone, phone=f"{phone}9", user=user)]
    bodies += run.chance.sample(bodies, 20)
    run.chance.shuffle(bodies)
    for body in bodies:
        run.post(body)
        run.clock.ms += 1_000
        while run.chance.random() < 0.7 and await run.step():
            pass
    await run.drain()
    return run


@pytest.mark.parametrize("crash_share", [0.0, 0.05])
async def test_unchanged_code_gives_the_same(tmp_path: Path, crash_share: float) -> None:
    """Whatever happened in a run, deciding it again from the log finds every item, and all the same."""
    failed = 0
    for _ in range(8):
        seed = random.randrange(1 << 30)
        sys.stdout.write(f"seed {seed}\n")
        run = await eventful(seed, crash_share=crash_share)
        summary, compared = await Again(run, tmp_path).compared()
        assert [item for item in compared if item.verdict != "same"] == []
        assert (summary.on_their_way, summary.elsewhere) == (0, 0)
        assert {item.cause for item in compared} == {event.id for event in run.inbound()}
        again, _ = await Again(run, tmp_path).compared()
        assert again == summary
        assert sum(item.was is not None and item.was.reason == "late" for item in compared) == len(PEOPLE)
        failed += sum(item.was is not None and item.was.text == DEFAULT_FALLBACK for item in compared)
    assert failed > 0


async def test_ids_are_remembered_as_long_as_they_were_then(tmp_path: Path) -> None:
    """A conversation with more ids than a row holds: what came again within eight days is nothing new, what came after them is, as then."""
    run = Run()
    phone = PEOPLE[0][0]
    texts = [(f"wamid.{number}", f"{number}") for number in range(600)]
    bodies = [text_body(account=ACCOUNT, phone=phone, texts=texts[at : at + 60], at_s=0) for at in range(0, 600, 60)]
    for days in (0, 7, 9):
        run.clock.ms += days * 86_400_000
        for body in bodies:
            run.post(body)
            run.clock.ms += 1_000
            await run.drain()
    assert 600 < run.said < 1_200
    summary, _ = await Again(run, tmp_path).compared()
    assert (summary.all_same, summary.compared) == (True, run.said)


async def test_an_end_in_the_middle_leaves_out_what_is_on_its_way(tmp_path: Path) -> None:
    """Where streams had not got to all of it, what was keyed again and not decided yet is counted and not called missing."""
    on_their_way = 0
    for _ in range(8):
        seed = random.randrange(1 << 30)
        sys.stdout.write(f"seed {seed}\n")
        run = await eventful(seed, crash_share=0.0)
        ends = [max(1, len(records) // 2) for records in run.raw]
        summary, compared = await Again(run, tmp_path, ends=ends).compared()
        assert [item for item in compared if item.verdict != "same"] == []
        on_their_way += summary.on_their_way
    assert on_their_way > 0


async def test_what_was_redriven_is_the_same_each_time(tmp_path: Path) -> None:
    """A failed item that is redriven, fails again, is answered, and is redriven once more: four records, each decided as it was."""
    run = Run(failing=1.0)
    run.post(message("poison", phone=PEOPLE[0][0]))
    await run.drain()
    (item,) = run.inbound()
    for failing in (1.0, 0.0, 0.0):
        run.failing = failing
        run.redrive(item)
        await run.drain()
    _, compared = await Again(run, tmp_path).compared()
    sides = [(each.was.decision, each.was.step) for each in compared if each.was is not None]
    assert sides == [("failed", "fallback"), ("failed", ""), ("answered", "redrive"), ("answered", "redrive")]
    assert {each.verdict for each in compared} == {"same"}


async def test_names_older_than_what_is_read_are_nothing_new(tmp_path: Path) -> None:
    """Keys that were linked before the state begins: their items are handled where they were then, and nothing about them is new."""
    run = Run()
    for phone, user in PEOPLE:
        for body in (message(f"{phone} one", phone=phone), message(f"{phone} two", phone=phone, user=user)):
            run.post(body)
            await run.drain()
            run.clock.ms += 1_000
    starts = [len(records) for records in run.raw]
    for phone, user in PEOPLE:
        run.post(message(f"{phone} later", user=user))
        run.post(message(f"{phone} last", phone=phone, user=user))
        await run.drain()
    summary, compared = await Again(run, tmp_path, starts=starts).compared()
    assert [item for item in compared if item.verdict != "same"] == []
    assert {item.question for item in compared} == {f"{phone} {word}" for phone, _ in PEOPLE for word in ("later", "last")}
    assert summary.elsewhere > 0


async def test_without_the_record_an_answer_is_missing(tmp_path: Path) -> None:
    """Sends that the log does not have any more are missing, and what stands for them is not shown as an answer."""
    run = Run()
    for number in range(3):
        run.post(message(f"{number}", phone=PEOPLE[0][0]))
    await run.drain()
    lost = run.sends()[0].id.encode()

    def keep(record: Record) -> bool:
        return lost not in record.value or record.topic == "inbound"

    summary, compared = await Again(run, tmp_path, keep=keep).compared()
    assert summary.count("missing") == 1
    (missing,) = [item for item in compared if item.verdict != "same"]
    assert (missing.verdict, missing.why) == ("missing", "would be answered, no answer is recorded")
    assert missing.now is not None
    assert missing.now.text == ""


async def test_without_its_decision_an_answer_is_new(tmp_path: Path) -> None:
    """An item that nobody decided about then, and whose answer is known all the same, is new."""
    run = Run()
    run.post(message("hello", phone=PEOPLE[0][0]))
    await run.drain()
    _, compared = await Again(run, tmp_path, keep=lambda record: record.topic != "inbound").compared()
    assert [(item.verdict, item.question) for item in compared] == [("new", "hello")]


class Other:
    """Another agent that counts what it is asked, and fails for poison."""

    def __init__(self) -> None:
        self.asked: list[Turn] = []

    async def answer(self, turn: Turn) -> Reply:
        self.asked.append(turn)
        if "poison" in turn.text:
            raise AgentError("model-empty", retryable=True)
        return Reply(text=f"other: {turn.text}", model="other", tokens_in=3, tokens_out=4)


async def test_another_agent_is_asked_once_and_goes_on_from_its_own_answers(tmp_path: Path) -> None:
    """It sees the recorded turns of before the compared time and its own of after; a second run asks nothing that was answered."""
    phone = PEOPLE[0][0]
    run = Run()
    for number in range(4):
        run.post(message(f"{number}", phone=phone))
    run.post(message("poison", phone=phone))
    await run.drain()
    other = Other()

    def answer(store: Store) -> object:
        return OtherAgent(other, store).answer

    again = Again(run, tmp_path, answer=answer, first=2, agent=Agent(id="other", kind="offline"))  # type: ignore[arg-type]
    store = Store(tmp_path / "work.sqlite")
    await again.decide(store)
    store.close(remove=False)
    assert [turn.text for turn in other.asked] == ["2", "3", "poison"]
    recorded = ["answer 1 to 0", "answer 2 to 1"]
    assert [text for role, text in other.asked[-1].history if role == "assistant"] == [*recorded, "other: 2", "other: 3"]
    summary, compared = await again.compared()
    assert len(other.asked) == 3
    assert [item.verdict for item in compared if item.question in "23"] == ["changed", "changed"]
    assert summary.failures == {"model-empty": 1}
    assert (summary.tokens_in, summary.tokens_out) == (6, 8)
    assert {item.conversation for item in compared} == {key(phone)}


def test_answers_outlive_a_kill_and_nothing_else_does(tmp_path: Path) -> None:
    """What another agent said is there after a process that never closed its store; a store that is open is nobody else's."""
    path = tmp_path / "work.sqlite"
    store = Store(path)
    store.note_answer("s", Answered(text="hello"))
    store.note_routed("r", made=True, partition=0, offset=0)
    store.commit()
    store._db.close()
    again = Store(path)
    assert again.answered("s") == Answered(text="hello")
    assert not again._db.execute("SELECT * FROM routed").fetchall()
    again.close(remove=True)
    assert not list(tmp_path.iterdir())
