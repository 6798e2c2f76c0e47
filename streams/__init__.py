"""Streams: Faust hosts the decisions: dedupe, enrich, trigger, agent."""
