"""How large a run is."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Lengths in seconds, rates a second.

    `warm_up_messages` go through before anything is measured, for the servers' compilers; with 0 they compile little, as `ottla up` has
    them. `rounds`: how often floors and scenario take turns; `seconds`: how long each turn is. Of the pages: `past_conversations` are in
    history, `requests` are made for each page, `pairs` are turns with and without somebody who looks, `scrape_s` lie between two scrapes.

    `ids` are remembered in conversations of `ids_each`, and `busy_ids` in one more; memory is read every `sample_s` for `memory_minutes`.
    """

    seconds: float = 10.0
    warm_up_messages: int = 30_000
    rounds: int = 3
    warm_up_s: float = 5.0
    conversations: int = 200
    connections: int = 64
    latency_rate: float = 50.0
    kill_rate: float = 300.0
    down_s: float = 1.0
    plain_rate: float = 100.0
    model_s: float = 2.0
    turns: int = 3
    workers: int = 4
    honest_rate: float = 100.0
    idle_connections: int = 2_000
    slow_clients: int = 200
    patience_s: float = 180.0
    past_conversations: int = 100_000
    requests: int = 12
    pages_rate: float = 300.0
    pairs: int = 6
    scrape_s: float = 5.0
    ids: int = 10_000_000
    ids_each: int = 10
    busy_ids: int = 100_000
    memory_minutes: float = 30.0
    sample_s: float = 10.0
