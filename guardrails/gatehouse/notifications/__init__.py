"""Tells people what waits for them: what they are told, how, and when. The outbox's SQL is in `outbox`."""
