"""Knows the addresses and credentials of the operator's deployments, and checks requests to providers against them.

The check runs where each library that LiteLLM uses sends a request (`provider_answers`, `ways_out`), on the bytes about
to leave. Promises: a credential that the operator configured goes only to the hosts of its own deployments; a host
whose credentials are all known receives one of them; what looks like a call of a provider's API goes to the chosen
deployment. An address that a provider's own library works out is unknown here, and is not checked.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Collection, Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Final

import httpx
import litellm
from litellm.proxy import proxy_server

from gatehouse.core import metrics
from gatehouse.core.call import Attempt
from gatehouse.core.errors import EgressMismatch
from gatehouse.pipeline.scope import CallScope
from gatehouse.proxy.configured import deployment_params

log = logging.getLogger("gatehouse.egress")

DIFFERS: Final = (
    "What was about to be sent is not what was admitted, so it was not sent. The same request would be stopped again. "
    "Tell the operator, who finds the place in the log."
)

# Where LiteLLM sends a provider's calls without a configured address: the variables that it reads, and the host. For
# other providers its own `get_llm_provider` tells the address, or it is unknown.
_HOMES: Final[Mapping[str, tuple[tuple[str, ...], str]]] = {
    "openai": (("OPENAI_BASE_URL", "OPENAI_API_BASE"), "https://api.openai.com"),
    "text-completion-openai": (("OPENAI_BASE_URL", "OPENAI_API_BASE"), "https://api.openai.com"),
    "anthropic": (("ANTHROPIC_API_BASE", "ANTHROPIC_BASE_URL"), "https://api.anthropic.com"),
    "gemini": (("GEMINI_API_BASE",), "https://generativelanguage.googleapis.com"),
    "aiohttp_openai": ((), "https://api.openai.com"),
}
# Providers that receive the configured key itself. For others LiteLLM exchanges it for a token, or signs with it.
_SEND_THEIR_KEY: Final = frozenset(
    """
    openai text-completion-openai azure anthropic gemini deepseek mistral groq xai together_ai openrouter perplexity
    fireworks_ai hosted_vllm aiohttp_openai
    """.split()
)
# The prefix of config.yaml's references to the environment.
_ENVIRON: Final = "os.environ/"
# What LiteLLM sends to a provider that wants no key.
_NO_KEY: Final = frozenset(("", "fake-api-key", "none"))
_CREDENTIALS: Final = ("authorization", "api-key", "x-api-key", "x-goog-api-key")
_SCHEMES: Final = frozenset(("bearer", "token"))
# Shorter keys are words that stand in for one.
_MIN_KEY_CHARS: Final = 8
# The ends of the paths of OpenAI's, Anthropic's and Google's APIs.
_API_PATHS: Final = (
    "/chat/completions",
    "/completions",
    "/responses",
    "/messages",
    "/embeddings",
    "/moderations",
    "/rerank",
    "/images/generations",
    "/audio/speech",
    "/audio/transcriptions",
    ":generateContent",
    ":streamGenerateContent",
)


@dataclass(frozen=True, slots=True)
class Destination:
    """Describe where one deployment is.

    Attributes:
        origin: scheme, host and port; None where they are unknown.
        keys: its static credentials.
        complete: whether it has no other credentials.
        provider: LiteLLM's name of its provider.
    """

    origin: str | None
    keys: frozenset[str]
    complete: bool
    provider: str = field(default="", compare=False)


class Destinations:
    """Cache the destinations of all deployments until the router or its credentials change."""

    def __init__(self) -> None:
        self._seen: tuple[Any, ...] = ()
        self._known: dict[str, Destination] = {}

    def all(self, *, anew: bool = False) -> Mapping[str, Destination]:
        """Return the destinations by the deployment's id.

        Args:
            anew: read them again, because a change may be invisible to the comparison.
        """
        router = proxy_server.llm_router
        if router is None:
            return {}
        # Lists compare their items by identity first, so this takes a microsecond while nothing changes.
        seen = (id(router), router.model_list, litellm.credential_list)
        if anew or seen != self._seen:
            ids = list(router.model_id_to_deployment_index_map)
            self._known = {each: destination(deployment_params(each) or {}) for each in ids}
            self._seen = (id(router), list(router.model_list), list(litellm.credential_list))
        return self._known


def destination(params: Mapping[str, Any]) -> Destination:
    """Read the destination from a deployment's parameters."""
    own = {name: value for name, value in params.items() if value is not None}
    values = {**_stored(params.get("litellm_credential_name")), **own}
    values = {name: _resolved(value) for name, value in values.items()}
    provider, home = _provider(values)
    variables, default = _HOMES.get(provider, ((), ""))
    address = (
        values.get("api_base")
        or values.get("base_url")
        or next((value for name in variables if (value := os.environ.get(name))), None)
        or (litellm.api_base if provider in ("openai", "text-completion-openai") else None)
        or home
        or default
    )
    keys = frozenset(_keys(values))
    complete = bool(values.get("api_key")) and provider in _SEND_THEIR_KEY
    return Destination(origin_of(address), keys, complete, provider)


def _stored(name: object) -> Mapping[str, Any]:
    """Return what LiteLLM stores under the name of a credential."""
    found = next((each for each in litellm.credential_list if each.credential_name == name), None) if name else None
    return {} if found is None else found.credential_values


def _resolved(value: Any) -> Any:
    """Return the value of a reference to the environment."""
    if isinstance(value, str) and value.startswith(_ENVIRON):
        return os.environ.get(value.removeprefix(_ENVIRON))
    return value


def _provider(values: Mapping[str, Any]) -> tuple[str, str | None]:
    """Return the provider of a deployment, and its address as LiteLLM knows it."""
    model, named = str(values.get("model") or ""), values.get("custom_llm_provider")
    if values.get("use_litellm_proxy") or model.partition("/")[0] in _ours():
        return "", None
    try:
        _, provider, _, address = litellm.get_llm_provider(model, custom_llm_provider=named)
    except Exception:  # LiteLLM does not know the provider
        return str(named or model.partition("/")[0]), None
    return str(provider), address


def _ours() -> set[str]:
    """Return the names of custom providers, which find their address themselves."""
    return {str(each.get("provider")) for each in litellm.custom_provider_map}


def is_ours(model_id: object) -> bool:
    """Tell whether a deployment is a custom provider's, which reports its errors by itself."""
    return str((deployment_params(model_id) or {}).get("model")).partition("/")[0] in _ours()


def _keys(values: Mapping[str, Any]) -> Iterator[str]:
    for name in ("api_key", "azure_ad_token"):
        yield from _worth_guarding(values.get(name))
    for name in ("extra_headers", "headers"):
        headers = values.get(name)
        for header, value in headers.items() if isinstance(headers, Mapping) else ():
            if str(header).lower() in _CREDENTIALS and isinstance(value, str):
                yield from _worth_guarding(_without_scheme(value))


def _worth_guarding(key: object) -> Iterator[str]:
    if isinstance(key, str) and len(key) >= _MIN_KEY_CHARS and key not in _NO_KEY:
        yield key


def _without_scheme(value: str) -> str:
    scheme, space, rest = value.strip().partition(" ")
    return rest.strip() if space and scheme.lower() in _SCHEMES else value.strip()


def origin_of(address: object) -> str | None:
    """Return scheme, host and port of an address; None where it is not one."""
    try:
        url = address if isinstance(address, httpx.URL) else httpx.URL(str(address or ""))
    except httpx.InvalidURL:
        return None
    if url.scheme not in ("http", "https") or not url.host:
        return None
    return f"{url.scheme}://{url.host}:{url.port or (443 if url.scheme == 'https' else 80)}"


def misdirected(request: httpx.Request, known: Mapping[str, Destination], chosen: str | None) -> str | None:
    """Name what is wrong with a request's destination: `credential`, `host`, or None.

    Args:
        known: all destinations, by the deployment's id.
        chosen: the id of the deployment of this attempt; None where LiteLLM chose none.
    """
    origin, own = origin_of(request.url), known.get(chosen or "")
    if _has_key_of_others(request, known.values(), origin):
        return "credential"
    # Where LiteLLM has no deployment, or makes one up, the caller chose the address or the key.
    if own is None or own.origin not in (None, origin):
        return "host" if looks_like_call(request) else None
    return "credential" if own.origin is not None and _has_unknown_key(request, known.values(), origin) else None


def _has_key_of_others(request: httpx.Request, known: Collection[Destination], origin: str | None) -> bool:
    """Tell whether a request carries a key that belongs to other origins only."""
    carried = set(_carried(request))
    owners = [[each.origin for each in known if key in each.keys] for key in carried]
    return any(each and all(owner not in (None, origin) for owner in each) for each in owners)


def _has_unknown_key(request: httpx.Request, known: Collection[Destination], origin: str | None) -> bool:
    """Tell whether a request authorizes itself by a key that no deployment of this origin has, where all are known."""
    here = [each for each in known if each.origin == origin]
    keys = {key for each in here for key in each.keys}
    return all(each.complete for each in here) and any(key not in keys for key in _authorizing(request))


def without_secrets(text: bytes, origin: str | None) -> bytes:
    """Return what a provider said without the operator's credentials, and without the hosts of other providers.

    Args:
        origin: who said it.
    """
    known = deployed.all().values()
    own = httpx.URL(origin).host if origin else ""
    hosts = {httpx.URL(each.origin).host for each in known if each.origin} - {own}
    for key in sorted((key for each in known for key in each.keys), key=len, reverse=True):
        text = text.replace(key.encode(), b"[credential]")
    for host in sorted(hosts, key=len, reverse=True):
        text = text.replace(host.encode(), b"[host]")
    return text


def looks_like_call(request: httpx.Request) -> bool:
    """Tell whether a request calls a provider's API, unlike LiteLLM's other requests."""
    return request.method == "POST" and request.url.path.endswith(_API_PATHS)


def leads_away(response: httpx.Response, request: httpx.Request, known: Mapping[str, Destination]) -> bool:
    """Tell whether a provider redirects the call to a host that is not its own."""
    if not response.has_redirect_location:
        return False
    origin = origin_of(request.url)
    try:
        target = request.url.join(response.headers["location"])
    except httpx.InvalidURL:
        return True
    return origin_of(target) != origin and any(each.origin == origin for each in known.values())


def _carried(request: httpx.Request) -> Iterator[str]:
    """Yield every value of the request that may be a credential."""
    for value in request.headers.values():
        yield from _worth_guarding(_without_scheme(value))
    for _, value in request.url.params.multi_items():
        yield from _worth_guarding(value)


def _authorizing(request: httpx.Request) -> Iterator[str]:
    """Yield the credentials that APIs read. A scheme that signs or exchanges carries none of these."""
    for name in _CREDENTIALS:
        value = request.headers.get(name)
        if value is None or (name == "authorization" and value.partition(" ")[0].lower() not in _SCHEMES):
            continue
        yield from _worth_guarding(_without_scheme(value))


# The destinations of LiteLLM's present router.
deployed: Final = Destinations()
# Set while a checked request is sent, so that a library below does not check it again.
checked: ContextVar[bool] = ContextVar("gatehouse_request_checked", default=False)


def check_destination(scope: CallScope, attempt: Attempt, request: httpx.Request) -> None:
    """Compare a request's host and credential with the deployment of the attempt.

    Raises:
        EgressMismatch: it may not go there.
    """
    place = misdirected(request, deployed.all(), attempt.deployment)
    if place is not None and (place := misdirected(request, deployed.all(anew=True), attempt.deployment)) is not None:
        raise stop(scope, place, "a request to a provider")


def check_redirect(scope: CallScope, request: httpx.Request, response: httpx.Response) -> None:
    """Keep a redirect with the provider that it came from.

    Raises:
        EgressMismatch: it leads to another host.
    """
    if leads_away(response, request, deployed.all()):
        raise stop(scope, "host", "a redirect")


def stop(scope: CallScope, place: str, where: str) -> EgressMismatch:
    """Record that a call was stopped right before its bytes left; return the error for its caller."""
    metrics.egress_mismatches.labels(place=place).inc()
    metrics.blocks.labels(EgressMismatch.code).inc()
    log.error("call %s was stopped: %s (%s) is not as it was admitted", scope.call_id, where, place)
    scope.refusal = EgressMismatch(DIFFERS)
    return scope.refusal
