"""What the broker says of a group's place in the log, asked without being a member of the group."""

from collections.abc import Collection

from infra.kafka.questions import BEGINNING, END, Place, Questions, commits_of, first_offsets, offsets_at
from infra.retries import AwayError
from infra.settings import Settings


class GroupLog:
    """Reads committed offsets of a group, and where records stand; topics are named without the installation's prefix.

    Connects when it is first asked. Every question raises AwayError if the broker does not answer it in time. No record is fetched for
    it but the one that `first_at` asks for: streams ask every second.
    """

    def __init__(self, settings: Settings, *, group: str, timeout_s: float = 15.0) -> None:
        self._prefix = settings.topic_prefix
        self._group = settings.topic_prefix + group
        self._questions = Questions(settings, timeout_s=timeout_s)

    async def close(self) -> None:
        """Close the connection."""
        await self._questions.close()

    async def committed(self, topic: str, partition: int) -> int:
        """Return the offset that the group has committed, 0 if none."""
        place = self._place(topic, partition)
        found = await self._questions.ask(lambda client: commits_of(client, self._group, [place]))
        return found[place].offset if place in found else 0

    async def next_to_read(self, topic: str, partition: int) -> int:
        """Return the offset that the group has to read next: what it has committed, as far as the log still has it."""
        return max(await self._beginning(self._place(topic, partition)), await self.committed(topic, partition))

    async def ends(self, topic: str, partitions: Collection[int]) -> dict[int, int]:
        """Return the offset after the last record of each partition."""
        places = {self._place(topic, number): END for number in partitions}
        found = await self._questions.ask(lambda client: offsets_at(client, places))
        return {place.partition: end or 0 for place, end in found.items()}

    async def first_at(self, topic: str, partition: int, offset: int) -> int:
        """Return the offset of the first record at or above `offset`; AwayError if the broker does not have one yet."""
        place = self._place(topic, partition)
        begin = max(offset, await self._beginning(place))
        found = await self._questions.ask(lambda client: first_offsets(client, {place: begin}))
        if place not in found:
            raise AwayError(f"Kafka has no record of {place.topic}, partition {partition}, from offset {begin} on yet")
        return found[place]

    async def _beginning(self, place: Place) -> int:
        found = await self._questions.ask(lambda client: offsets_at(client, {place: BEGINNING}))
        return found[place] or 0

    def _place(self, topic: str, partition: int) -> Place:
        return Place(self._prefix + topic, partition)
