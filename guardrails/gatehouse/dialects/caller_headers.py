"""Decides which headers of a model call LiteLLM sees, by a list, because it obeys, logs and may forward headers.

Promises: LiteLLM receives one credential, which authenticates the caller, so no credential can be meant for a provider;
a header of LiteLLM's own that is not on the list is refused by name; every other header is dropped.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Final

from gatehouse.core.errors import InvalidRequest
from gatehouse.core.names import has_card_number
from gatehouse.dialects.caller_fields import CallerBounds

Headers = list[tuple[bytes, bytes]]

# The headers in which clients put their key, in the order in which LiteLLM reads them.
CREDENTIALS: Final = (
    b"x-litellm-api-key",
    b"authorization",
    b"api-key",
    b"x-api-key",
    b"x-goog-api-key",
    b"ocp-apim-subscription-key",
)
# Headers that a server and a body need.
_PLAIN: Final = frozenset((b"host", b"accept", b"content-type", b"content-length", b"connection"))
# Headers that describe the client, as far as their form holds no free text.
_SHAPED: Final = {
    # LiteLLM stores the user agent and makes it a metric's label. Only known products with a major version pass,
    # because a caller could make up any number of other texts.
    b"user-agent": re.compile(
        rb"(?i:claude-cli|claude-code|codex_(?:cli_rs|exec|vscode|sdk_ts)|codex-tui|opencode|gemini-cli|goose|cline|aider|cursor|continue"
        rb"|(?:Async)?(?:OpenAI|AzureOpenAI|Anthropic)|ai-sdk|langchain|litellm|llama[_-]index|gatehouse-adapter"
        rb"|python-requests|python-httpx|aiohttp|curl|wget|node-fetch|node|undici|axios|got|okhttp|Go-http-client"
        rb"|Java-http-client|reqwest|PostmanRuntime|insomnia|Mozilla)(?![A-Za-z0-9_.-])(?:/\d{1,2}(?!\d))?"
    ),
    b"traceparent": re.compile(rb"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}"),
    b"anthropic-version": re.compile(rb"\d{4}-\d\d-\d\d"),
    b"anthropic-beta": re.compile(rb"[a-z0-9-]{1,64}(?: ?, ?[a-z0-9-]{1,64}){0,31}"),
}
# The agent and its session; then limits and options for approvals.
OUR_NAMES: Final = frozenset((b"x-gatehouse-agent", b"x-gatehouse-session"))
OURS: Final = OUR_NAMES | {
    b"x-gatehouse-approval",
    b"x-gatehouse-block-content",
    b"x-gatehouse-approval-over-usd",
    b"x-gatehouse-hold",
    b"x-gatehouse-max-cost-usd",
    b"x-gatehouse-max-tokens",
}
_NUMBER: Final = re.compile(r"[0-9]{1,12}(\.[0-9]{1,20})?")
_FORWARDED: Final = b"x-forwarded-for"
_LITELLMS: Final = b"x-litellm-"
_INSTEAD: Final = {
    b"x-litellm-tags": "Put tags into the body.",
    b"x-litellm-session-id": "Name a session in X-Gatehouse-Session.",
    b"x-litellm-trace-id": "Name a session in X-Gatehouse-Session.",
    b"x-litellm-agent-id": "Name an agent in X-Gatehouse-Agent.",
}


@dataclass(frozen=True, slots=True)
class ConfiguredHeaders:
    """Hold names of headers, in lower case, that the operator makes LiteLLM read.

    Attributes:
        key: the header in which it looks first for a caller's key.
        others: the other headers.
    """

    key: bytes | None = None
    others: frozenset[bytes] = frozenset()


def known_product(user_agent: str) -> str | None:
    """Return the first product of a user agent with its major version; None for an unknown product."""
    match = _SHAPED[b"user-agent"].match(user_agent.strip().encode("utf-8", "replace"))
    return None if match is None else match[0].decode()


def passed_on(headers: Iterable[tuple[bytes, bytes]], bounds: CallerBounds, configured: ConfiguredHeaders) -> Headers:
    """Return the headers that LiteLLM may see.

    Args:
        headers: names in lower case.
        bounds: the limits on values that a caller may set.

    Raises:
        InvalidRequest: a header is LiteLLM's own, and callers may not set it.
    """
    given = list(headers)
    names = {name for name, _ in given}
    places = CREDENTIALS if configured.key is None else (configured.key, *CREDENTIALS)
    credential = next((name for name in places if name in names), None)
    passed: Headers = []
    for name, value in given:
        if name in places:
            if name == credential:
                passed.append((name, value))
        elif name == _FORWARDED and name in configured.others:
            if _are_addresses(value):
                passed.append((name, value))
        elif name in configured.others or name in _PLAIN or name in OURS:
            passed.append((name, value))
        elif name in _SHAPED:
            shaped = _SHAPED[name].match(value.strip())
            # LiteLLM stores a trace's id as the session's. Agents use random ids; a card number is not one.
            if shaped and not has_card_number(shaped[0].decode()):
                passed.append((name, shaped[0]))
        elif name in _BOUNDED:
            passed.append((name, _BOUNDED[name](name, value, bounds)))
        elif name.startswith(_LITELLMS):
            raise _refused(name, f"callers may not set it. {_INSTEAD.get(name, 'Leave it out and ask again.')}")
    return passed


def names_in_headers(headers: Headers, configured: ConfiguredHeaders) -> list[str]:
    """Return the header values that are stored and could hold more than a number."""
    return [name for header, value in headers if (name := _name(header, value, configured)) is not None]


def renamed_headers(headers: Headers, configured: ConfiguredHeaders, hidden: Mapping[str, str]) -> Headers:
    """Return the headers with hashes in the place of names."""
    names = ((header, value, _name(header, value, configured) or "") for header, value in headers)
    return [(header, hidden[name].encode() if name in hidden else value) for header, value, name in names]


def _name(header: bytes, value: bytes, configured: ConfiguredHeaders) -> str | None:
    if header not in OURS and (header not in configured.others or header == _FORWARDED):
        return None
    decoded = _decoded(value)
    return decoded if decoded and (header in OUR_NAMES or not _NUMBER.fullmatch(decoded)) else None


def _decoded(value: bytes) -> str:
    """Decode a header's value as a server reads it."""
    return value.decode("latin-1").strip()


def _are_addresses(value: bytes) -> bool:
    try:
        return all(ip_address(each.strip()) for each in value.decode("latin-1").split(","))
    except ValueError:
        return False


def _timeout(name: bytes, value: bytes, bounds: CallerBounds) -> bytes:
    if not re.fullmatch(rb"\d{1,6}(\.\d{1,6})?", value) or not 0 < float(value) <= bounds.timeout_s:
        raise _refused(name, f"a number of seconds up to {bounds.timeout_s:g} was expected.")
    return value


def _num_retries(name: bytes, value: bytes, bounds: CallerBounds) -> bytes:
    if not re.fullmatch(rb"\d{1,3}", value) or int(value) > bounds.num_retries:
        raise _refused(name, f"a whole number up to {bounds.num_retries} was expected.")
    return value


_BOUNDED: Final[dict[bytes, Callable[[bytes, bytes, CallerBounds], bytes]]] = {
    b"x-litellm-timeout": _timeout,
    b"x-litellm-stream-timeout": _timeout,
    b"x-litellm-num-retries": _num_retries,
}


def _refused(name: bytes, why: str) -> InvalidRequest:
    shown = name.decode("ascii", "replace")
    return InvalidRequest(f"{shown if re.fullmatch('[a-z0-9-]{1,60}', shown) else 'a header'}: {why}")
