"""Runs `gatehouse` with the edge's defence switched off: every request reaches LiteLLM as its caller wrote it.

Run as a program, it takes the command's arguments. It shows what the second look at egress stops by itself; while the
file exists that GATEHOUSE_TEST_BLIND names, what the HTTP transport stops without even that.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from gatehouse.cli import main
from gatehouse.dialects import ALL_NAMES
from gatehouse.gateway import edge, egress
from gatehouse.pipeline.scope import CallScope, note_names
from gatehouse.proxy import key_settings


def _as_it_came(_call_type: str, body: Mapping[str, Any], *_: object) -> dict[str, Any]:
    return dict(body)


class _Everything(frozenset[str]):
    """Stands for the names of a form's fields, and knows every name."""

    def __contains__(self, _: object) -> bool:
        return True


def _unread(_settings: object) -> None:
    pass


def _note_known_names(call: CallScope, asked: Mapping[str, Any]) -> None:
    """Take unknown names for LiteLLM's own, so that the reader does not refuse them."""
    note_names(call, asked)
    names = call.incoming.names
    call.incoming = replace(call.incoming, names=replace(names, top=names.top & ALL_NAMES))


_check = egress.check


def _check_unless_blind(*args: Any) -> egress.Difference | None:
    return None if Path(os.environ["GATEHOUSE_TEST_BLIND"]).exists() else _check(*args)


if __name__ == "__main__":
    egress.check = _check_unless_blind
    edge.caller_request = _as_it_came
    edge.note_names = _note_known_names
    edge.names_of = lambda _: _Everything()
    key_settings.check_router_settings = _unread  # what is stored with a key is said by callers too
    main()
