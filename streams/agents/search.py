"""Which passage of a knowledge file speaks of a message, and how sure that is: BM25 over its sections.

BM25's own scores mean nothing from one message or file to the next. So a section is judged by coverage: the share of what the message
says that the section speaks of, each word weighed by how rare it is in the knowledge; one that the knowledge never uses weighs most.
"""

import logging
import re
from collections.abc import Iterable

import bm25s
import msgspec
import numpy as np
from bm25s.stopwords import STOPWORDS_EN_PLUS

from streams.agents.passages import KnowledgeError, Passage

# bm25s sets its logger to DEBUG on import, which would put its chatter into our log.
logging.getLogger("bm25s").setLevel(logging.WARNING)

WORDS_MAX = 200
"""Words of a message that are looked at: what somebody asks stands early, and a 4 MB message must not hold up others."""

# Scripts written without spaces are cut into pairs of characters, which is as good as a dictionary for finding.
_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
# Vowel signs and accents of their own belong to their word, though `\w` does not take them.
_MARKS = "\u0300-\u036f\u0591-\u05c7\u0610-\u061a\u064b-\u065f\u0670\u0900-\u0963\u0966-\u0dff"
_WORD = re.compile(rf"[{_UNSPACED}]+|(?:[^\W_{_UNSPACED}]|[{_MARKS}])+")
_APOSTROPHE_ENDING = re.compile(r"n?['’]\w{1,2}\b")  # noqa: RUF001 - people type this apostrophe
_UNSPACED_RUN = re.compile(rf"[{_UNSPACED}]")
# English words that carry no subject, and those that open a request to a shop.
_STOP_WORDS = frozenset(STOPWORDS_EN_PLUS) | {"forget", "forgot", "hello", "hey", "hi", "please", "tell", "thanks"}
_SUFFIXES = ("ingly", "edly", "ing", "ies", "ied", "ed", "es", "ly", "s", "e", "y")
_STEM_LENGTH_MIN = 3


class Finding(msgspec.Struct, frozen=True):
    """A passage and its coverage of the message, from 0 (nothing in common) to 1 (every word)."""

    passage: Passage
    coverage: float


class PassageSearch:
    """An index over passages; made once, then only read, so tasks and threads may share it. KnowledgeError if they hold no word."""

    def __init__(self, passages: list[Passage]) -> None:
        self._sections = _sections(passages)
        self._words = [[frozenset(words(passage.text)) for passage in section] for section in self._sections]
        documents = [_section_words(section) for section in self._sections]
        if not any(documents):
            raise KnowledgeError("there are no words in it")
        self._index = bm25s.BM25()
        self._index.index(documents, show_progress=False)
        self._vocabulary: dict[str, int] = self._index.vocab_dict
        self._sets = [frozenset(document) for document in documents]
        frequency = np.zeros(max(self._vocabulary.values(), default=0) + 1)
        for document in self._sets:
            for word in document:
                frequency[self._vocabulary[word]] += 1
        weights = np.log1p((len(documents) - frequency + 0.5) / (frequency + 0.5))
        self._weight = {word: float(weights[number]) for word, number in self._vocabulary.items()}
        self._unknown_weight = float(np.log1p(len(documents) + 0.5))

    def find(self, message: str) -> Finding | None:
        """Return the best passage; None where no word of the message is known."""
        asked = list(dict.fromkeys(words(message)))
        known = [self._vocabulary[word] for word in asked if word in self._vocabulary]
        if not known:
            return None
        best = int(np.argmax(self._index.get_scores_from_ids(known)))
        said = sum(self._weight.get(word, self._unknown_weight) for word in asked)
        covered = sum(self._weight[word] for word in asked if word in self._sets[best])
        return Finding(passage=self._best_of(best, asked), coverage=covered / said if said else 0.0)

    def _best_of(self, number: int, asked: list[str]) -> Passage:
        """Return the passage of a section that says most of what was asked; the first of equal ones."""
        overlap = [sum(self._weight[word] for word in asked if word in found) for found in self._words[number]]
        return self._sections[number][int(np.argmax(overlap))]


def words(text: str) -> list[str]:
    """Return at most WORDS_MAX words of any script for comparing: case folded, common endings off, stop words out."""
    found: list[str] = []
    for word in split_words(_APOSTROPHE_ENDING.sub("", text[: WORDS_MAX * 20].casefold())):
        if _UNSPACED_RUN.match(word):
            found.extend(word[start : start + 2] for start in range(max(1, len(word) - 1)))
        elif len(word) > 1 and word not in _STOP_WORDS and not word.isdigit():
            found.append(_stem(word))
        if len(found) >= WORDS_MAX:
            break
    return found


def split_words(text: str) -> list[str]:
    """Return the words of a text as they stand."""
    return _WORD.findall(text)


def _stem(word: str) -> str:
    for suffix in _SUFFIXES:
        if word.endswith(suffix) and len(word) - len(suffix) >= _STEM_LENGTH_MIN:
            stem = word.removesuffix(suffix)
            # shipping, stopped: the consonant was doubled for the ending.
            doubled = suffix in {"ing", "ed"} and len(stem) > _STEM_LENGTH_MIN and stem[-1] == stem[-2] and stem[-1] in "bdgmnprt"
            return stem[:-1] if doubled else stem
    return word


def _sections(passages: Iterable[Passage]) -> list[list[Passage]]:
    """Return passages grouped by their titles; one without a title stands alone."""
    sections: dict[object, list[Passage]] = {}
    for number, passage in enumerate(passages):
        sections.setdefault(passage.titles or number, []).append(passage)
    return list(sections.values())


def _section_words(section: list[Passage]) -> list[str]:
    titles = section[0].titles
    # The nearest title says best what a section is about, so it counts more often than a word of the text.
    found = [word for passage in section for word in words(passage.text)]
    return found + words(" ".join(titles)) + words(titles[-1]) * 2 if titles else found
