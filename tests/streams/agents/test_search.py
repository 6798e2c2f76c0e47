"""Finding the passage that speaks of a message."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.agents.passages import Passage
from streams.agents.search import WORDS_MAX, PassageSearch, words

SHOP = PassageSearch(
    [
        Passage(titles=("Returns",), text="Send the parcel back within 30 days."),
        Passage(titles=("Returns",), text="Shoes must be unworn."),
        Passage(titles=("Delivery",), text="A parcel takes two days."),
        Passage(titles=(), text="Gift cards never expire."),
        Passage(titles=(), text="礼品卡永不过期"),
    ]
)


@pytest.mark.parametrize(
    ("message", "text"),
    [
        ("delivery of a parcel", "A parcel takes two days."),
        ("returning shoes", "Shoes must be unworn."),
        ("return my parcel", "Send the parcel back within 30 days."),
        ("when do gift cards expire?", "Gift cards never expire."),
        ("礼品卡过期吗", "礼品卡永不过期"),
    ],
)
def test_the_best_passage(message: str, text: str) -> None:
    """The section is found by its titles and texts, and inside it the passage that says most of the message."""
    finding = SHOP.find(message)
    assert finding is not None
    assert finding.passage.text == text


def test_coverage_is_the_share_that_is_spoken_of() -> None:
    """Every word known is 1, a word nobody knows takes away, and nothing known is no finding."""
    whole, part = SHOP.find("gift card"), SHOP.find("gift card for zebras")
    assert whole is not None
    assert part is not None
    assert whole.coverage == pytest.approx(1.0)
    assert 0 < part.coverage < whole.coverage
    assert SHOP.find("zebras") is None
    assert SHOP.find("") is None


def test_words_of_any_script() -> None:
    """Case, common endings and stop words do not matter; scripts without spaces are cut into pairs."""
    assert words("The Refunds, REFUNDED & refunding!") == ["refund"] * 3
    assert words("don't you've we\u2019ll") == words("do you we")
    assert words("退款政策") == ["退款", "款政", "政策"]
    assert words("возврат Денег") == ["возврат", "денег"]
    assert words("order 12345 x") == words("order")


def test_long_messages_are_read_from_the_start() -> None:
    """Only the first words of a message count, so that a long one does not hold up others."""
    assert len(words("refund " * 1_000_000)) == WORDS_MAX


@given(st.text())
def test_any_text_can_be_looked_for(message: str) -> None:
    """No text makes it fail, and coverage is a share."""
    finding = SHOP.find(message)
    assert finding is None or 0 <= finding.coverage <= 1 + 1e-9
