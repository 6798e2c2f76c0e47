"""A real Kafka and a real Cassandra on this machine alone, from their Maven jars: fetched, started, watched, stopped."""
