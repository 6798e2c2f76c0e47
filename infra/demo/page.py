"""The demo's page: one HTML file that needs nothing else, in light and dark."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from infra.demo.check import answered_by
from infra.demo.history import ApiMessage
from infra.demo.latency import Bar, histogram, percentile, spoken
from infra.demo.played import PlayedConversation
from infra.demo.summary import Summary
from infra.terminal import harmless

_WIDTH, _HEIGHT = 480, 150
_TICKS_S = (0.001, 0.01, 0.1, 1.0, 10.0, 100.0)
_SHOWN_SIZES = range(3, 8)
_LENGTH_MAX = 400
_SOURCES = {
    "irc-ubuntu": "IRC, #ubuntu",
    "multidogo": "MultiDoGO",
    "taskmaster4": "Taskmaster-4",
    "crosswoz": "CrossWOZ",
    "aci-bench": "ACI-Bench",
    "abcd-sample": "ABCD",
    "tatoeba": "Tatoeba",
    "blns": "naughty strings",
}
_SHOWN_SOURCES = (
    "irc-ubuntu",
    "multidogo/fastfood",
    "tatoeba",
    "crosswoz",
    "abcd-sample",
    "multidogo/airline",
    "blns",
    "tatoeba",
    "irc-ubuntu",
)


@dataclass(frozen=True, kw_only=True)
class Bubble:
    """One message on the page; `ticks` is sent, delivered or read."""

    text: str
    mine: bool
    remark: str = ""
    ticks: str = ""


@dataclass(frozen=True, kw_only=True)
class Chat:
    """One conversation on the page."""

    source: str
    lang: str
    key: str
    bubbles: list[Bubble]


@dataclass(frozen=True, kw_only=True)
class Mark:
    """A line on a chart with its words."""

    x: float
    label: str


@dataclass(frozen=True, kw_only=True)
class Column:
    """A bar of a chart in the chart's own units, with its words."""

    x: float
    y: float
    width: float
    height: float
    label: str


@dataclass(frozen=True, kw_only=True)
class Chart:
    """A histogram on a logarithmic scale."""

    title: str
    columns: list[Column]
    ticks: list[Mark]
    marks: list[Mark]
    count: int


def write_page(path: Path, summary: Summary, played: Sequence[PlayedConversation], histories: Mapping[str, Sequence[ApiMessage]]) -> Path:
    """Write the page and return its path."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    charts = [
        chart("Webhook to 200: stored in Kafka", summary.webhook_s),
        chart("Message to answer at the platform", summary.reply_s),
    ]
    chats = [chat(one, histories.get(one.key, ())) for one in choose(played)]
    page = environment.get_template("page.html").render(
        summary=summary,
        charts=charts,
        chats=chats,
        reply_p50=spoken(percentile(summary.reply_s, 0.5)),
        reply_p99=spoken(percentile(summary.reply_s, 0.99)),
        webhook_p50=spoken(percentile(summary.webhook_s, 0.5)),
        webhook_p99=spoken(percentile(summary.webhook_s, 0.99)),
        width=_WIDTH,
        height=_HEIGHT,
    )
    # Half a surrogate pair cannot be written; it is shown as its number like everything else that has no face.
    path.write_text(page, encoding="utf-8", errors="backslashreplace")
    return path


def choose(played: Sequence[PlayedConversation]) -> list[PlayedConversation]:
    """Return a few conversations of different sources, of a length that fits."""
    chosen: list[PlayedConversation] = []
    for source in _SHOWN_SOURCES:
        fit = [
            one for one in played if one.conversation.source.startswith(source) and one not in chosen and len(one.messages) in _SHOWN_SIZES
        ]
        if fit:
            chosen.append(max(fit, key=_variety))
    return chosen


def _variety(played: PlayedConversation) -> float:
    return len({reply.text for reply in played.replies}) / len(played.messages)


def chat(played: PlayedConversation, history: Sequence[ApiMessage]) -> Chat:
    """Return a conversation as bubbles, each answer under the messages before it, with the ticks that Cassandra has."""
    statuses = {message.id: message.status_names for message in history}
    turns: list[tuple[float, Bubble]] = []
    for message in played.messages:
        remark = f"posted {message.posts} times" if message.posts > 1 else ""
        turns.append((message.posted_at, Bubble(text=_shown(message.text), mine=False, remark=remark)))
    for number, reply in zip(answered_by(played), played.replies, strict=True):
        after = "" if number is None else spoken((reply.at - played.messages[number].posted_at) / 1000)
        bubble = Bubble(text=_shown(reply.text), mine=True, remark=after, ticks=_ticks(statuses.get(reply.send, set())))
        turns.append((reply.at, bubble))
    turns.sort(key=lambda turn: turn[0])
    source = played.conversation.source.split("/")[0]
    return Chat(source=_SOURCES.get(source, source), lang=played.conversation.lang, key=played.key, bubbles=[bubble for _, bubble in turns])


def _shown(text: str) -> str:
    shown = "\n".join(harmless(line) for line in text.splitlines()) or harmless(text)
    return shown if len(shown) <= _LENGTH_MAX else shown[:_LENGTH_MAX] + " ..."


def _ticks(names: set[str]) -> str:
    return next((name for name in ("read", "delivered", "sent") if name in names), "")


def chart(title: str, values: Sequence[float]) -> Chart:
    """Return a histogram of seconds, drawn to the page's size."""
    bars = histogram(values)
    if not bars:
        return Chart(title=title, columns=[], ticks=[], marks=[], count=0)
    low, high = math.log10(bars[0].from_s), math.log10(bars[-1].to_s)

    def place(seconds: float) -> float:
        return (math.log10(seconds) - low) / (high - low) * _WIDTH

    highest = max(bar.count for bar in bars)
    return Chart(
        title=title,
        columns=[_column(bar, highest, place(bar.from_s), place(bar.to_s), len(values)) for bar in bars],
        ticks=[
            Mark(x=place(tick), label=spoken(tick).replace(".0 ", " ").replace(".00 ", " "))
            for tick in _TICKS_S
            if low <= math.log10(tick) <= high
        ],
        marks=[
            Mark(x=place(percentile(values, share)), label=f"p{share * 100:.0f} {spoken(percentile(values, share))}")
            for share in (0.5, 0.99)
        ],
        count=len(values),
    )


def _column(bar: Bar, highest: int, left: float, right: float, total: int) -> Column:
    height = bar.count / highest * _HEIGHT
    label = f"{spoken(bar.from_s)} to {spoken(bar.to_s)}: {bar.count:,} ({bar.count / total:.1%})"
    return Column(x=left + 1, y=_HEIGHT - height, width=max(right - left - 2, 1), height=height, label=label)
