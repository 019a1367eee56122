"""Every error that Gatehouse shows: to a caller over HTTP, and to an operator at the command line."""

from __future__ import annotations


class SetupError(Exception):
    """Something on this machine or in its configuration keeps Gatehouse from starting.

    The message is one sentence that names the thing, the reason and the next step; the command line prints it and exits with 1.
    """
