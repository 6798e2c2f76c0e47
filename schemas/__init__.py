"""The contract between the services: topics, events, ids and channels. Imports none of the services and no Kafka client."""
