"""Faults on demand: how often each happens, for how many times, drawn with a seed so that a run can be repeated."""

import random
import secrets
from collections.abc import Mapping
from typing import Annotated

import msgspec
from msgspec import Meta

_SEED_MAX = 1 << 31


class Fault(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """How one fault behaves.

    It hits with `probability`, at most `count` times if that is given. `seconds` is how long it lasts (slow, late), `status` and `code`
    are the HTTP status and the error code of its answer (0: the usual one of this fault), `accepted` says that the request counts
    although its answer is broken, `retry_after_s` becomes the header Retry-After.
    """

    probability: Annotated[float, Meta(ge=0, le=1)] = 1.0
    count: Annotated[int, Meta(ge=1)] | None = None
    seconds: Annotated[float, Meta(ge=0, le=3600)] = 1.0
    status: Annotated[int, Meta(ge=0, le=599)] = 0
    code: int = 0
    accepted: bool = False
    retry_after_s: Annotated[int, Meta(ge=0)] = 0


class Faults:
    """The faults that are on now."""

    def __init__(self, known: frozenset[str], *, seed: int | None = None) -> None:
        self._known = known
        self._active: dict[str, Fault] = {}
        self._left: dict[str, int] = {}
        self._hits: dict[str, int] = {}
        self.reseed(secrets.randbelow(_SEED_MAX) if seed is None else seed)

    def reseed(self, seed: int) -> None:
        """Start the draws again from a seed."""
        self.seed = seed
        self.random = random.Random(seed)  # noqa: S311  # repeatable on purpose, nothing secret is drawn

    def turn(self, name: str, fault: Fault | None) -> None:
        """Turn a fault on, or off with None; ValueError with a sentence if there is no such fault."""
        if name not in self._known:
            raise ValueError(f"There is no fault {name!r}; there are {', '.join(sorted(self._known))}.")
        self._active.pop(name, None)
        self._left.pop(name, None)
        if fault is not None:
            self._active[name] = fault
            if fault.count is not None:
                self._left[name] = fault.count

    def update(self, changes: Mapping[str, Fault | None]) -> None:
        """Turn several on or off; with an unknown name among them none is changed and ValueError raised."""
        for name in changes:
            if name not in self._known:
                self.turn(name, None)
        for name, fault in changes.items():
            self.turn(name, fault)

    def clear(self) -> None:
        """Turn all off and forget how often they hit."""
        self._active.clear()
        self._left.clear()
        self._hits.clear()

    def draw(self, name: str) -> Fault | None:
        """Return the fault if it hits this time."""
        fault = self._active.get(name)
        if fault is None or (fault.probability < 1 and self.random.random() >= fault.probability):
            return None
        if name in self._left:
            self._left[name] -= 1
            if not self._left[name]:
                del self._active[name], self._left[name]
        self._hits[name] = self._hits.get(name, 0) + 1
        return fault

    def first(self, *names: str) -> tuple[str, Fault] | None:
        """Return the first of these that hits; those after it are not drawn."""
        for name in names:
            fault = self.draw(name)
            if fault is not None:
                return name, fault
        return None

    def show(self) -> dict[str, object]:
        """Return the seed, what is on, how many are left of those with a count, and how often each hit."""
        active = {name: msgspec.to_builtins(fault) for name, fault in self._active.items()}
        return {"seed": self.seed, "faults": active, "left": dict(self._left), "hits": dict(self._hits)}
