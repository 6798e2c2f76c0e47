"""How fast the platform lets us send, kept to before it has to say so: each number's messages a second, and each recipient's.

A number's budget counts what goes out and what comes in: a reply stands for itself and for the message that it answers. It is meant over
all workers, so each has the share of it that it has of the partitions. Who waits for it goes by priority, then by order. To one recipient
45 go at once, and then one every six seconds (Meta's pair rate). Both are token buckets (https://en.wikipedia.org/wiki/Token_bucket).
"""

import asyncio
import heapq
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from infra.clock import Clock
from schemas.events.outbound import OutboundEvent
from schemas.topics import PRIORITIES

T = TypeVar("T")

PAIR_BURST = 45
_PAIR_EVERY_S = 6.0
# So much of a second's messages may go at once: what was saved up comes on top of the rate.
_NUMBER_BURST_S = 0.1
BEHIND_MAX = 200
"""So many of a number wait in memory, the others in [ledger]: those of other numbers need the room."""
# What rounding leaves.
_NOTHING = 1e-6
_GONE_KEPT = 100
_KEPT_MAX = 10_000
"""How many numbers and pairs are kept before those are forgotten that are as they were in the beginning."""


class Bucket:
    """Tokens that come at `rate` a second until there are `burst`; it may be overdrawn by one who did not wait."""

    __slots__ = ("_at", "_burst", "_rate", "_tokens")

    def __init__(self, *, rate: float, burst: float, now: float) -> None:
        self._rate = rate
        self._burst = burst
        self._tokens = burst
        self._at = now

    def wait_s(self, tokens: float, now: float) -> float:
        """Return in how many seconds it has so many tokens, or as many as it can have; 0.0 if it has them."""
        self._refill(now)
        missing = min(tokens, self._burst) - self._tokens
        return missing / self._rate if missing > _NOTHING else 0.0

    def take(self, tokens: float, now: float) -> None:
        """Take tokens, whether they are there or not."""
        self._refill(now)
        self._tokens -= tokens

    def is_full(self, now: float) -> bool:
        """Tell whether it is as it was in the beginning."""
        return self.wait_s(self._burst, now) == 0.0

    def _refill(self, now: float) -> None:
        if now > self._at:
            self._tokens = min(self._burst, self._tokens + (now - self._at) * self._rate)
            self._at = now


@dataclass(order=True, slots=True)
class _Waiter:
    rank: int
    order: int
    tokens: float = field(compare=False)
    admitted: asyncio.Future[None] = field(compare=False)


class _Number:
    """A number's bucket and who waits for it."""

    def __init__(self, rate: float, clock: Clock) -> None:
        self.rate = rate
        self._clock = clock
        self._bucket = Bucket(rate=rate, burst=max(2.0, rate * _NUMBER_BURST_S), now=clock.monotonic())
        self._waiting: list[_Waiter] = []
        self._ranks = {rank: [0, 0.0] for rank in range(len(PRIORITIES) + 1)}
        self._timer: asyncio.TimerHandle | None = None

    def before(self, rank: int) -> tuple[int, float]:
        """Return how many wait that would go before one of this rank who comes now, and their tokens."""
        before = [each for other, each in self._ranks.items() if other <= rank]
        return int(sum(count for count, _ in before)), sum(tokens for _, tokens in before)

    def wait_s(self, rank: int, tokens: float) -> float:
        """Return how long one of this rank would wait for so many tokens."""
        ahead = self.before(rank)[1] if self._waiting else 0.0
        return self._bucket.wait_s(tokens, self._clock.monotonic()) + ahead / self.rate

    def take_now(self, tokens: float) -> None:
        """Take tokens before all who wait."""
        self._bucket.take(tokens, self._clock.monotonic())

    async def take(self, rank: int, order: int, tokens: float) -> None:
        """Wait for the tokens behind all that go before, and take them; who is cancelled takes none."""
        admitted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiting, _Waiter(rank, order, tokens, admitted))
        self._count(rank, 1, tokens)
        self._admit()
        try:
            await admitted
        finally:
            self._count(rank, -1, -tokens)
            # While others go before them, those that went away would never come to the front.
            if len(self._waiting) > 2 * self.before(len(PRIORITIES))[0] + _GONE_KEPT:
                self._waiting = [each for each in self._waiting if not each.admitted.done()]
                heapq.heapify(self._waiting)

    def _count(self, rank: int, count: int, tokens: float) -> None:
        self._ranks[rank][0] += count
        self._ranks[rank][1] += tokens

    def is_idle(self) -> bool:
        """Tell whether it can be forgotten: nobody waits, and it is as it was in the beginning."""
        return not self._waiting and self._bucket.is_full(self._clock.monotonic())

    def _admit(self) -> None:
        """Let go whom the tokens are there for, and come back for the next."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._waiting:
            first, now = self._waiting[0], self._clock.monotonic()
            if first.admitted.done():  # it was cancelled
                heapq.heappop(self._waiting)
            elif (wait_s := self._bucket.wait_s(first.tokens, now)) > 0.0:
                self._timer = asyncio.get_running_loop().call_later(wait_s, self._admit)
                return
            else:
                heapq.heappop(self._waiting)
                self._bucket.take(first.tokens, now)
                first.admitted.set_result(None)


class Budgets:
    """The budgets of all numbers and pairs of one worker; `number_rate` and `pair_rate` as the settings say, 0 for no limit."""

    def __init__(self, clock: Clock, *, number_rate: float, pair_rate: float) -> None:
        self._clock = clock
        self._number_rate = number_rate
        self._pair_rate = pair_rate
        self._share = 1.0
        self._numbers: dict[str, _Number] = {}
        self._pairs: dict[str, Bucket] = {}
        self._pairs_max = self._numbers_max = _KEPT_MAX
        self._order = itertools.count()
        self._pairs_waiting = 0

    @property
    def fill_s(self) -> float:
        """How long it takes until what was sent to a recipient does not count any more, seconds; 0.0 without such a limit."""
        return PAIR_BURST * _PAIR_EVERY_S / self._pair_rate if self._pair_rate else 0.0

    @property
    def waiting(self) -> int:
        """How many sends wait for the budget of their number or recipient."""
        return self._pairs_waiting + sum(number.before(len(PRIORITIES))[0] for number in self._numbers.values())

    def begin(self, share: float) -> None:
        """Start afresh with another share of the partitions, 1.0 for all; who waits goes on waiting as it did."""
        self._share = share
        self._numbers = {}
        self._pairs = {}

    def note_sent(self, pair: str, *, ago_s: float) -> None:
        """Learn what another worker sent to a pair, so long ago; to be told in order."""
        if self._pair_rate:
            self._pair(pair, self._clock.monotonic() - ago_s).take(1, self._clock.monotonic() - ago_s)

    def take_at_once(self, outbound: OutboundEvent, rate: float | None) -> bool:
        """Count one more attempt of a send if nobody needs to wait for that; `rate` is what the account says of its number."""
        number = self._number(outbound.account, rate)
        if self._pair_wait_s(outbound) > 0.0 or (number is not None and number.wait_s(_rank(outbound), _tokens(outbound)) > 0.0):
            return False
        self._take_pair(outbound)
        if number is not None:
            number.take_now(_tokens(outbound))
        return True

    def waits_long(self, outbound: OutboundEvent, rate: float | None, *, old_s: float, here_s: float) -> bool:
        """Tell whether a send that must wait should not do so in memory, where `here_s` seconds are allowed.

        For its number: it would wait longer, or behind too many. For its recipient: it would wait longer or, as each of those behind it
        waits in turn, has been in the log (`old_s`) for longer.
        """
        pair_s = self._pair_wait_s(outbound)
        if pair_s > 0.0 and max(pair_s, old_s) > here_s:
            return True
        number = self._number(outbound.account, rate)
        rank = _rank(outbound)
        return number is not None and (number.before(rank)[0] >= BEHIND_MAX or number.wait_s(rank, _tokens(outbound)) > here_s)

    async def take(self, outbound: OutboundEvent, rate: float | None) -> None:
        """Wait until one more attempt of a send is within both budgets, and count it."""
        self._pairs_waiting += 1
        try:
            while (wait_s := self._pair_wait_s(outbound)) > 0.0:  # noqa: ASYNC110  # time is what is awaited
                await asyncio.sleep(wait_s)
        finally:
            self._pairs_waiting -= 1
        self._take_pair(outbound)
        number = self._number(outbound.account, rate)
        if number is not None:
            try:
                await number.take(_rank(outbound), next(self._order), _tokens(outbound))
            except asyncio.CancelledError:
                self.give_back(outbound)
                raise

    def give_back(self, outbound: OutboundEvent) -> None:
        """Not count the last attempt for the recipient, for it was not made."""
        known = self._pairs.get(outbound.conversation)
        if known is not None:
            known.take(-1, self._clock.monotonic())

    def _pair_wait_s(self, outbound: OutboundEvent) -> float:
        known = self._pairs.get(outbound.conversation)
        return known.wait_s(1, self._clock.monotonic()) if known is not None else 0.0

    def _take_pair(self, outbound: OutboundEvent) -> None:
        if self._pair_rate:
            now = self._clock.monotonic()
            self._pair(outbound.conversation, now).take(1, now)

    def _pair(self, name: str, now: float) -> Bucket:
        known = self._pairs.get(name)
        if known is None:
            self._pairs_max = _forget(self._pairs, self._pairs_max, lambda each: each.is_full(self._clock.monotonic()))
            known = self._pairs[name] = Bucket(rate=self._pair_rate / _PAIR_EVERY_S, burst=PAIR_BURST, now=now)
        return known

    def _number(self, name: str, rate: float | None) -> _Number | None:
        whole = self._number_rate if rate is None else rate
        if not whole:
            return None
        known = self._numbers.get(name)
        if known is None or known.rate != whole * self._share:
            self._numbers_max = _forget(self._numbers, self._numbers_max, _Number.is_idle)
            known = self._numbers[name] = _Number(whole * self._share, self._clock)
        return known


def _forget(kept: dict[str, T], most: int, is_unused: Callable[[T], bool]) -> int:
    """Forget those that are as they were in the beginning, once so many are kept; return at how many to do so again."""
    if len(kept) < most:
        return most
    for name in [name for name, each in kept.items() if is_unused(each)]:
        del kept[name]
    return max(_KEPT_MAX, 2 * len(kept))


def _rank(outbound: OutboundEvent) -> int:
    return PRIORITIES.index(outbound.priority) if outbound.priority in PRIORITIES else len(PRIORITIES)


def _tokens(outbound: OutboundEvent) -> float:
    # A reply knows the webhook that it answers.
    return 1.0 if outbound.raw is None else 2.0
