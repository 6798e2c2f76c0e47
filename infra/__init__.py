"""What all roles use: settings, lanes, Kafka, Cassandra, the local servers, the supervisor, the simulated platform, the commands."""
