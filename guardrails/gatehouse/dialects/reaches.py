"""Finds what a request makes its provider reach out to: servers, links, and data that the provider stores. Pure.

A provider that opens a link or calls a server carries words of the conversation there, past every stage of the gateway.
The data that it stores belongs to the operator's account, which all callers share: an id gives access to it. Promises:
each such field of the APIs is a fact for the rules; a server whose tools the provider would call itself (hosted MCP),
and a stored file, vector store, prompt or skill, are refused unless policy.yaml names them.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any, Final
from urllib.parse import SplitResult, urlsplit

from gatehouse.core.errors import PolicyDenied, TooLarge
from gatehouse.dialects.canonical import CanonicalRequest
from gatehouse.dialects.parts import Path, plain, shown, value_at
from gatehouse.dialects.stored import CACHED_PROMPT, CONTAINER, FILE, PROMPT, SKILL, VECTOR_STORE, in_account

_HOST: Final = re.compile(r"[a-z0-9.-]{1,253}|\[[0-9a-f:.]{2,45}\]", re.ASCII)
# The beginnings of the types of the providers' tools that look things up outside.
_LOOKS_OUTSIDE: Final = ("web_search", "web_fetch", "browser", "google_search", "x_search")
# The address that asks LiteLLM itself for servers that the operator configured.
_OPERATORS_OWN: Final = "litellm_proxy"
# A longer list would cost the rules time, and a cut one would hide the rest from them.
MAX_FACTS: Final = 1_000
# The facts' names for stored data; the kinds that are also a fact without their id; and the kind that callers receive
# in their own answers, so that it is not refused.
_FACT_OF: Final[Mapping[str, str]] = {
    FILE: "file",
    VECTOR_STORE: "vector_store",
    PROMPT: "prompt",
    CACHED_PROMPT: "cached_prompt",
    SKILL: "skill",
    CONTAINER: "container",
}
_WITHOUT_ID: Final = frozenset({PROMPT, VECTOR_STORE})
_FROM_ANSWERS: Final = frozenset({CONTAINER})
_ID: Final = re.compile(r"[A-Za-z0-9._:/@+=~%-]{1,512}", re.ASCII)


def reaches(request: CanonicalRequest) -> tuple[str, ...]:
    """Return what is reached: `mcp:HOST`, `connector:NAME`, `link:HOST`, `web`, and `file:ID`, `vector_store:ID`,
    `prompt:ID`, `cached_prompt:ID`, `skill:ID`, `container:ID`.

    Raises:
        TooLarge: there is more than rules can be asked about.
    """
    body = request.fields
    found = {fact for _, _, fact in stored_data(request)}
    found.update(_FACT_OF[part.what] for part in request.stored if part.what in _WITHOUT_ID)
    found.update(_named(address) for _, address in _servers(body))
    for file in request.files:
        found.update(f"link:{_host(link)}" for link in _links(value_at(body, file.path)))
    for part in request.stored:
        for _, name in _ids(value_at(body, part.path), part.path) if part.what == FILE else ():
            found.update(f"link:{_host(link)}" for link in _links(name))
    for _, tool in _all_tools(body):
        kind = tool.get("type")
        if kind == "file_search":
            found.add("vector_store")
        if isinstance(kind, str) and kind.startswith(_LOOKS_OUTSIDE):
            found.add("web")
    if isinstance(body.get("web_search_options"), Mapping):
        found.add("web")
    if len(found) > MAX_FACTS:
        raise TooLarge(
            f"The request makes the provider reach out to more than {MAX_FACTS:,} files, links and servers. Send fewer."
        )
    return tuple(sorted(found))


def without_ids(facts: Iterable[str]) -> tuple[str, ...]:
    """Return the facts of a request that was not scanned for personal data yet, without ids, which may hold some."""
    kinds = _FACT_OF.values()
    return tuple(sorted({kind if (kind := fact.partition(":")[0]) in kinds else fact for fact in facts}))


def stored_data(request: CanonicalRequest) -> Iterator[tuple[Path, str, str]]:
    """Yield the stored data that the request refers to: the place of its id, what it is, and the fact.

    It does not include references that a client only repeats from earlier answers, such as a citation.
    """
    body = request.fields
    for part in request.stored:
        if part.what in _FACT_OF:
            for path, name in _ids(value_at(body, part.path), part.path):
                if part.what != FILE or not _is_link(name):
                    yield path, part.what, f"{_FACT_OF[part.what]}:{_plain_id(name)}"
    for file in request.files:
        for link in _links(value_at(body, file.path)):
            if in_account(link):
                yield file.path, FILE, f"{_FACT_OF[FILE]}:{_plain_id(link)}"


def check_stored_data(request: CanonicalRequest, allowed: Collection[str]) -> None:
    """Refuse data that a provider stores, except what policy.yaml names.

    Args:
        allowed: facts such as `file:file-abc`; one that ends in `*` stands for any ending.

    Raises:
        PolicyDenied: it names the field.
    """
    refused = {*refused_data((fact for _, _, fact in stored_data(request)), allowed)}
    for path, what, fact in stored_data(request):
        if fact not in refused:
            continue
        where = shown(path)
        raise PolicyDenied(
            f"{where}: this names {what} that the provider stores in an account that all teams share, and policy.yaml "
            "does not list it. Send its content in the request instead. Or have an administrator add its id as "
            f'"{_FACT_OF[what]}:ID" to provider_data.allow in policy.yaml, or for your team alone to '
            "provider_data.teams.",
            policies=PROVIDER_DATA,
            param=where,
        )


def refused_data(facts: Iterable[str], allowed: Collection[str]) -> list[str]:
    """Return those of a request's facts that name stored data which policy.yaml does not list.

    Args:
        allowed: see `check_stored_data`.
    """
    beginnings = tuple(entry[:-1] for entry in allowed if entry.endswith("*"))
    kinds = tuple(f"{fact}:" for what, fact in _FACT_OF.items() if what not in _FROM_ANSWERS)
    return [fact for fact in facts if fact.startswith(kinds) and not _is_listed(fact, allowed, beginnings)]


PROVIDER_DATA: Final = ("provider_data",)
HOSTED_MCP: Final = ("hosted_mcp",)


def _is_listed(fact: str, allowed: Collection[str], beginnings: tuple[str, ...]) -> bool:
    if fact in allowed:
        return True
    # Some servers read these as the parent folder, which would leave the allowed path.
    climbs = "%" in fact or re.search(r"[:/]\.{1,2}(?:/|$)", fact) is not None
    return any(fact.startswith(each) and (not climbs or each.endswith(":")) for each in beginnings)


def _ids(value: Any, path: Path) -> Iterator[tuple[Path, Any]]:
    """Yield each id with its place, in a value that may hold several."""
    if isinstance(value, list):
        for index, inner in enumerate(value):
            if inner not in (None, ""):
                yield from _ids(inner, (*path, index)) if not isinstance(inner, list) else [((*path, index), None)]
    elif isinstance(value, Mapping) and isinstance(value.get("id"), str):
        yield (*path, "id"), value["id"]
    else:
        yield path, value


def _plain_id(name: Any) -> str:
    """Return an id that can be compared with a listed one; else `unknown`."""
    return name if isinstance(name, str) and _ID.fullmatch(name) else "unknown"


def _is_link(name: Any) -> bool:
    """Tell whether a link stands in the place of an id; some providers would open it."""
    return isinstance(name, str) and name[:8].lower().startswith(("http://", "https://")) and not in_account(name)


def check_servers(body: Mapping[str, Any], allowed: Iterable[str]) -> None:
    """Refuse servers whose tools the provider would call itself, except those that policy.yaml names.

    Args:
        allowed: addresses, each with everything below it, and names of connectors.

    Raises:
        PolicyDenied: it names the field.
    """
    names = tuple(allowed)
    for where, address in _servers(body):
        if not any(_is_below(address, name) for name in names):
            raise PolicyDenied(
                f"{where}: the model's provider would call that server itself, which policy.yaml does not allow. "
                "Leave it out, or have an administrator name it under hosted_mcp.allow.",
                policies=HOSTED_MCP,
                param=where,
            )


def refused_servers(facts: Iterable[str], allowed: Collection[str]) -> list[tuple[str, bool]]:
    """Return those of a request's facts that name a server which may be refused, and whether it certainly is.

    A fact has the server's host. `check_servers` compares the whole address, so a host that policy.yaml names may
    still be refused.

    Args:
        allowed: see `check_servers`.
    """
    named = {_named(name) for name in allowed}
    if _OPERATORS_OWN in allowed:
        named.add(_named(f"{_OPERATORS_OWN}/"))
    servers = (fact for fact in facts if fact.startswith(("mcp:", "connector:")))
    return [(fact, fact not in named) for fact in servers if fact not in named or fact.startswith("mcp:")]


def _servers(body: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield each server with the field that names it."""
    for where, tool in _all_tools(body):
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


def _all_tools(body: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield each tool with its place, also those within the conversation."""
    yield from _tools(body)
    for name in ("input", "messages"):
        items = body.get(name)
        for number, item in enumerate(items if isinstance(items, list) else ()):
            if not isinstance(item, Mapping):
                continue
            yield from _tools(item, f"{name}[{number}].")
            parts = item.get("content")
            for index, part in enumerate(parts if isinstance(parts, list) else ()):
                if isinstance(part, Mapping) and isinstance(tool := part.get("tool"), Mapping):
                    yield f"{name}[{number}].content[{index}].tool", tool


def _tools(body: Mapping[str, Any], within: str = "") -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield each tool with its place, also those inside a group of tools."""
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
    """Parse an address that all readers read alike; None for any other."""
    if not re.fullmatch(r"[!-~]+", address) or "\\" in address or "@" in address.partition("://")[2].partition("/")[0]:
        return None
    try:
        parts = urlsplit(address)
        _ = parts.port
    except ValueError:
        return None
    # Servers read these as the parent folder.
    if re.search(r"(?:^|/)(?:\.|%2e){1,2}(?:/|$)", parts.path, re.IGNORECASE) or not parts.hostname:
        return None
    return parts


def _links(value: Any) -> Iterator[str]:
    """Yield the address in a part of a message, whichever field holds it."""
    if isinstance(value, str):
        if value[:8].lower().startswith(("http://", "https://")) or (
            value[:5].lower() != "data:" and in_account(value)
        ):
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
