"""What was seen of a group in one partition at one moment."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """A group in one partition: `at_s` is monotonic, offsets are those of the next record (to handle, kept first, to be written)."""

    at_s: float
    committed: int | None  # None: nothing yet
    begin: int
    end: int
    owner: str = ""  # the client id of the member that has the partition; empty: nobody
    oldest_ms: int | None = None  # when the oldest unprocessed record was written; None: nothing is unprocessed, or it is not known

    @property
    def position(self) -> int:
        """The offset that is handled next: what is committed, as far as the log still has it."""
        return self.begin if self.committed is None else max(self.begin, self.committed)

    @property
    def lag(self) -> int:
        """How many records stand before the group."""
        return max(0, self.end - self.position)

    @property
    def lost(self) -> int:
        """How many records were deleted before the group handled them."""
        return 0 if self.committed is None else max(0, self.begin - self.committed)
