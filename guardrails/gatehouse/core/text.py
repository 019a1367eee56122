"""Text that others control, made fit to be kept and shown."""

from __future__ import annotations

# Longer names are no names; the cap keeps a hostile caller from filling the ledger.
_NAME_CHARS = 256


def clean(text: object) -> str | None:
    """Text a caller controls, made fit for the ledger: not long, no NUL, no lone surrogate (Postgres refuses both)."""
    if text is None:
        return None
    return str(text)[:_NAME_CHARS].replace("\0", "\ufffd").encode("utf-8", "replace").decode("utf-8")


def printable(text: str) -> str:
    """Text without what Postgres refuses: NUL, lone surrogates."""
    return text.replace("\0", "\ufffd").encode("utf-8", "replace").decode("utf-8")
