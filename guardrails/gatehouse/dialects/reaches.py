"""What a request has its provider reach out to: servers, links, and what the provider keeps. Pure.

A provider that opens a link or calls a server carries words of the conversation there, past every stage of the gateway.
Promises: each such field of the APIs is a fact for the rules, and a server whose tools the provider itself would call
(hosted MCP) is refused unless policy.yaml names it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final
from urllib.parse import SplitResult, urlsplit

from gatehouse.errors import PolicyDenied
from gatehouse.shapes import FilePart
from gatehouse.shapes.parts import plain, value_at

_HOST: Final = re.compile(r"[a-z0-9.-]{1,253}|\[[0-9a-f:.]{2,45}\]", re.ASCII)
# Tools of the providers that look things up outside, by how their types begin.
_LOOKS_OUTSIDE: Final = ("web_search", "web_fetch", "browser", "google_search", "x_search")
# Where LiteLLM itself is asked for servers that the operator gave it.
_OPERATORS_OWN: Final = "litellm_proxy"
_MAX_FACTS: Final = 100


def reaches(body: Mapping[str, Any], files: Iterable[FilePart]) -> tuple[str, ...]:
    """Name what is reached: `mcp:HOST`, `connector:NAME`, `link:HOST`, `prompt`, `vector_store`, `web`.

    Args:
        files: those that were found in the body.
    """
    found: dict[str, None] = {}
    for _, address in _servers(body):
        found[_named(address)] = None
    for part in files:
        for link in _links(value_at(body, part.path)):
            found[f"link:{_host(link)}"] = None
    prompt = body.get("prompt")
    if isinstance(prompt, Mapping) and prompt.get("id"):
        found["prompt"] = None
    for _, tool in _tools(body):
        kind = tool.get("type")
        if tool.get("vector_store_ids") or kind == "file_search":
            found["vector_store"] = None
        if isinstance(kind, str) and kind.startswith(_LOOKS_OUTSIDE):
            found["web"] = None
    if isinstance(body.get("web_search_options"), Mapping):
        found["web"] = None
    return tuple(sorted(found))[:_MAX_FACTS]


def check_servers(body: Mapping[str, Any], allowed: Iterable[str]) -> None:
    """Refuse servers whose tools the provider itself would call, but for those that policy.yaml names.

    Args:
        allowed: addresses, each of which stands for all below it, and names of connectors.

    Raises:
        PolicyDenied: names the field.
    """
    names = tuple(allowed)
    for where, address in _servers(body):
        if not any(_is_below(address, name) for name in names):
            raise PolicyDenied(
                f"{where}: the model's provider would call that server by itself, which policy.yaml does not allow. "
                "Leave it out, or have an administrator name it under hosted_mcp.allow.",
                policies=("hosted_mcp",),
                param=where,
            )


def _servers(body: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Each server, with the field that names it."""
    for where, tool in _tools(body):
        named = [name for name in ("server_url", "connector_id") if tool.get(name) is not None]
        for name in named:
            yield f"{where}.{name}", tool[name]
        if not named and tool.get("type") == "mcp":
            yield f"{where}.type", None
    servers = body.get("mcp_servers")
    if isinstance(servers, list):
        for number, server in enumerate(servers):
            yield f"mcp_servers[{number}]", server.get("url") if isinstance(server, Mapping) else server
    elif servers is not None:
        yield "mcp_servers", None


def _tools(body: Mapping[str, Any], within: str = "") -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Each tool with its place, those inside a group of tools too."""
    listed = body.get("tools")
    for number, tool in enumerate(listed if isinstance(listed, list) else ()):
        if isinstance(tool, Mapping):
            yield f"{within}tools[{number}]", tool
            yield from _tools(tool, f"{within}tools[{number}].")


def _named(address: Any) -> str:
    if isinstance(address, str) and "/" not in address:
        return f"connector:{plain(address) or 'unknown'}"
    return f"mcp:{_host(address)}"


def _is_below(address: Any, allowed: str) -> bool:
    if not isinstance(address, str):
        return False
    if "://" not in allowed:
        return address == allowed or (allowed == _OPERATORS_OWN and address.startswith(f"{allowed}/"))
    one, other = _parts(address), _parts(allowed)
    if one is None or other is None or _origin(one) != _origin(other):
        return False
    base = other.path.rstrip("/")
    return one.path == base or one.path.startswith(f"{base}/")


def _origin(parts: SplitResult) -> tuple[str, str | None, int]:
    return parts.scheme, parts.hostname, parts.port or (443 if parts.scheme == "https" else 80)


def _parts(address: str) -> SplitResult | None:
    """An address that no reader reads in another way; None for any other."""
    if not re.fullmatch(r"[!-~]+", address) or "\\" in address or "@" in address.partition("://")[2].partition("/")[0]:
        return None
    try:
        parts = urlsplit(address)
        _ = parts.port
    except ValueError:
        return None
    # What a server takes for the folder above.
    if re.search(r"(?:^|/)(?:\.|%2e){1,2}(?:/|$)", parts.path, re.IGNORECASE) or not parts.hostname:
        return None
    return parts


def _links(value: Any) -> Iterator[str]:
    """The address in a part of a message, under whichever of its names it stands."""
    if isinstance(value, str):
        if value[:8].lower().startswith(("http://", "https://")) or value[:5].lower() in ("gs://", "s3://"):
            yield value
    elif isinstance(value, Mapping):
        for name in ("url", "image_url", "file_url", "source", "file_data", "data", "file"):
            yield from _links(value.get(name))


def _host(address: Any) -> str:
    try:
        host = urlsplit(address).hostname if isinstance(address, str) else None
    except ValueError:
        host = None
    return host if host and _HOST.fullmatch(host) else "unknown"
