"""Sinks: consumers with an effect outside Kafka. Each is one module that defines NAME and build; the runner finds them."""
