"""Takes a request through the readers, the scanner's engines and the masking, without a server."""

from __future__ import annotations

import copy
import json
import re
from typing import Any

from gatehouse.dialects import request_view
from gatehouse.dialects.writing import write_back
from gatehouse.guards.pii.config import Mode, PiiConfig
from gatehouse.guards.pii.engine import Engine
from gatehouse.guards.scan import Scan
from gatehouse.guards.screens.config import ScreenConfig
from gatehouse.guards.screens.engine import ScreenEngine
from gatehouse.pipeline.redaction import masked
from gatehouse.pipeline.seams import joined, with_joined

from tests.support.masking import PLACEHOLDERS

PII = PiiConfig()
_PII, _SCREENS = Engine(PII), ScreenEngine(ScreenConfig(secrets=True, prompt_injection=True))


def scan(text: str) -> Scan:
    return Scan(tuple(_PII.scan(text)), tuple(_SCREENS.scan(text)))


class Scanned:
    """Holds one request.

    Attributes:
        screens: what hit.
        entities: what personal data was found.
        sealed: what of it stands where nothing may be changed.
        body: with placeholders in it.
    """

    def __init__(self, call_type: str, body: dict[str, Any]) -> None:
        self.body = copy.deepcopy(body)
        self.parts = request_view(call_type, self.body, metadata=body.get("metadata") or ()).scanned
        self.joined = joined(self.parts)
        scans = with_joined(
            self.parts,
            [scan(part.text) for part in self.parts],
            self.joined,
            [scan(each.text) for each in self.joined],
            PII,
        )
        self.screens = {hit.screen for each in scans for hit in each.hits}
        self.entities = {found.entity for each in scans for found in each.findings}
        self.sealed = {
            found.entity for part, each in zip(self.parts, scans, strict=True) if part.sealed for found in each.findings
        }
        wanted = [[each for each in found.findings if PII.mode_of(each.entity) is Mode.MASK] for found in scans]
        changes, self.mask = masked(self.parts, wanted, PLACEHOLDERS)
        write_back(self.body, changes)

    @property
    def clean(self) -> bool:
        return not self.screens and not self.entities


def chat(*messages: Any, **more: Any) -> dict[str, Any]:
    return {"model": "gpt-4o", "messages": list(messages), **more}


def user(*texts: str) -> dict[str, Any]:
    return chat({"role": "user", "content": [{"type": "text", "text": text} for text in texts]})


_PLACEHOLDER = re.compile(r"<([A-Z_]+)_[0-9A-Z]{8,10}>")


def numbered(value: Any) -> Any:
    """Return JSON with its placeholders numbered by entity, in their order."""
    seen: dict[str, dict[str, int]] = {}

    def name(match: re.Match[str]) -> str:
        of_entity = seen.setdefault(match[1], {})
        return f"<{match[1]}_{of_entity.setdefault(match[0], len(of_entity) + 1)}>"

    return json.loads(_PLACEHOLDER.sub(name, json.dumps(value)))
