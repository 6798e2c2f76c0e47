"""What an endpoint takes, said beside it for /openapi.json: the parameters of its query, its headers and its body."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

E = TypeVar("E", bound=Callable[..., Any])

_ATTRIBUTE = "ottla_takes"


@dataclass(frozen=True)
class Parameter:
    """One parameter of a query or one header: what it is for, and its JSON schema."""

    description: str
    schema: Mapping[str, Any] = field(default_factory=lambda: {"type": "string"})


@dataclass(frozen=True)
class Takes:
    """All that an endpoint takes beside its path; `body` is a type for msgspec, or a JSON schema."""

    query: Mapping[str, Parameter] = field(default_factory=dict)
    headers: Mapping[str, Parameter] = field(default_factory=dict)
    body: Any = None


NOTHING = Takes()

BEFORE = Parameter("the cursor that the page before answered")
LIMIT = Parameter("how many entries a page may have", {"type": "integer", "minimum": 1})
DRY_RUN = Parameter("only say what would be done", {"type": "string", "enum": ["true", "1"]})


def takes(**what: Any) -> Callable[[E], E]:
    """Say of an endpoint what it takes, in the words of `Takes`."""

    def said(endpoint: E) -> E:
        setattr(endpoint, _ATTRIBUTE, Takes(**what))
        return endpoint

    return said


def taken_by(endpoint: Callable[..., Any]) -> Takes:
    """Return what an endpoint takes."""
    found: Takes = getattr(endpoint, _ATTRIBUTE, NOTHING)
    return found
