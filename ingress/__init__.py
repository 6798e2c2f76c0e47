"""Ingress: takes webhooks and API calls and publishes them to the log; answers reads from history."""
