"""The registry of channels."""

import re

from schemas.channels import CHANNELS


def test_channels_are_found_by_name_and_by_prefix() -> None:
    """A channel's name is what records carry, its prefix what conversation keys begin with."""
    for channel in CHANNELS.values():
        assert CHANNELS[channel.name] is channel
        assert CHANNELS[channel.prefix] is channel
        assert re.fullmatch(r"[a-z]+", channel.prefix)
    assert CHANNELS["whatsapp"] is CHANNELS["wa"]
