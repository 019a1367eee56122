"""Tells people about approvals: what the messages say, how and when they are sent. `outbox` holds the SQL."""
