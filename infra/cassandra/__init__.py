"""Cassandra: the session, the tables, writing rows and reading history."""

from infra.imports import absent

with absent("numpy"):
    import cassandra.cluster  # noqa: F401  # which would offer rows as arrays
