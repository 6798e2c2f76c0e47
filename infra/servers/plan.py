"""What differs between the two servers, as data: how each is configured, run and asked whether it serves."""

import os
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from infra.servers.jars import jar_list
from infra.servers.java import find_java
from infra.servers.state import ServerState


@dataclass(frozen=True)
class Plan:
    """One server: `name` as in file names, `title` for people.

    `configure` writes its files and returns the arguments behind the main class; `jvm_options` are for a home;
    `format_class` is run once with the same arguments while `formatted` does not exist; `serves` asks a port.
    """

    name: str
    title: str
    main_class: str
    configure: Callable[[Path, ServerState], Sequence[str]]
    jvm_options: Callable[[Path], Sequence[str]]
    serves: Callable[[int], Awaitable[bool]]
    format_command: Callable[[Path], Sequence[str]] | None = None

    def folder(self, home: Path) -> Path:
        """Where the server's data and configuration are."""
        return home / self.name

    def arguments(self, home: Path) -> Path:
        """Where the options of its Java are; on its command line with an @ before it, so that it tells whose process this is."""
        return self.folder(home) / "java.arguments"

    def log(self, home: Path) -> Path:
        """Where its output goes."""
        return home / "logs" / f"{self.name}.log"


def java_command(plan: Plan, home: Path, arguments: Sequence[str], *, main_class: str = "", jvm_options: Sequence[str] = ()) -> list[str]:
    """Return the command line of a server, kept short: the long part is in a file that `java` reads.

    So the process list shows the main class, the home and nothing else.
    """
    jars = jar_list(plan.name)
    options = [*plan.jvm_options(home), *jvm_options, "-cp", os.pathsep.join(str(jars.folder / jar.name) for jar in jars.jars)]
    path = plan.arguments(home)
    path.write_text("".join(f"{quoted(option)}\n" for option in options), encoding="utf-8")
    return [str(find_java()), f"@{path}", main_class or plan.main_class, *arguments]


def quoted(text: str) -> str:
    """Quote for an argument file of java, where backslashes escape."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def java_environment() -> dict[str, str]:
    """Return the environment of a server: ours without what would change its class path, memory or logging."""
    dropped = ("CLASSPATH", "JAVA_TOOL_OPTIONS", "JDK_JAVA_OPTIONS", "_JAVA_OPTIONS")
    kept = {name: value for name, value in os.environ.items() if name not in dropped and not name.startswith("OTTLA_")}
    # Java 17 cannot open paths with letters beyond ASCII in the C locale; the arenas of glibc are memory beside the heap.
    return kept | {"LC_ALL": "C.UTF-8", "MALLOC_ARENA_MAX": "2"}
