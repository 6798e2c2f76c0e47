"""`ottla doctor`: what is wrong with this installation, in sentences."""

import asyncio

import click
import msgspec

from infra.cli.output import output_option, show
from infra.doctor.finding import Check, Finding, problem, run_checks
from infra.doctor.machine import check_disk, check_local_servers, check_settings
from infra.doctor.outside import check_model, check_platform
from infra.doctor.roles import check_ingress, check_roles
from infra.doctor.servers import check_cassandra, check_kafka
from infra.errors import FAILED, UsageError
from infra.settings import load_settings

CHECKS: tuple[Check, ...] = (
    check_settings,
    check_disk,
    check_local_servers,
    check_kafka,
    check_cassandra,
    check_ingress,
    check_roles,
    check_platform,
    check_model,
)


@click.command("doctor")
@output_option
def command(output: str) -> int:
    """Check settings, servers, roles and what they talk to; exit code 1 if anything does not work. Changes nothing."""
    findings = _examine()
    rows = [msgspec.structs.asdict(finding) for finding in findings]
    if output == "table":
        rows = [row | {"state": row["state"] if row["state"] == "ok" else row["state"].upper()} for row in rows]
    show(output, rows, titles={"state": "", "check": "", "message": ""})
    return FAILED if any(finding.state == "problem" for finding in findings) else 0


def _examine() -> list[Finding]:
    try:
        settings = load_settings()
    except UsageError as error:
        return [problem("settings", str(error))]
    return asyncio.run(run_checks(CHECKS, settings))
