"""Credentials in a request, for servers that the provider calls: bound by a keyed hash, and never shown.

Promises: another credential is another request; and only what a provider takes for a credential is hidden, never a text
that a model reads. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Final

Seal = Callable[[str], str]
"""What stands in the place of a credential: the same for the same one."""

_SECRET_HEADER: Final = re.compile(r"auth|key|token|secret|cookie|password|session|signature", re.IGNORECASE)


def without_credentials(body: Mapping[str, Any], seal: Seal) -> dict[str, Any]:
    """Return the body with a seal in the place of each credential."""
    changed = dict(body)
    for name in ("extra_body", "provider_specific_header"):
        if isinstance(below := body.get(name), Mapping):
            changed[name] = without_credentials(below, seal)
    for name in ("headers", "extra_headers"):
        if isinstance(headers := body.get(name), Mapping):
            changed[name] = {
                header: _sealed(value, seal) if _SECRET_HEADER.search(str(header)) else value
                for header, value in headers.items()
            }
    if isinstance(servers := body.get("mcp_servers"), list):
        changed["mcp_servers"] = [_server(each, seal) for each in servers]
    if isinstance(tools := body.get("tools"), list):
        changed["tools"] = [
            _server(each, seal) if isinstance(each, Mapping) and each.get("type") == "mcp" else each for each in tools
        ]
    return changed


def _server(server: Any, seal: Seal) -> Any:
    """A hosted MCP server: OpenAI's API has `authorization` and `headers`, Anthropic's `authorization_token`."""
    if not isinstance(server, Mapping):
        return server
    hidden = {name: _sealed(server[name], seal) for name in ("authorization", "authorization_token") if name in server}
    if isinstance(headers := server.get("headers"), Mapping):
        hidden["headers"] = {header: _sealed(value, seal) for header, value in headers.items()}
    return {**server, **hidden}


def _sealed(value: Any, seal: Seal) -> Any:
    return seal(value) if isinstance(value, str) and value else value
