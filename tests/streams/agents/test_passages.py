"""Passages out of any JSON of titles and texts."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.agents.passages import TEXT_LENGTH_MAX, KnowledgeError, Passage, read_passages


@pytest.mark.parametrize(
    ("document", "passages"),
    [
        ("just a text", [((), "just a text")]),
        (["one", "two"], [((), "one"), ((), "two")]),
        ({"Hours": "9 to 5", "refunds": "You get it back"}, [(("Hours",), "9 to 5"), (("refunds",), "You get it back")]),
        ({"Returns": ["Within 30 days", "With a receipt"]}, [(("Returns",), "Within 30 days. With a receipt")]),
        (
            {"Jeans": {"Care": "Wash cold.", "Size": "All."}, "Boots": {"Care": "Wax."}},
            [(("Jeans", "Care"), "Wash cold."), (("Jeans", "Size"), "All."), (("Boots", "Care"), "Wax.")],
        ),
        (
            [{"question": "Abroad?", "answer": "No"}, {"question": "Today?", "answer": "No"}, {"question": "Sunday?", "answer": "No"}],
            [(("Abroad?",), "No"), (("Today?",), "No"), (("Sunday?",), "No")],
        ),
        (
            {"Refunds": [{"type": "step", "text": "Ask."}, {"type": "step", "text": "Pay."}, {"type": "step", "text": "Thank."}]},
            [(("Refunds",), "Ask."), (("Refunds",), "Pay."), (("Refunds",), "Thank.")],
        ),
        ({"A": {"notes": ["x"], "B": {"notes": ["y"]}}}, [(("A",), "x"), (("A", "B"), "y")]),
        ([{"title": "A", "body": " a \n b "}, {"title": "B", "body": ""}], [(("A",), "a b")]),
        ([[["deep"]], 5, None, True], [((), "deep")]),
    ],
)
def test_shapes_people_use(document: Any, passages: list[tuple[tuple[str, ...], str]]) -> None:
    """Titles are kept, texts that belong together are joined, labels that recur are left out unless nothing else is there."""
    assert read_passages(document) == [Passage(titles=titles, text=text) for titles, text in passages]


def test_long_texts_are_cut_between_sentences() -> None:
    """A long text becomes several passages of whole sentences under one title."""
    sentences = [f"This is sentence number {number}." for number in range(100)]
    passages = read_passages({"Long": " ".join(sentences)})
    assert len(passages) > 1
    assert all(len(passage.text) <= TEXT_LENGTH_MAX and passage.text.endswith(".") for passage in passages)
    assert " ".join(passage.text for passage in passages) == " ".join(sentences)


def test_a_text_without_sentences_is_cut_as_well() -> None:
    """Words, and even one endless word, are cut to the length of a passage and none is lost."""
    words = "word " * 500
    endless = "x" * 1234
    assert " ".join(passage.text for passage in read_passages([words])) == words.strip()
    assert "".join(passage.text for passage in read_passages([endless])) == endless


@pytest.mark.parametrize("document", [None, {}, [], "", "  ", 5, {"a": {"b": []}}, [["", None]]])
def test_a_document_without_text(document: Any) -> None:
    """A document that holds no text is refused."""
    with pytest.raises(KnowledgeError, match=r"^there is no text in it$"):
        read_passages(document)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=30),
    lambda inner: (
        st.lists(inner, max_size=5) | st.dictionaries(st.sampled_from(["title", "text", "Title", "a", "b"]) | st.text(max_size=5), inner)
    ),
    max_leaves=30,
)


@given(json_values)
def test_any_json_is_read(document: Any) -> None:
    """Whatever the JSON, passages are never empty and never too long."""
    try:
        passages = read_passages(document)
    except KnowledgeError:
        return
    assert passages
    assert all(0 < len(passage.text) <= TEXT_LENGTH_MAX for passage in passages)
