"""`ottla bench`: what a message costs on this machine, beside floors measured in the same run."""

import asyncio
from pathlib import Path

import click

from infra.bench.plan import Plan
from infra.bench.report import rows, write_report
from infra.bench.run import chosen, machine, run_bench
from infra.cli.output import output_option, progress_bar, show
from infra.errors import OttlaError
from infra.settings import load_settings


@click.command("bench")
@click.argument("names", metavar="[NAME...]", nargs=-1)
@click.option("--seconds", default=10.0, show_default=True, type=click.FloatRange(0.2, 3600), help="length of one turn")
@click.option(
    "--warm-up",
    "messages",
    default=Plan.warm_up_messages,
    show_default=True,
    type=click.IntRange(min=0),
    help="messages before anything is measured; 0: servers that compile little, as ottla up has them",
)
@click.option("--ids", default=Plan.ids, show_default=True, type=click.IntRange(1_000), help="how many ids are remembered, for ids")
@click.option("--minutes", default=Plan.memory_minutes, show_default=True, type=click.FloatRange(0.1, 10_000), help="length of memory")
@click.option("--report", type=click.Path(file_okay=False, path_type=Path), help="folder of the report [default: OTTLA_HOME/bench/report]")
@output_option
def command(*, names: tuple[str, ...], seconds: float, messages: int, ids: int, minutes: float, report: Path | None, output: str) -> None:
    """Measure what messages cost: intake, hostile, cost, latency, slow-model, kill, workers, plain, pages, or those NAMEd.

    Two more are played only when they are named: ids (what remembering costs, 5 GB of disk) and memory (half an hour).
    """
    import uvloop

    scenarios = chosen(names)
    settings = load_settings()
    folder = (report or settings.home / "bench" / "report").resolve()
    settings = settings.model_copy(update={"home": settings.home / "bench"})
    about = machine()
    plan = Plan(seconds=seconds, warm_up_s=min(seconds, Plan.warm_up_s), warm_up_messages=messages, ids=ids, memory_minutes=minutes)
    try:
        with progress_bar() as progress, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            results = runner.run(run_bench(settings, scenarios, plan, progress))
    except asyncio.CancelledError:
        raise OttlaError("The measurement was stopped before its end; nothing was written.") from None
    path = write_report(folder, results, machine=about)
    titles = {"scenario": "SCENARIO", "figure": "FIGURE", "value": "VALUE", "must": "MUST BE", "verdict": ""}
    show(output, rows(results), titles=titles)
    click.echo(f"The report: {path}", err=True)
