"""How far consumer groups are behind, in messages and in seconds, and how they are doing."""
