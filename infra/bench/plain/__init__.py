"""What a message costs, and what a kill does to it, where the same libraries are used as their manuals show, with nothing of ours between.

One module for each program, run as a process of its own: `intake` takes webhooks into [plain-inbound] and [plain-statuses], `agent` is a
Faust agent that remembers ids in a table, asks the model and writes [plain-outbound], `sender` posts and writes [plain-sent], `history`
writes rows. They check signatures and wait for the broker where that is one line; offsets are committed as the libraries do it unasked.
They do less than Ottla: no marks of reading, no turns for the model, no retries, six rows for ten.
"""

INBOUND, STATUSES, OUTBOUND, SENT = TOPICS = ("plain-inbound", "plain-statuses", "plain-outbound", "plain-sent")
"""The topics, without the installation's prefix."""

AGENT, SENDER, HISTORY = ("plain-agent", "plain-sender", "plain-history")
"""The groups, without the installation's prefix. That of the agent is Faust's id of the application."""

READS = {AGENT: (INBOUND,), SENDER: (OUTBOUND,), HISTORY: (INBOUND, SENT, STATUSES)}
"""Which topics each group reads."""
