"""Archives: what the log is about to forget, kept in files exactly as it was (infra/decisions/0016-archives.md)."""
