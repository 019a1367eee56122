"""Reads the audit log while gateways write to it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def audit_lines(path: Path) -> list[dict[str, Any]]:
    """Return the complete lines of calls; a line that is being written now comes with the next read.

    A line that a dying gateway left torn, with another one after it, is an error.
    """
    return [line for line in _lines(path) if line["event_type"].startswith("chat_completion_")]


def approval_lines(path: Path) -> list[dict[str, Any]]:
    """Return the complete lines of approvals."""
    return [line for line in _lines(path) if line["event_type"].startswith("approval_")]


def _lines(path: Path) -> list[dict[str, Any]]:
    *complete, _ = path.read_bytes().split(b"\n") if path.exists() else [b""]
    return [json.loads(line) for line in complete]
