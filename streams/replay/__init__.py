"""Replay: the real decisions over the log as it was, with every effect fenced, compared with what was decided and sent then."""
