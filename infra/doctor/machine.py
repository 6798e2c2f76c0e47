"""Checks of this machine: settings, disk, Java and the servers' jars."""

import asyncio
import shutil
from pathlib import Path

from infra.doctor.finding import Finding, ok, problem, warning
from infra.servers.jars import is_fetched, jar_list
from infra.servers.java import find_java
from infra.settings import Settings, setting_origins, unknown_variables

_GIB = 1 << 30
_DISK_WARNING_GIB = 5.0
_DISK_PROBLEM_GIB = 1.0
_OWN_SECRETS = {
    "OTTLA_WHATSAPP_APP_SECRET": "every webhook of the platform is refused with 401: copy the app secret from the app's dashboard",
    "OTTLA_WHATSAPP_TOKEN": "the platform refuses every send: set a token of the app",
    "OTTLA_WHATSAPP_VERIFY_TOKEN": "the platform cannot verify the webhook's address: set what you entered in its dashboard",
}


async def check_settings(settings: Settings) -> list[Finding]:
    """Look for variables that nobody reads and for secrets that cannot be the platform's."""
    found = [warning("settings", sentence) for sentence in unknown_variables()]
    made = {setting.variable for setting in setting_origins() if setting.origin == "made"}
    if settings.whatsapp_api and "127.0.0.1" not in settings.whatsapp_api and "localhost" not in settings.whatsapp_api:
        found += [
            problem("settings", f"OTTLA_WHATSAPP_API names a platform and {variable} is not set, so {consequence}.")
            for variable, consequence in _OWN_SECRETS.items()
            if variable in made
        ]
    return found or [ok("settings", "Every OTTLA_ variable is known and usable.")]


async def check_disk(settings: Settings) -> list[Finding]:
    """Look at the room for logs, topics and tables."""
    free_gib = shutil.disk_usage(_existing(settings.home)).free / _GIB
    message = f"{free_gib:.1f} GiB are free for OTTLA_HOME={settings.home}"
    if free_gib < _DISK_PROBLEM_GIB:
        return [problem("disk", f"Only {message}: Kafka and Cassandra stop at a full disk, so free some or move OTTLA_HOME.")]
    if free_gib < _DISK_WARNING_GIB:
        return [warning("disk", f"{message}, which a busy day fills: free some or move OTTLA_HOME.")]
    return [ok("disk", f"{message}.")]


async def check_local_servers(settings: Settings) -> list[Finding]:
    """Look for the Java and the jars of the servers that run here."""
    local = [name for name in ("kafka", "cassandra") if not getattr(settings, name)]
    if not local:
        return [ok("local servers", "None are needed: OTTLA_KAFKA and OTTLA_CASSANDRA are set.")]
    java = await asyncio.to_thread(find_java)
    missing = [jars.title for jars in map(jar_list, local) if not is_fetched(jars)]
    if missing:
        return [
            warning(
                "local servers", f"The jars of {' and '.join(missing)} are not fetched yet: `ottla infra fetch` does it, or `ottla up`."
            )
        ]
    return [ok("local servers", f"The jars are there, and {java} runs them.")]


def _existing(path: Path) -> Path:
    return path if path.exists() or path == path.parent else _existing(path.parent)
