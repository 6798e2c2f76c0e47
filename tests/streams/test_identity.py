"""streams.identity and the stage over a log in memory: one person under several keys has one conversation, and nothing doubles."""

import json
import random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from schemas.events.routed_part import Route
from schemas.ids import conversation_key
from streams.identity import ANEW, NEVER, Carried, Name, answer, link, place
from tests.streams.memory import Log

ACCOUNT = "106540352242922"
PHONE, USER = "15550004444", "US.13491208655302741918"
OTHER_USER, NEW_PHONE, NEW_USER = "US.99999999999999999999", "15550005555", "US.55555555555555555555"


def key(contact: str) -> str:
    return conversation_key(channel="wa", account=ACCOUNT, contact=contact)


def body(field: str = "messages", **arrays: Any) -> bytes:
    value = {"messaging_product": "whatsapp", "metadata": {"phone_number_id": ACCOUNT}} | arrays
    return json.dumps(
        {"object": "whatsapp_business_account", "entry": [{"id": "1", "changes": [{"field": field, "value": value}]}]}
    ).encode()


def message(text: str, *, phone: str = "", user: str = "", contacts: bool = False, at_s: int = 0) -> bytes:
    """Return a body with a text under a phone number, a user id or both; with `contacts` the user id stands in the contacts alone."""
    item = {"id": f"wamid.{text}", "type": "text", "text": {"body": text}} | ({"timestamp": str(at_s)} if at_s else {})
    item |= {"from": phone} if phone else {}
    item |= {"from_user_id": user} if user and not contacts else {}
    people = [{"wa_id": phone, "user_id": user}] if contacts else []
    return body(messages=[item], contacts=people)


def changed_number(*, old: str, phone: str, user: str = "") -> bytes:
    system = {"type": "user_changed_number", "wa_id": phone, "body": "changed"} | ({"user_id": user} if user else {})
    return body(messages=[{"id": f"wamid.change.{phone}", "type": "system", "from": old, "system": system}])


def updated_user_id(*, old: str, new: str, phone: str = "") -> bytes:
    update = {"user_id": {"previous": old, "current": new}, "detail": "updated", "timestamp": "1790000000"}
    return body("user_id_update", user_id_update=[update | ({"wa_id": phone} if phone else {})])


async def play(*bodies: bytes) -> Log:
    """Post bodies one after the other, each when the one before is dealt with."""
    log = Log()
    for each in bodies:
        log.post(each)
        await log.drain()
        log.clock.ms += 1_000
    return log


def threads(log: Log) -> dict[str, list[str]]:
    """Return what was answered in each conversation, in order."""
    found: dict[str, list[str]] = {}
    for event in log.inbound():
        if event.decision == "answered":
            found.setdefault(event.conversation, []).append(event.text)
    return found


async def test_a_phone_number_and_a_user_id_are_linked_when_an_event_carries_both() -> None:
    """First the phone, then both, then the user id: one conversation under the first key, and the agent knows what was said before."""
    first = message("one", phone=PHONE)
    log = await play(first, message("two", phone=PHONE, user=USER), message("three", user=USER), first, message("four", phone=PHONE))
    assert threads(log) == {key(PHONE): ["one", "two", "three", "four"]}
    assert [text for _, text in log.asked[-1].history] == ["one", "re: one", "two", "re: two", "three", "re: three"]
    assert {alias: event.conversation for alias, event in log.links().items()} == {key(USER): key(PHONE)}
    assert [(send.conversation, send.to) for send in log.sends()] == [(key(PHONE), send.to) for send in log.sends()]
    assert sorted(send.to for send in log.sends()) == sorted([PHONE, PHONE, USER, PHONE])


async def test_the_user_id_is_the_conversation_of_a_person_first_seen_with_it() -> None:
    """Nobody knew the phone number: it leads to the user id from then on."""
    log = await play(message("one", phone=PHONE, user=USER), message("two", phone=PHONE), message("three", user=USER))
    assert threads(log) == {key(USER): ["one", "two", "three"]}
    assert {alias: event.conversation for alias, event in log.links().items()} == {key(PHONE): key(USER)}


async def test_the_older_of_two_conversations_is_the_one() -> None:
    """Both keys had a conversation before anybody knew that they are one person's: the first key's goes on."""
    log = await play(
        message("u", user=USER), message("p", phone=PHONE), message("both", phone=PHONE, user=USER), message("p2", phone=PHONE)
    )
    assert threads(log) == {key(USER): ["u", "both", "p2"], key(PHONE): ["p"]}
    link_ = log.links()[key(PHONE)]
    assert (link_.conversation, link_.is_joined) == (key(USER), True)


async def test_contacts_link_as_well() -> None:
    """A message under the phone number whose contacts name the user id is answered at once, and the user id leads to it from then on."""
    log = await play(
        message("one", phone=PHONE, user=USER, contacts=True), message("two", user=USER), message("three", phone=PHONE, user=USER)
    )
    assert threads(log) == {key(PHONE): ["one", "two", "three"]}


async def test_contacts_link_to_an_older_user_id() -> None:
    """The user id was first: the phone number joins it."""
    log = await play(message("one", user=USER), message("two", phone=PHONE, user=USER, contacts=True), message("three", phone=PHONE))
    assert threads(log) == {key(USER): ["one", "three"], key(PHONE): ["two"]}
    assert log.links()[key(PHONE)].conversation == key(USER)


async def test_a_recycled_number_starts_anew() -> None:
    """A number that comes with another user id is another person: none of what was said before is theirs, and the first one keeps it."""
    log = await play(
        message("one", phone=PHONE),
        message("two", phone=PHONE, user=USER),
        message("new", phone=PHONE, user=OTHER_USER),
        message("phone", phone=PHONE),
        message("old", user=USER),
    )
    assert threads(log) == {key(PHONE): ["one", "two", "old"], key(OTHER_USER): ["new", "phone"]}
    asked = {turn.text: [text for _, text in turn.history] for turn in log.asked}
    assert asked["new"] == []
    assert log.links()[key(PHONE)].is_joined is False


async def test_a_recycled_number_told_by_contacts_starts_anew() -> None:
    """The same where the other user id stands in the contacts alone."""
    log = await play(
        message("one", phone=PHONE, user=USER, contacts=True),
        message("new", phone=PHONE, user=OTHER_USER, contacts=True),
        message("phone", phone=PHONE),
        message("old", user=USER),
    )
    assert threads(log) == {key(PHONE): ["one", "old"], key(OTHER_USER): ["new", "phone"]}


async def test_a_changed_number_goes_on_in_its_conversation() -> None:
    """The new number, and the user id that comes with it, belong to the conversation; the old number is free for somebody else."""
    log = await play(
        message("one", phone=PHONE),
        changed_number(old=PHONE, phone=NEW_PHONE, user=NEW_USER),
        message("two", phone=NEW_PHONE),
        message("three", user=NEW_USER),
        message("four", phone=NEW_PHONE, user=NEW_USER),
        message("new", phone=PHONE, user=OTHER_USER),
    )
    assert threads(log) == {key(PHONE): ["one", "two", "three", "four"], key(OTHER_USER): ["new"]}


async def test_a_changed_user_id_goes_on_in_its_conversation() -> None:
    """`user_id_update` and the system message of the same meaning, with a phone number and without one."""
    log = await play(
        message("one", phone=PHONE, user=USER),
        updated_user_id(old=USER, new=NEW_USER, phone=PHONE),
        message("two", phone=PHONE, user=NEW_USER),
        message("three", user=NEW_USER),
        message("four", phone=PHONE),
    )
    assert threads(log) == {key(USER): ["one", "two", "three", "four"]}
    system = {"type": "user_changed_user_id", "previous_user_id": USER, "user_id": NEW_USER}
    told = body(messages=[{"id": "wamid.c", "type": "system", "system": system}])
    log = await play(message("one", user=USER), told, message("two", user=NEW_USER))
    assert threads(log) == {key(USER): ["one", "two"]}


async def test_what_comes_while_it_is_asked_waits_its_turn() -> None:
    """Three messages of a new user id, the third between the answers to the first two: it is answered third."""
    log = Log()
    log.post(message("one", phone=PHONE, user=USER))
    log.post(message("two", user=USER))
    assert [await log.step(key(each)) for each in (USER, USER, PHONE, USER)] == [True] * 4
    assert [event.text for event in log.inbound()] == ["one"]
    log.post(message("three", user=USER))
    assert await log.step(key(USER))
    await log.drain()
    assert [event.text for event in log.inbound()] == ["one", "two", "three"]


async def test_a_group_is_nobodys_alias() -> None:
    """In a group many people speak: its key is its own, and nothing is learnt from it."""
    log = Log()
    item = {"id": "wamid.g", "type": "text", "text": {"body": "g"}, "from": PHONE, "from_user_id": USER, "group_id": "G1"}
    log.post(body(messages=[item]))
    await log.drain()
    assert (list(threads(log)), log.links()) == ([key("G1")], {})


async def test_a_message_of_nobody_is_a_dead_letter() -> None:
    """Neither phone number nor user id: an operator sees it with its bytes."""
    log = await play(message("lost"))
    ((_, value),) = log.topics["dead-letters"]
    assert b"wamid.lost" in value
    assert [event.decision for event in log.inbound()] == ["failed"]


async def test_an_ordinary_message_costs_one_row_and_no_hop() -> None:
    """Only a phone number, or a user id that is linked: nothing is written to [raw], and one row."""
    log = await play(message("p", phone=NEW_PHONE), message("a", phone=PHONE, user=USER))
    for each in (message("p2", phone=NEW_PHONE), message("b", phone=PHONE, user=USER), message("c", user=USER)):
        log.post(each)
        before, rows = sum(map(len, log.raw)), dict(log.rows)
        await log.drain()
        assert sum(map(len, log.raw)) == before
        assert len({at for at, row in log.rows.items() if rows.get(at) != row}) == 1


async def test_what_is_delivered_late_is_stored() -> None:
    """A message older than the reply window is kept without an answer; at the edge, in the future and without a usable time it is fresh."""
    log = Log()
    now_s = log.clock.ms // 1000
    ages = {"edge": 86_400, "late": 86_401, "future": -3_600, "week": 7 * 86_400, "horizon": 8 * 86_400, "beyond": 8 * 86_400 + 1}
    for name, age_s in ages.items():
        log.post(message(name, phone=PHONE, at_s=now_s - age_s))
    log.post(message("none", phone=PHONE))
    await log.drain()
    decided = {event.text: (event.decision, event.reason) for event in log.inbound()}
    late, fresh = ("stored", "late"), ("answered", "")
    assert decided == {"edge": fresh, "late": late, "future": fresh, "week": late, "horizon": late, "beyond": fresh, "none": fresh}


async def test_what_is_late_is_not_said_by_a_clock_that_is_ahead() -> None:
    """The ingress's clock stepped by a day: what its users write now is answered, the broker's clock says that it is new."""
    log = Log()
    log.post(message("new", phone=PHONE, at_s=log.clock.ms // 1000 - 5), ingress_ahead_ms=86_400_000)
    await log.drain()
    assert [(event.decision, event.reason) for event in log.inbound()] == [("answered", "")]


@pytest.mark.parametrize(("after_ms", "is_known"), [(8 * 86_400_000, True), (8 * 86_400_000 + 1, False)])
async def test_a_repeat_is_known_for_eight_days(after_ms: int, is_known: bool) -> None:
    """At the edge of the horizon a repeat is still passed over, though its id was sealed; after it, it may be new again."""
    log = Log()
    for number in range(300):
        log.post(message(str(number), phone=PHONE))
    await log.drain()
    log.clock.ms += after_ms
    log.post(message("7", phone=PHONE))
    await log.drain()
    assert (len(log.asked) == 300) is is_known


def test_names_that_cross_agree() -> None:
    """Two keys that ask each other at the same time come to the same conversation, whoever is first."""
    for phone_since, user_since in ((1, 2), (2, 1), (1, 1), (0, 0), (0, 5)):
        _, one = answer(Name(since=phone_since), "P", "U", Route(step="ask", since=user_since))
        name, _ = link(Name(since=user_since), "U", Route(step="link", canonical="P", other="P", since=phone_since))
        assert one == name.canonical


def test_a_key_that_was_never_seen_is_the_youngest() -> None:
    """It leads to whoever asks, and a user id that was never seen keeps its conversation from a number that changed hands."""
    assert answer(Name(since=NEVER), "P", "U", Route(step="ask", since=5))[1] == "U"
    assert link(Name(since=NEVER), "U", Route(step="link", canonical="P", other="P", since=ANEW))[0].canonical == "U"
    assert place(Name(since=1), "U", Carried(other="P", other_is_phone=True), item_id="1").ask == "P"


KEYS = {
    "phone": {"phone": PHONE},
    "user": {"user": USER},
    "both": {"phone": PHONE, "user": USER},
    "contacts": {"phone": PHONE, "user": USER, "contacts": True},
    "new phone": {"phone": NEW_PHONE},
    "new user": {"user": NEW_USER},
    "new both": {"phone": NEW_PHONE, "user": NEW_USER},
    "phone of another": {"phone": PHONE, "user": OTHER_USER},
    "contact of another": {"phone": PHONE, "user": OTHER_USER, "contacts": True},
}
CHANGES = {
    "number": changed_number(old=PHONE, phone=NEW_PHONE),
    "number and user id": changed_number(old=PHONE, phone=NEW_PHONE, user=NEW_USER),
    "user id": updated_user_id(old=USER, new=NEW_USER),
    "user id of a phone": updated_user_id(old=USER, new=NEW_USER, phone=PHONE),
}
ONE_PERSON = ["phone", "user", "both", "contacts"]
UNHURRIED = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])


async def disturbed(names: list[str], seed: int, crash_share: float, *, is_paced: bool) -> tuple[Log, dict[str, bytes]]:
    """Post these one after the other with repeats, handling records of any partition meanwhile, with crashes; return the log and bodies."""
    chance = random.Random(seed)  # no secret
    log = Log(chance=chance, crash_share=crash_share)
    bodies: dict[str, bytes] = {}
    for number, name in enumerate(names):
        text = f"{name} {number}"
        bodies[text] = CHANGES[name] if name in CHANGES else message(text, **KEYS[name])  # type: ignore[arg-type]
        log.post(bodies[text])
        log.clock.ms += chance.randrange(2)
        while is_paced and await log.step():
            pass
        if chance.random() < 0.3:
            log.post(chance.choice(list(bodies.values())))
        for _ in range(chance.randrange(4)):
            await log.step()
    await log.drain()
    return log, {text: each for text, each in bodies.items() if each not in CHANGES.values()}


@UNHURRIED
@given(
    st.lists(st.sampled_from(ONE_PERSON), min_size=1, max_size=12),
    st.integers(0, 1 << 32),
    st.sampled_from([0.0, 0.05, 0.2]),
    st.booleans(),
)
async def test_any_interleaving(names: list[str], seed: int, crash_share: float, is_paced: bool) -> None:
    """One person's events under any of the keys, with repeats and crashes: each is answered once, in the order of its key, and all end in
    one conversation, also when every webhook comes again.
    """
    log, bodies = await disturbed(names, seed, crash_share, is_paced=is_paced)
    answered = [event.text for event in log.inbound()]
    assert sorted(answered) == sorted(bodies)
    assert len({send.cause for send in log.sends()}) == len(log.sends()) == len(bodies)
    assert len(set(log.remembered())) == len(log.remembered())
    for own in (("phone", "contacts"), ("user", "both")):
        assert [text for text in answered if text.startswith(own)] == [text for text in bodies if text.startswith(own)]
    if not {"both", "contacts"} & set(names):
        return
    for each in bodies.values():
        log.post(each)
    await log.drain()
    assert len(list(log.inbound())) == len(bodies)
    for name in ONE_PERSON:
        log.post(message(f"last {name}", **KEYS[name]))  # type: ignore[arg-type]
        await log.drain()
    last = [event.conversation for event in log.inbound() if event.text.startswith("last")]
    assert len(last) == len(ONE_PERSON)
    assert len(set(last)) == 1
    led = {alias: event.conversation for alias, event in log.links().items()}
    assert led == {name: last[0] for name in (key(PHONE), key(USER)) if name != last[0]}


@UNHURRIED
@given(
    st.lists(st.sampled_from([*KEYS, *CHANGES]), min_size=1, max_size=12),
    st.integers(0, 1 << 32),
    st.sampled_from([0.0, 0.1]),
    st.booleans(),
)
async def test_any_changes(names: list[str], seed: int, crash_share: float, is_paced: bool) -> None:
    """Numbers and user ids that change and change hands, at any moment: still every message is answered, and once."""
    log, bodies = await disturbed(names, seed, crash_share, is_paced=is_paced)
    for each in bodies.values():
        log.post(each)
    await log.drain()
    assert sorted(event.text for event in log.inbound() if event.kind == "message" and event.type == "text") == sorted(bodies)
    assert len({send.cause for send in log.sends()}) == len(log.sends()) == len(bodies)
    assert len(set(log.remembered())) == len(log.remembered())
