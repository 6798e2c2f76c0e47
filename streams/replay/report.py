"""What came of a replay, for people and programs: a summary, the differences side by side, a page, JSON."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from rich.console import Console
from rich.table import Table
from rich.text import Text

from infra.errors import OttlaError
from infra.terminal import harmless
from infra.times import shown_time
from streams.replay.compare import VERDICTS, Compared, Outcome
from streams.replay.folder import Folder
from streams.replay.plan import Plan
from streams.replay.summary import Summary

_SHOWN_MAX = 50
_PAGE_MAX = 2_000
_JSON_MAX = 10_000
_TEXT_MAX = 2_000
_COLOURS = {"same": "green", "changed": "yellow", "missing": "red", "new": "cyan"}


def differences(folder: Folder, most: int) -> tuple[list[Compared], int]:
    """Return the first items that differ, at most so many, and how many there are of them in all."""
    differing = (item for item in folder.compared() if item.verdict != "same")
    shown = list(islice(differing, most))
    return shown, len(shown) + sum(1 for _ in differing)


def as_json(folder: Folder, plan: Plan, summary: Summary, *, with_items: bool) -> dict[str, Any]:
    """Return everything as a JSON object; with the items that differ where they are wanted."""
    made: dict[str, Any] = {
        **msgspec.to_builtins(summary),
        "from": shown_time(plan.from_ms),
        "to": shown_time(plan.to_ms),
        "gone_before": shown_time(plan.gone_before) if plan.gone_before else "",
        "tenant": plan.tenant,
        "conversation": plan.conversation,
        "agent": plan.agent.id if plan.agent is not None else "",
        "compared": summary.compared,
        "all_same": summary.all_same,
        "comparison": str(folder.comparison),
    }
    if with_items:
        shown, count = differences(folder, _JSON_MAX)
        made |= {"items": msgspec.to_builtins(shown), "items_left_out": count - len(shown)}
    return made


def sentence(plan: Plan, summary: Summary) -> str:
    """Return what came of it in one sentence."""
    by = f" with the agent {plan.agent.id}" if plan.agent is not None else ""
    what = f"{_many(summary.compared, 'item')} in {_many(summary.conversations, 'conversation')}"
    if summary.all_same:
        return f"Decided again{by}: {what}, all the same."
    counts = ", ".join(f"{summary.count(verdict):,} {verdict}" for verdict in VERDICTS)
    return f"Decided again{by}: {what}: {counts}."


def facts(plan: Plan, summary: Summary) -> list[tuple[str, str]]:
    """Return the summary as names and values."""
    found = [
        ("received", f"{shown_time(plan.from_ms)} to {shown_time(plan.to_ms)} UTC"),
        ("answers", ", ".join(f"{summary.answers[verdict]:,} {verdict}" for verdict in VERDICTS)),
        ("not answered", ", ".join(f"{summary.others[verdict]:,} {verdict}" for verdict in VERDICTS)),
        ("deciding took then", _span(summary.was_p50_ms, summary.was_p99_ms)),
    ]
    if plan.agent is not None:
        found.append(("answering took now", _span(summary.now_p50_ms, summary.now_p99_ms)))
        found.append(("tokens", f"{summary.tokens_in:,} in, {summary.tokens_out:,} out" if summary.tokens_in else "not told"))
    if summary.failures:
        found.append(("no answer because", ", ".join(f"{cause} {count:,}" for cause, count in summary.failures.items())))
    if plan.gone_before > plan.from_ms:
        found.append(("left out", f"what was received before {shown_time(plan.gone_before)} and is in neither log nor archive any more"))
    elif plan.gone_before:
        found.append(("known from before", f"{shown_time(plan.gone_before)} on: what is older is in neither log nor archive any more"))
    left_out = {
        "not handled by streams yet": summary.unhandled,
        "on their way to another key": summary.on_their_way,
        "of another key by what was learnt before": summary.elsewhere,
    }
    found += [("left out", f"{count:,} {why}") for why, count in left_out.items() if count]
    return found


def print_summary(console: Console, plan: Plan, summary: Summary) -> None:
    """Print the sentence and the facts."""
    console.print(Text(harmless(sentence(plan, summary)), style="bold"))
    for name, value in facts(plan, summary):
        console.print(Text(f"  {name:<20} {harmless(value)}"), soft_wrap=True)


def print_differences(console: Console, folder: Folder) -> None:
    """Print the first differences side by side, and where the others are."""
    shown, count = differences(folder, _SHOWN_MAX)
    for table in _tables(shown):
        console.print()
        console.print(table)
    if count > len(shown):
        console.print(Text(f"{count - len(shown):,} more differ: {folder.comparison} has them all."), soft_wrap=True)


def _tables(items: list[Compared]) -> Iterator[Table]:
    """Yield a table for each conversation."""
    table, conversation = None, None
    for item in items:
        if table is None or item.conversation != conversation:
            if table is not None:
                yield table
            conversation = item.conversation
            table = Table(title=harmless(conversation), title_justify="left", title_style="bold", expand=True, show_lines=True)
            table.add_column("", no_wrap=True)
            for name in ("said", "was", "would be"):
                table.add_column(name, ratio=1, overflow="fold")
        verdict = Text(item.verdict, style=_COLOURS[item.verdict])
        table.add_row(verdict, _cell(item.question), _cell(spoken(item.was)), _cell(spoken(item.now) if item.now else item.why))
    if table is not None:
        yield table


def spoken(outcome: Outcome | None) -> str:
    """Return one side in words: what was answered, else what was decided."""
    if outcome is None:
        return "-"
    if outcome.text:
        return f"{outcome.text}\n({outcome.reason})" if outcome.reason else outcome.text
    return f"({outcome.decision}{': ' + outcome.reason if outcome.reason else ''})"


def write_page(path: Path, folder: Folder, plan: Plan, summary: Summary) -> None:
    """Write the page: the sentence, the facts, and the differences side by side; OttlaError if it cannot be written."""
    shown, count = differences(folder, _PAGE_MAX)
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    page = environment.get_template("page.html").render(
        sentence=sentence(plan, summary),
        facts=facts(plan, summary),
        conversations=_by_conversation(shown),
        left_out=count - len(shown),
        file=str(folder.comparison),
        replay=plan.id,
    )
    try:
        path.write_text(page, encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        raise OttlaError(f"{path} cannot be written: {error.strerror}.") from None


def _by_conversation(items: list[Compared]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for item in items:
        if not found or found[-1]["key"] != item.conversation:
            found.append({"key": item.conversation, "items": []})
        found[-1]["items"].append(
            {
                "at": shown_time(item.received_at),
                "verdict": item.verdict,
                "why": item.why,
                "question": _shown(item.question) or f"({item.kind})",
                "was": _side(item.was),
                "now": _side(item.now),
            }
        )
    return found


def _side(outcome: Outcome | None) -> dict[str, str]:
    if outcome is None:
        return {"text": "", "note": "nothing"}
    notes = [outcome.agent, "" if outcome.text else outcome.decision, outcome.reason, f"{outcome.took_ms:,} ms" if outcome.took_ms else ""]
    notes.append(f"{outcome.tokens_in:,} + {outcome.tokens_out:,} tokens" if outcome.tokens_in else "")
    return {"text": _shown(outcome.text), "note": " · ".join(harmless(note) for note in notes if note)}


def _shown(text: str) -> str:
    shown = "\n".join(harmless(line) for line in text.splitlines())
    return shown if len(shown) <= _TEXT_MAX else shown[:_TEXT_MAX] + " ..."


def _cell(text: str) -> Text:
    return Text(_shown(text))


def _span(p50_ms: int, p99_ms: int) -> str:
    return f"{p50_ms:,} ms (p50), {p99_ms:,} ms (p99)" if p50_ms >= 0 else "-"


def _many(count: int, name: str) -> str:
    return f"{count:,} {name}{'' if count == 1 else 's'}"
