"""Channels: pure translators between a platform's HTTP and our events. They do no I/O. Adding one is one new module and its test."""
