"""Reads the audit log while gateways write to it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def audit_lines(path: Path) -> list[dict[str, Any]]:
    """The lines that are complete; one that is being written at this moment comes with the next look.

    A line that a dying gateway left torn, with another one after it, is an error.
    """
    *complete, _ = path.read_bytes().split(b"\n") if path.exists() else [b""]
    return [json.loads(line) for line in complete]
