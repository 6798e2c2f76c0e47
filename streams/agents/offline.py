"""The agent that needs nothing: it answers from a knowledge file, and says so when it does not know.

The same message gets the same answer everywhere and for ever, in well under a millisecond; that is what demonstrations, tests and figures
of speed need. `instructions` are for models and change nothing here.
"""

from functools import lru_cache
from pathlib import Path

import orjson

from schemas.events.config import Agent as AgentConfig
from streams.agents.base import AgentBuildError, Context, Reply, Turn
from streams.agents.passages import TEXT_LENGTH_MAX, KnowledgeError, Passage, read_passages
from streams.agents.search import PassageSearch, split_words

KIND = "offline"
MODEL = "offline-bm25"

COVERAGE_MIN = 0.45
"""From here on a passage counts as an answer: tests/streams/agents/test_offline_threshold.py shows what that lets through and keeps out."""

ANSWER_LENGTH_MAX = 590
_TITLE_LENGTH_MAX = ANSWER_LENGTH_MAX - TEXT_LENGTH_MAX - 2
_TOPICS_NAMED = 3
_OWN_KNOWLEDGE = Path(__file__).parent / "knowledge" / "abcd_guidelines.json"

_SMALL_TALK = {kind: frozenset(words) for kind, words in orjson.loads(Path(__file__).with_name("small_talk.json").read_bytes()).items()}


class OfflineAgent:
    """Answers from one knowledge file."""

    def __init__(self, search: PassageSearch, *, topics: tuple[str, ...]) -> None:
        self._search = search
        about = f"but I can help with {_listed(topics)}" if topics else "could you put it in other words"
        self._unknown = f"I'm sorry, I don't know that one, {about}."
        self._greeting = f"Hello! Ask me about {_listed(topics)}." if topics else "Hello! What would you like to know?"

    async def answer(self, turn: Turn) -> Reply:
        """Return the passage that speaks of the message, a greeting for a greeting, or that the agent does not know."""
        talk = _small_talk(turn.text)
        if talk == "greetings":
            return Reply(text=self._greeting, model=MODEL)
        if talk == "thanks":
            return Reply(text="You're welcome!", model=MODEL)
        finding = self._search.find(turn.text)
        if finding is None or finding.coverage < COVERAGE_MIN:
            return Reply(text=self._unknown, model=MODEL, known=False)
        return Reply(text=_spoken(finding.passage), model=MODEL)


def build(agent: AgentConfig, context: Context) -> OfflineAgent:  # noqa: ARG001 - every kind is built alike
    """Return an agent over `agent.knowledge`, a path, or over the handbook that comes with Ottla; AgentBuildError."""
    path = Path(agent.knowledge) if agent.knowledge else _OWN_KNOWLEDGE
    try:
        search, topics = _load(path.resolve(), path.stat().st_mtime_ns)
    except OSError as error:
        raise AgentBuildError(f"Agent {agent.id} cannot read its knowledge {path}: {error.strerror}.") from None
    except orjson.JSONDecodeError as error:
        raise AgentBuildError(f"Agent {agent.id} needs JSON as its knowledge, and {path} is none: {error}.") from None
    except KnowledgeError as error:
        raise AgentBuildError(f"Agent {agent.id} cannot use its knowledge {path}: {error}.") from None
    return OfflineAgent(search, topics=topics)


@lru_cache(maxsize=64)
def _load(path: Path, changed_at_ns: int) -> tuple[PassageSearch, tuple[str, ...]]:  # noqa: ARG001 - a changed file is another one
    """Return the index over a file and what the file is about; agents with one file share one index."""
    passages = read_passages(orjson.loads(path.read_bytes()))
    topics = dict.fromkeys(passage.titles[0] for passage in passages if passage.titles)
    return PassageSearch(passages), tuple(topics)[:_TOPICS_NAMED]


def _small_talk(text: str) -> str:
    """Return `thanks` or `greetings` for a message that is nothing else, otherwise an empty string."""
    words = set(split_words(text[:100].casefold()))
    if not words <= _SMALL_TALK["thanks"] | _SMALL_TALK["greetings"] | _SMALL_TALK["fillers"]:
        return ""
    return next((kind for kind in ("thanks", "greetings") if words & _SMALL_TALK[kind]), "")


def _spoken(passage: Passage) -> str:
    title = passage.titles[-1][:_TITLE_LENGTH_MAX] if passage.titles else ""
    if not title:
        return passage.text
    return f"{title} {passage.text}" if title.endswith(("?", "!", ".", ":")) else f"{title}: {passage.text}"


def _listed(topics: tuple[str, ...]) -> str:
    short = [topic[:60] for topic in topics]
    return short[0] if len(short) == 1 else f"{', '.join(short[:-1])} and {short[-1]}"
