"""Cassandra: the session, the tables, writing rows and reading history."""
