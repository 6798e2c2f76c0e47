"""The figures of all roles' /metrics together: those of this process, and of the others that `OTTLA_ROLE_URLS` names."""

import asyncio
import time
from collections.abc import Iterable, Sequence

import aiohttp
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

_ANSWER_S = 2.0
_FRESH_S = 1.0
_TEXT_BYTES_MAX = 4 << 20

Sample = tuple[str, dict[str, str], float]


class Figures:
    """Samples of several processes; `away` names the addresses that did not answer."""

    def __init__(self, samples: Iterable[Sample], *, away: Sequence[str] = ()) -> None:
        self._samples: dict[str, list[tuple[dict[str, str], float]]] = {}
        for name, labels, value in samples:
            self._samples.setdefault(name, []).append((labels, value))
        self.away = tuple(away)

    def has(self, name: str, **labels: str) -> bool:
        """Tell whether any process counts this."""
        return any(labels.items() <= each.items() for each, _ in self._samples.get(name, ()))

    def total(self, name: str, **labels: str) -> int:
        """Return the sum over all processes of the samples that have these labels, whatever else they have; 0 without any."""
        return round(sum(value for each, value in self._samples.get(name, ()) if labels.items() <= each.items()))


class RoleFigures:
    """Asks the other roles; made for one event loop."""

    def __init__(self, urls: str) -> None:
        self._urls = [url for url in urls.split(",") if url]
        self._known = Figures(())
        self._read_at = float("-inf")

    async def read(self) -> Figures:
        """Return the figures of a moment ago, at most a second; a role that is away is missing in them."""
        if time.monotonic() - self._read_at > _FRESH_S:
            texts = await asyncio.gather(*(self._text(url) for url in self._urls))
            away = [url for url, text in zip(self._urls, texts, strict=True) if text is None]
            known = [generate_latest().decode(), *(text for text in texts if text is not None)]
            self._known = Figures(await asyncio.to_thread(samples_of, known), away=away)
            self._read_at = time.monotonic()
        return self._known

    async def restart(self, admin_key: str) -> tuple[list[str], list[str]]:
        """Ask every role to drain and end; return the workers that do, and a sentence for each that does not."""
        restarting: list[str] = []
        refused: list[str] = []
        async with _session() as session:
            for url in self._urls:
                try:
                    async with session.post(f"{url}/restart", headers={"Authorization": f"Bearer {admin_key}"}) as response:
                        answer = await response.json()
                        worker = str(answer.get("worker", url))
                        if response.status == 202:  # noqa: PLR2004
                            restarting.append(worker)
                        else:
                            refused.append(f"{worker}: {answer.get('detail', response.status)}")
                except (aiohttp.ClientError, TimeoutError, ValueError):
                    refused.append(f"{url} does not answer")
        return restarting, refused

    async def _text(self, url: str) -> str | None:
        try:
            async with _session() as session, session.get(f"{url}/metrics") as response:
                if response.status != 200 or (response.content_length or 0) > _TEXT_BYTES_MAX:  # noqa: PLR2004
                    return None
                return (await response.read()).decode("utf-8", "replace")
        except (aiohttp.ClientError, TimeoutError):
            return None


def _session() -> aiohttp.ClientSession:
    return aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_ANSWER_S))


def samples_of(texts: Iterable[str]) -> list[Sample]:
    """Return the samples in what processes answer at /metrics; there are none in a text of anything else."""
    found: list[Sample] = []
    for text in texts:
        try:
            found += [(each.name, each.labels, each.value) for family in text_string_to_metric_families(text) for each in family.samples]
        except (ValueError, IndexError):
            continue  # what answers there is no role of ours
    return found
