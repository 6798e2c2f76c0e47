"""What may be applied, and the sentence for everything that may not."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.config_file import ConfigFileError, Configuration, read_configuration
from schemas.events.config import Account, Agent, Tenant

NOT_SECRET = "do-not-show-me"

APPLIED = Configuration(
    tenants=(Tenant(id="shop"),),
    accounts=(Account(id="main", phone_number_id="111", tenant="shop"),),
    agents=(Agent(id="clerk", kind="offline", tenant="shop"), Agent(id="helper", kind="offline")),
)


def _mistakes(document: Any, applied: Configuration | None = APPLIED) -> list[str]:
    with pytest.raises(ConfigFileError) as caught:
        read_configuration(document, applied=applied)
    assert NOT_SECRET not in str(caught.value)
    return [str(mistake) for mistake in caught.value.mistakes]


def _account(**fields: Any) -> dict[str, Any]:
    return {"accounts": [{"id": "a", "phone_number_id": "222"} | fields]}


def test_a_whole_document() -> None:
    """Every section and every field of the contract is taken; a field without a value is one left out."""
    document = {
        "tenants": [{"id": "bakery", "name": "A Bakery"}],
        "accounts": [
            {"id": "b1", "phone_number_id": "333", "tenant": "bakery", "token": "t", "app_secret": "s", "agent": "baker", "rate": 0}
        ],
        "agents": [
            {
                "id": "baker",
                "tenant": "bakery",
                "kind": "openai",
                "model": "m",
                "instructions": "Be kind.",
                "knowledge": "",
                "fallback": "Later.",
            }
        ],
    }
    assert read_configuration(document, applied=APPLIED) == Configuration(
        tenants=(Tenant(id="bakery", name="A Bakery"),),
        accounts=(Account(id="b1", phone_number_id="333", tenant="bakery", token="t", app_secret="s", agent="baker", rate=0),),
        agents=(Agent(id="baker", tenant="bakery", kind="openai", model="m", instructions="Be kind.", fallback="Later."),),
    )


def test_keys_of_tenants_are_long_and_their_own() -> None:
    """Neither guessed nor shared; a mistake never repeats one."""
    for key in ("short", "with a space in it", "k" * 201):
        assert _mistakes({"tenants": [{"id": "a", "key": key}]}) == [
            "tenants[0].key: `key` must be 16 to 200 letters, digits or signs, without spaces."
        ]
    shared = f"{NOT_SECRET}-and-long"
    taken = _mistakes({"tenants": [{"id": "a", "key": shared}, {"id": "b", "key": shared}]})
    assert taken == ["tenants[1].key: Tenant `a` has this key already: make another one."]
    assert read_configuration({"tenants": [{"id": "a", "key": shared}]}, applied=Configuration(tenants=(Tenant(id="a", key=shared),)))


@pytest.mark.parametrize("document", [{"tenants": []}, {"tenants": None, "agents": ""}])
def test_an_empty_list_is_nothing_to_apply(document: Any) -> None:
    """A section without entries is fine."""
    assert read_configuration(document, applied=APPLIED) == Configuration()


@pytest.mark.parametrize(
    ("document", "mistakes"),
    [
        (None, ["There must be a list under at least one of `tenants:`, `accounts:` and `agents:`."]),
        ([], ["There must be a list under at least one of `tenants:`, `accounts:` and `agents:`."]),
        ("text", ["There must be a list under at least one of `tenants:`, `accounts:` and `agents:`."]),
        ({"templates": []}, ["templates: `templates` is not supported yet: leave it out."]),
        ({"agent": []}, ["agent: There is no section `agent` (did you mean `agents`?)."]),
        ({"agents": {"id": "x"}}, ["agents: `agents` must be a list of entries, each with its own `id`."]),
        ({"agents": ["x"]}, ["agents[0]: This must be an entry with `id` and other fields."]),
        ({"agents": [{}]}, ["agents[0]: `id` is missing.", "agents[0]: `kind` is missing."]),
        ({"agents": [{"id": "x", "kind": "opnai"}]}, ["agents[0].kind: There is no kind of agent `opnai` (did you mean `openai`?)."]),
        ({"agents": [{"id": "x", "kind": "zzz"}]}, ["agents[0].kind: There is no kind of agent `zzz`: use offline or openai."]),
        ({"agents": [{"id": "x", "kind": ""}]}, ["agents[0].kind: There is no kind of agent ``: use offline or openai."]),
        ({"tenants": [{"id": ""}]}, ["tenants[0].id: `id` must be 1 to 100 letters, digits, points, dashes or underscores."]),
        ({"tenants": [{"id": "a b"}]}, ["tenants[0].id: `id` must be 1 to 100 letters, digits, points, dashes or underscores."]),
        ({"tenants": [{"id": "x\n"}]}, ["tenants[0].id: `id` must be 1 to 100 letters, digits, points, dashes or underscores."]),
        ({"tenants": [{"id": "x" * 101}]}, ["tenants[0].id: `id` must be 1 to 100 letters, digits, points, dashes or underscores."]),
        ({"tenants": [{"id": "x", "name": "y" * 100_001}]}, ["tenants[0].name: `name` may have 100000 characters."]),
        ({"tenants": [{"id": "x"}, {"id": "x"}]}, ["tenants[1].id: `id` x stands already at tenants[0]."]),
        (
            _account(phone_number_id="+49 1"),
            ["accounts[0].phone_number_id: `phone_number_id` must be the platform's id of the number, which has digits only."],
        ),
        (_account(phone_number_id=5), ["accounts[0].phone_number_id: `phone_number_id` must be a text."]),
        (_account(tokn=NOT_SECRET), ["accounts[0].tokn: There is no field `tokn` here (did you mean `token`?)."]),
        *(
            (_account(rate=rate), ["accounts[0].rate: `rate` must be a number from 0 (no limit) to 100,000: messages a second."])
            for rate in ("80", -1, True, None, 1e9, float("nan"), [1])
        ),
        (_account(token=[NOT_SECRET]), ["accounts[0].token: `token` must be a text."]),
        (_account(token=NOT_SECRET * 10_000), ["accounts[0].token: `token` may have 100000 characters."]),
        (_account(tenant="shpo"), ["accounts[0].tenant: There is no tenant `shpo` (did you mean `shop`?): add it under `tenants:`."]),
        (_account(agent="clrk"), ["accounts[0].agent: There is no agent `clrk` (did you mean `clerk`?): add it under `agents:`."]),
        (_account(agent="clerk"), ["accounts[0].agent: Agent `clerk` belongs to tenant `shop`, not to `default`."]),
        (_account(phone_number_id="111"), ["accounts[0].phone_number_id: The number 111 belongs to account `main` already: use that id."]),
        (
            {"agents": [{"id": "x", "kind": "offline", "tenant": "nobody"}]},
            ["agents[0].tenant: There is no tenant `nobody`: add it under `tenants:`."],
        ),
        (
            {"accounts": [{"id": "a", "phone_number_id": "1"}, {"id": "b", "phone_number_id": "1"}]},
            ["accounts[1].phone_number_id: `phone_number_id` 1 stands already at accounts[0]."],
        ),
        (
            {"limits": [], "tenants": [{"id": "?"}], "agents": 5},
            [
                "limits: `limits` is not supported yet: leave it out.",
                "agents: `agents` must be a list of entries, each with its own `id`.",
                "tenants[0].id: `id` must be 1 to 100 letters, digits, points, dashes or underscores.",
            ],
        ),
    ],
)
def test_mistakes(document: Any, mistakes: list[str]) -> None:
    """Every mistake is one sentence with its place, all of them at once, and none repeats a secret."""
    assert _mistakes(document) == mistakes


@pytest.mark.parametrize(
    "document",
    [
        _account(tenant="shop", agent="clerk"),
        _account(agent="helper"),
        _account(agent="default", tenant="default"),
        {"accounts": [{"id": "main", "phone_number_id": "111", "tenant": "shop"}]},
        {"accounts": [{"id": "main", "phone_number_id": "444"}, {"id": "new", "phone_number_id": "111"}]},
    ],
)
def test_references_to_what_is_applied(document: Any) -> None:
    """What is applied already may be referred to; the default tenant and agent are always there; a number may move with its account."""
    assert read_configuration(document, applied=APPLIED).accounts


def test_without_knowing_what_is_applied() -> None:
    """Who does not know what is applied leaves references to who does."""
    assert read_configuration(_account(tenant="somewhere", agent="somebody"), applied=None).accounts[0].tenant == "somewhere"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["tenants", "accounts", "agents", "id", "kind", "tenant", "agent", "token"]) | st.text(max_size=5), inner
        )
    ),
    max_leaves=30,
)


@given(json_values)
def test_any_document_is_checked(document: Any) -> None:
    """Whatever JSON is given, it is a configuration or a list of mistakes."""
    try:
        read_configuration(document, applied=APPLIED)
    except ConfigFileError as error:
        mistakes = error.mistakes
    else:
        return
    assert mistakes
