"""Makes text that others control fit to be stored and shown."""

from __future__ import annotations

# No real name is longer; the limit keeps a hostile caller from filling the ledger.
_NAME_CHARS = 256


def clean(text: object) -> str | None:
    """Return a caller's text fit for the ledger: short, without NUL and lone surrogates, which Postgres refuses."""
    if text is None:
        return None
    return str(text)[:_NAME_CHARS].replace("\0", "\ufffd").encode("utf-8", "replace").decode("utf-8")


def printable(text: str) -> str:
    """Return the text without NUL and lone surrogates, which Postgres refuses."""
    return text.replace("\0", "\ufffd").encode("utf-8", "replace").decode("utf-8")
