"""`gatehouse` with the edge's own defence switched off: whatever callers say reaches LiteLLM as they say it.

Run as a program, it takes the command's arguments. It shows what the second look at egress stops by itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gatehouse.cli import main
from gatehouse.gateway import edge
from gatehouse.proxy import key_settings


def _as_it_came(_call_type: str, body: Mapping[str, Any], *_: object) -> dict[str, Any]:
    return dict(body)


def _unread(_settings: object) -> None:
    pass


if __name__ == "__main__":
    edge.caller_request = _as_it_came
    key_settings.check_router_settings = _unread  # what is stored with a key is said by callers too
    main()
