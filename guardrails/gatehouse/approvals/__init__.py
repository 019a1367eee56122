"""Approvals: what one binds to, how it lives, how a held call waits for it. Their SQL is in `store`."""
