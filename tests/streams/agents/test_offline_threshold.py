"""What the offline agent's threshold lets through and keeps out, measured on labelled requests.

Two knowledge bases are made from the training requests of banking77 (77 topics that are close to each other) and clinc150 (150 topics of
all kinds). Requests of their test sets should be answered, clinc150's out-of-scope requests should not. `pytest -s` shows the figures.
"""

import gzip
import json
from typing import Any

import pytest

from streams.agents.offline import COVERAGE_MIN
from streams.agents.passages import read_passages
from streams.agents.search import PassageSearch
from tests.streams.agents.conftest import DATA

THRESHOLDS = [step / 20 for step in range(2, 19)]


@pytest.fixture(scope="module")
def sample() -> Any:
    with gzip.open(DATA / "intents_sample.json.gz", "rt", encoding="utf-8") as text:
        return json.load(text)


def _show(line: str) -> None:
    print(line)  # noqa: T201 - the figures are what `pytest -s` is called for


def _coverage(search: PassageSearch, text: str) -> float:
    finding = search.find(text)
    return finding.coverage if finding else 0.0


def _share(coverages: list[float], threshold: float) -> float:
    return sum(coverage >= threshold for coverage in coverages) / len(coverages)


@pytest.mark.parametrize("source", ["banking77", "clinc150"])
def test_the_threshold_separates_known_from_unknown(sample: Any, source: str) -> None:
    """It answers most of what it knows and little of what it does not, and no other threshold does much better on both knowledge bases."""
    search = PassageSearch(read_passages(sample[source]["knowledge"]))
    known = [_coverage(search, asked["text"]) for asked in sample[source]["asked"]]
    unknown = [_coverage(search, text) for text in sample["out_of_scope"]]
    _show(f"\n{source}: threshold, share of known requests answered, share of out-of-scope requests answered")
    for threshold in THRESHOLDS:
        _show(f"  {threshold:.2f}  {_share(known, threshold):.2f}  {_share(unknown, threshold):.2f}{' <-' * (threshold == COVERAGE_MIN)}")
    assert _share(known, COVERAGE_MIN) > 0.75
    assert _share(unknown, COVERAGE_MIN) < 0.2
    gains = {threshold: _share(known, threshold) - _share(unknown, threshold) for threshold in (*THRESHOLDS, COVERAGE_MIN)}
    assert gains[COVERAGE_MIN] > max(gains.values()) - 0.05


@pytest.mark.parametrize("source", ["banking77", "clinc150"])
def test_most_of_what_is_answered_is_answered_from_the_right_place(sample: Any, source: str) -> None:
    """Among requests that are answered, about three in four get the passage of their own label out of 77 or 150."""
    search = PassageSearch(read_passages(sample[source]["knowledge"]))
    findings = [(search.find(asked["text"]), asked["question"]) for asked in sample[source]["asked"]]
    answered = [(finding, wanted) for finding, wanted in findings if finding and finding.coverage >= COVERAGE_MIN]
    right = sum(finding.passage.titles[-1] == wanted for finding, wanted in answered)
    _show(f"\n{source}: {right} of {len(answered)} answers from the right place")
    assert right > 0.7 * len(answered)
