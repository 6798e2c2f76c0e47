"""A role that does nothing but what the supervisor can see: it is ready, logs, and notes its start and end in a journal.

Run as `python -m tests.supervisor.fake_role NAME PORT JOURNAL [late|deaf]`: `late` is never ready, `deaf` ignores SIGTERM.
"""

import functools
import http.server
import json
import os
import signal
import sys
import threading
import urllib.request
from pathlib import Path


def main() -> None:
    """Serve `/readyz` until SIGTERM."""
    name, port, journal, *habits = sys.argv[1:]
    others = [url for url in os.environ.get("OTTLA_READY_URLS", "").split(",") if url]
    stopping = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: None if "deaf" in habits else stopping.set())

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            ready = "late" not in habits and all(_answers(url) for url in others)
            self.send_response(200 if ready else 503)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", int(port)), Handler)
    threading.Thread(target=functools.partial(server.serve_forever, 0.05), daemon=True).start()
    _note(journal, "start", name, others)
    sys.stdout.write(json.dumps({"event": f"{name} begins", "level": "info", "timestamp": "2026-11-02T10:00:00Z", "answer": 42}) + "\n")
    sys.stdout.flush()
    stopping.wait()
    server.shutdown()
    _note(journal, "end", name, others)


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:  # noqa: S310 - made by the supervisor
            return bool(answer.status == 200)
    except OSError:
        return False


def _note(journal: str, what: str, name: str, others: list[str]) -> None:
    note = {
        "what": what,
        "name": name,
        "pid": os.getpid(),
        "waits_for": others,
        "knows": [url for url in os.environ.get("OTTLA_ROLE_URLS", "").split(",") if url],
        "worker": os.environ["OTTLA_WORKER"],
        "kafka": os.environ["OTTLA_KAFKA"],
        "cassandra": os.environ["OTTLA_CASSANDRA"],
    }
    # One write of one short line: several processes append to this file.
    with Path(journal).open("a") as file:
        file.write(json.dumps(note) + "\n")


if __name__ == "__main__":
    main()
