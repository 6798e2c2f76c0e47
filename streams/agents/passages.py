"""Passages of a knowledge file: any nest of JSON objects, lists and texts becomes titled pieces short enough to be an answer.

No schema is asked for. A key that starts with a small letter and stands at several places (`question`, `text`, `actions`) is taken for
the name of a field, every other key for a title. An object with fields is one passage; so is a list of texts under a title. Short values
that recur under one field (`"type": "interaction"`) are labels and are left out.
"""

import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

import msgspec

TEXT_LENGTH_MAX = 500
_TITLES_SHOWN_MAX = 3
_DEPTH_MAX = 50
_LABEL_WORDS_MAX = 3
_LABEL_REPEATS_MIN = 3
_HEADINGS = frozenset({"title", "name", "question", "heading", "label", "topic", "q"})
_SENTENCE_END = re.compile(r"(?<=[.!?。！？])\s+|\n+")  # noqa: RUF001 - full-width marks end sentences too


class Passage(msgspec.Struct, frozen=True):
    """A piece of knowledge: the titles above it, outermost first, and at most `TEXT_LENGTH_MAX` characters of text."""

    titles: tuple[str, ...]
    text: str


class KnowledgeError(ValueError):
    """A JSON value that no passage can be made from; the text says why."""


def read_passages(document: Any) -> list[Passage]:
    """Return the passages of a decoded JSON document, in its order; KnowledgeError if it holds none."""
    structure = _Structure(document)
    passages = [Passage(titles=titles, text=part) for titles, texts in structure.records(document, ()) for part in _split(_join(texts))]
    if not passages:
        raise KnowledgeError("there is no text in it")
    return passages


class _Structure:
    """Which keys of one document are fields and which values are labels."""

    def __init__(self, document: Any) -> None:
        keys: Counter[str] = Counter()
        values: Counter[tuple[str, str]] = Counter()
        for key, value in _members(document, 0):
            keys[key] += 1
            if isinstance(value, str):
                values[key, value] += 1
        self._fields = {key for key, count in keys.items() if count > 1 and key[:1].islower()}
        self._labels = {
            member for member, count in values.items() if count >= _LABEL_REPEATS_MIN and len(member[1].split()) <= _LABEL_WORDS_MAX
        }

    def records(self, node: Any, titles: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], list[str]]]:
        """Yield the titles and texts of each record under `node`, itself included."""
        if isinstance(node, dict):
            heading, texts = self._own(node)
            inside = (*titles, heading) if heading else titles
            if texts:
                yield inside, texts
            for key, value in node.items():
                if key in self._fields:
                    if not _is_text(value):
                        yield from self.records(value, inside)
                else:
                    yield from self.records(value, (*inside, key.strip()))
        elif isinstance(node, list):
            yield from self._list_records(node, titles)
        elif isinstance(node, str) and node.strip():
            yield titles, [node]

    def _list_records(self, items: list[Any], titles: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], list[str]]]:
        for item in items:
            if not isinstance(item, str):
                yield from self.records(item, titles)
        strings = [item for item in items if isinstance(item, str) and item.strip()]
        if titles and strings:
            yield titles, strings
        else:
            yield from (((), [text]) for text in strings)

    def _own(self, record: dict[str, Any]) -> tuple[str, list[str]]:
        """Return the heading and the texts that stand in the record's own fields."""
        heading = ""
        texts: list[str] = []
        labels: list[str] = []
        for key, value in record.items():
            if key not in self._fields:
                continue
            if isinstance(value, str) and not heading and key.lower() in _HEADINGS:
                heading = value.strip()
            elif isinstance(value, str):
                (labels if (key, value) in self._labels else texts).append(value)
            elif _is_text(value):
                texts.extend(value)
        return heading, [text for text in texts or labels if text.strip()]


def _members(node: Any, depth: int) -> Iterator[tuple[str, Any]]:
    if depth > _DEPTH_MAX:
        raise KnowledgeError(f"it is nested deeper than {_DEPTH_MAX} levels")
    if isinstance(node, dict):
        yield from node.items()
    for value in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        yield from _members(value, depth + 1)


def _is_text(value: Any) -> bool:
    """Tell whether a field's value is text of its record: a string or a list of strings alone."""
    return isinstance(value, str) or (isinstance(value, list) and bool(value) and all(isinstance(item, str) for item in value))


def _join(texts: list[str]) -> str:
    joined = ""
    for text in texts:
        part = " ".join(text.split(" ")).strip()
        if joined and joined[-1].isalnum():
            joined += "."
        joined += " " + part
    return joined.strip()


def _split(text: str) -> Iterator[str]:
    """Yield pieces of at most TEXT_LENGTH_MAX characters, cut between sentences, else between words, else anywhere."""
    piece = ""
    for sentence in _SENTENCE_END.split(text):
        rest = " ".join(sentence.split())
        while rest:
            if len(piece) + 1 + len(rest) <= TEXT_LENGTH_MAX:
                piece, rest = f"{piece} {rest}".strip(), ""
            elif piece:
                yield piece
                piece = ""
            else:
                cut = rest.rfind(" ", 0, TEXT_LENGTH_MAX)
                cut = cut if cut > 0 else TEXT_LENGTH_MAX
                yield rest[:cut]
                rest = rest[cut:].strip()
    if piece:
        yield piece
