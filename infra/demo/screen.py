"""The demo in the terminal: bars of what was posted, answered and delivered, and a few conversations word for word."""

import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from infra.demo.check import Verdict, answered_by
from infra.demo.latency import spoken
from infra.demo.played import PlayedConversation, Reply, UserMessage
from infra.demo.player import Watcher
from infra.demo.summary import Summary
from infra.terminal import harmless

_COLOURS = ("cyan", "magenta", "green", "yellow", "blue")
_WIDTH_TAKEN = 24  # by number, name and time
_PROBLEMS_SHOWN = 10


class Screen(Watcher):
    """Shows the play as it goes; on something else than a terminal it prints the conversations only."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description:<28}"),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._shown: dict[str, str] = {}

    @contextmanager
    def step(self, description: str) -> Iterator[None]:
        """Show that something takes a while."""
        if not self.console.is_terminal:
            self.console.print(description)
            yield
            return
        with Progress(SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn(), console=self.console, transient=True) as bar:
            bar.add_task(description)
            yield

    @contextmanager
    def playing(self, played: Sequence[PlayedConversation], *, live: Sequence[PlayedConversation]) -> Iterator[None]:
        """Show bars over all conversations, and what is said in those that are `live`."""
        self._shown = {one.key: _COLOURS[number % len(_COLOURS)] for number, one in enumerate(live)}
        total = sum(one.conversation.size for one in played)
        self._posted = self._progress.add_task("messages of users", total=total)
        self._replied = self._progress.add_task("answers at the platform", total=total)
        with self._progress:
            yield

    def posted(self, played: PlayedConversation, message: UserMessage) -> None:
        """Advance the bar; show the message if its conversation is live."""
        self._progress.advance(self._posted)
        if colour := self._shown.get(played.key):
            self._say(played, colour, "user ", message.text)

    def replied(self, played: PlayedConversation, reply: Reply) -> None:
        """Advance the bar; show the answer if its conversation is live."""
        self._progress.advance(self._replied)
        if colour := self._shown.get(played.key):
            number = answered_by(played)[-1]
            after_s = (reply.at - played.messages[number].posted_at) / 1000 if number is not None else float("nan")
            self._say(played, colour, "agent", f"{reply.text}", after=spoken(after_s))

    def _say(self, played: PlayedConversation, colour: str, who: str, text: str, *, after: str = "") -> None:
        line = Text(f"{played.phone[-4:]} ", style=colour)
        line.append(f"{who} ", style="bold" if after else "dim")
        width = max(self.console.width - _WIDTH_TAKEN, _WIDTH_TAKEN)
        line.append(textwrap.shorten(harmless(text), width, placeholder=" ..."), style="" if after else "italic")
        if after:
            line.append(f"  {after}", style="dim")
        self._progress.console.print(line, soft_wrap=True)

    def show_summary(self, summary: Summary) -> None:
        """Print the table of what happened, and what is wrong."""
        table = Table(title="What happened", title_justify="left", title_style="bold", box=None, pad_edge=False, show_header=False)
        table.add_column("")
        table.add_column("", justify="right")
        table.add_column("", style="dim")
        for row in summary.rows:
            mark = Text("ok " if row.good else "!! ", style="green" if row.good else "bold red") if row.good is not None else Text("   ")
            table.add_row(mark + Text(row.name), row.value, row.note)
        self.console.print()
        self.console.print(table)
        self.console.print()
        self._show_problems(summary.verdict)

    def _show_problems(self, verdict: Verdict) -> None:
        for problem in verdict.problems[:_PROBLEMS_SHOWN]:
            self.console.print(Text(problem, style="red"))
        more = len(verdict.problems) - _PROBLEMS_SHOWN
        if more > 0:
            self.console.print(Text(f"and {more} more.", style="red"))
