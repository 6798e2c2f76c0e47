"""Who answers in a replay: the record of what was answered then, or, where it is asked for, another agent."""

import time
from collections.abc import Sequence

from schemas.ids import send_id
from streams.agents.base import Agent, AgentError, Reply, Turn
from streams.decisions import FALLBACK_STEP, REDRIVE_STEP, Configured
from streams.replay.moment import moment
from streams.replay.store import WAS, Answered, Decided, Store

NO_RECORD = "no-record"
"""The cause by which an answer that nobody recorded is known."""

FAILED = "failed"
"""The decision of what no agent answered; also the cause where it is not recorded."""


class RecordedAnswers:
    """Answers from the record alone: it knows no agent, no address and no key, so it can make no call."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def answer(self, whose: Configured, turn: Turn) -> Reply:  # noqa: ARG002  # any agent's answers are in the record
        """Return what was answered then; AgentError with the cause of then, or with NO_RECORD where nothing was recorded."""
        at = moment()
        decided = self._store.was_decided_at(at.partition, at.offset)
        failure = _failed_again(decided, turn)
        if failure:
            raise AgentError(failure, "the agent failed again then", retryable=False)
        send = self._store.send(WAS, turn.send)
        if send is None:
            raise AgentError(NO_RECORD, "nothing was answered then", retryable=False)
        if send.step == FALLBACK_STEP:
            reasons = [each.reason for each in decided if each.decision == FAILED and each.send == turn.send]
            raise AgentError(reasons[0] if reasons else FAILED, "the agent failed then", retryable=False)
        sent = self._store.sent(turn.send)
        # What really went out is what the conversation goes on from.
        return Reply(text=sent.text if sent is not None else send.text, model=send.agent)


def _failed_again(decided: Sequence[Decided], turn: Turn) -> str:
    """Return the cause if a redriven item failed again in this record: it led to no send, though a later redrive of it may have."""
    if any(each.send == turn.send for each in decided):
        return ""
    for each in decided:
        if each.decision == FAILED and not each.send:
            again = send_id(conversation=turn.conversation, cause=each.cause, step=REDRIVE_STEP)
            if again == turn.send:
                return each.reason
    return ""


class OtherAgent:
    """Asks another agent where it is compared, each turn once even over a crash; before that the record answers."""

    def __init__(self, agent: Agent, store: Store) -> None:
        self._agent = agent
        self._store = store
        self._recorded = RecordedAnswers(store)

    async def answer(self, whose: Configured, turn: Turn) -> Reply:
        """Return what the agent says; AgentError if it says nothing."""
        if not moment().is_compared:
            return await self._recorded.answer(whose, turn)
        answered = self._store.answered(turn.send)
        if answered is None:
            answered = await self._ask(turn)
            self._store.note_answer(turn.send, answered)
            self._store.commit()
        if answered.failure:
            raise AgentError(answered.failure, retryable=False)
        return Reply(text=answered.text, model=answered.model, tokens_in=answered.tokens_in, tokens_out=answered.tokens_out)

    async def _ask(self, turn: Turn) -> Answered:
        started = time.monotonic()
        try:
            reply = await self._agent.answer(turn)
        except AgentError as error:
            return Answered(failure=error.cause, took_ms=_ms_since(started))
        return Answered(
            text=reply.text, model=reply.model, tokens_in=reply.tokens_in, tokens_out=reply.tokens_out, took_ms=_ms_since(started)
        )


def _ms_since(started: float) -> int:
    return round(1000 * (time.monotonic() - started))
