"""Channels: pure translators between a platform's HTTP and our events. They do no I/O.

Adding one is one new module or package with its test, and its name in the tuple below.
"""

from schemas.channels.base import Channel
from schemas.channels.whatsapp import WhatsApp

_ALL: tuple[Channel, ...] = (WhatsApp(),)

CHANNELS: dict[str, Channel] = {name: channel for channel in _ALL for name in (channel.name, channel.prefix)}
"""Every channel, by its name and by the prefix of its conversation keys."""
