"""Where the operator's deployments are, and with which credentials: what a request to a provider must keep to.

It is compared where each library that LiteLLM uses sends a request (`provider_answers`, `ways_out`), with the bytes
about to leave. Promises: a credential that the operator configured goes to the hosts of its own deployments alone; a
host whose credentials are all known gets one of them; what looks like a call of a provider's API goes to the deployment
that was chosen. What cannot be known, as the address that a provider's own library works out, is not judged.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
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
    "What was about to be sent is not what was admitted, so it was not sent. The same request would be stopped again: "
    "tell the operator, who finds the place in the log."
)

# Where LiteLLM sends a provider's calls when no address is configured: the variables that it reads, and the host. For
# others its own `get_llm_provider` says it, or it is not known.
_HOMES: Final[Mapping[str, tuple[tuple[str, ...], str]]] = {
    "openai": (("OPENAI_BASE_URL", "OPENAI_API_BASE"), "https://api.openai.com"),
    "text-completion-openai": (("OPENAI_BASE_URL", "OPENAI_API_BASE"), "https://api.openai.com"),
    "anthropic": (("ANTHROPIC_API_BASE", "ANTHROPIC_BASE_URL"), "https://api.anthropic.com"),
    "gemini": (("GEMINI_API_BASE",), "https://generativelanguage.googleapis.com"),
    "aiohttp_openai": ((), "https://api.openai.com"),
}
# Providers to whom LiteLLM sends the configured key as it is. Others exchange it for a token, or sign with it.
_SEND_THEIR_KEY: Final = frozenset(
    """
    openai text-completion-openai azure anthropic gemini deepseek mistral groq xai together_ai openrouter perplexity
    fireworks_ai hosted_vllm aiohttp_openai
    """.split()
)
# How config.yaml refers to the environment.
_ENVIRON: Final = "os.environ/"
# What LiteLLM sends a provider that wants no key.
_NO_KEY: Final = frozenset(("", "fake-api-key", "none"))
_CREDENTIALS: Final = ("authorization", "api-key", "x-api-key", "x-goog-api-key")
_SCHEMES: Final = frozenset(("bearer", "token"))
# Shorter ones are words that stand in for a key.
_MIN_KEY_CHARS: Final = 8
# How the paths of OpenAI's, Anthropic's and Google's APIs end.
_API_PATHS: Final = (
    "/chat/completions",
    "/completions",
    "/responses",
    "/messages",
    "/embeddings",
    "/moderations",
    "/images/generations",
    "/audio/speech",
    "/audio/transcriptions",
    ":generateContent",
    ":streamGenerateContent",
)


@dataclass(frozen=True, slots=True)
class Destination:
    """One deployment.

    Attributes:
        origin: scheme, host and port; None where they are not known.
        keys: its static credentials.
        complete: whether it has no others.
    """

    origin: str | None
    keys: frozenset[str]
    complete: bool


class Destinations:
    """Those of all deployments, kept until the router or its credentials change."""

    def __init__(self) -> None:
        self._seen: tuple[Any, ...] = ()
        self._known: dict[str, Destination] = {}

    def all(self, *, anew: bool = False) -> Mapping[str, Destination]:
        """By the deployment's id.

        Args:
            anew: read them again, for a change may leave no trace in what is compared.
        """
        router = proxy_server.llm_router
        if router is None:
            return {}
        # Lists compare their items by identity first, so this costs a microsecond while nothing changes.
        seen = (id(router), router.model_list, litellm.credential_list)
        if anew or seen != self._seen:
            ids = list(router.model_id_to_deployment_index_map)
            self._known = {each: destination(deployment_params(each) or {}) for each in ids}
            self._seen = (id(router), list(router.model_list), list(litellm.credential_list))
        return self._known


def destination(params: Mapping[str, Any]) -> Destination:
    """Read one from a deployment's parameters."""
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
    return Destination(origin_of(address), keys, complete=bool(values.get("api_key")) and provider in _SEND_THEIR_KEY)


def _stored(name: object) -> Mapping[str, Any]:
    """What LiteLLM keeps under the name of a credential."""
    found = next((each for each in litellm.credential_list if each.credential_name == name), None) if name else None
    return {} if found is None else found.credential_values


def _resolved(value: Any) -> Any:
    """What a reference to the environment stands for."""
    if isinstance(value, str) and value.startswith(_ENVIRON):
        return os.environ.get(value.removeprefix(_ENVIRON))
    return value


def _provider(values: Mapping[str, Any]) -> tuple[str, str | None]:
    """The provider of a deployment, and its address as LiteLLM knows it."""
    model, named = str(values.get("model") or ""), values.get("custom_llm_provider")
    if values.get("use_litellm_proxy") or model.partition("/")[0] in _ours():
        return "", None
    try:
        _, provider, _, address = litellm.get_llm_provider(model, custom_llm_provider=named)
    except Exception:  # it is not one that LiteLLM knows
        return str(named or model.partition("/")[0]), None
    return str(provider), address


def _ours() -> set[str]:
    """Custom providers, who look for their address themselves."""
    return {str(each.get("provider")) for each in litellm.custom_provider_map}


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
    """Scheme, host and port of an address; None where it is none."""
    try:
        url = address if isinstance(address, httpx.URL) else httpx.URL(str(address or ""))
    except httpx.InvalidURL:
        return None
    if url.scheme not in ("http", "https") or not url.host:
        return None
    return f"{url.scheme}://{url.host}:{url.port or (443 if url.scheme == 'https' else 80)}"


def misdirected(request: httpx.Request, known: Mapping[str, Destination], chosen: str | None) -> str | None:
    """Say what is wrong about where a request goes: `credential`, `host`, or None.

    Args:
        known: all deployments, by their id.
        chosen: the id of the one that this attempt is for; None where LiteLLM chose none.
    """
    origin = origin_of(request.url)
    for key in set(_carried(request)):
        owners = [each for each in known.values() if key in each.keys]
        if owners and all(each.origin is not None and each.origin != origin for each in owners):
            return "credential"
    is_call = looks_like_call(request)
    own = known.get(chosen or "")
    if own is None:  # LiteLLM takes none, or makes one up, for an address or a key of the caller's
        return "host" if is_call else None
    if own.origin is None:
        return None
    if own.origin != origin:
        return "host" if is_call else None
    here = [each for each in known.values() if each.origin == origin]
    keys = {key for each in here for key in each.keys}
    if all(each.complete for each in here) and any(key not in keys for key in _authorizing(request)):
        return "credential"
    return None


def looks_like_call(request: httpx.Request) -> bool:
    """Whether a request is what a provider's API is asked with, and not what LiteLLM does beside it."""
    return request.method == "POST" and request.url.path.endswith(_API_PATHS)


def leads_away(response: httpx.Response, request: httpx.Request, known: Mapping[str, Destination]) -> bool:
    """Whether a provider would have the call sent on to a host that is not its own."""
    if not response.has_redirect_location:
        return False
    origin = origin_of(request.url)
    try:
        target = request.url.join(response.headers["location"])
    except httpx.InvalidURL:
        return True
    return origin_of(target) != origin and any(each.origin == origin for each in known.values())


def _carried(request: httpx.Request) -> Iterator[str]:
    """Whatever may be a credential."""
    for value in request.headers.values():
        yield from _worth_guarding(_without_scheme(value))
    for _, value in request.url.params.multi_items():
        yield from _worth_guarding(value)


def _authorizing(request: httpx.Request) -> Iterator[str]:
    """The credentials that APIs read. A scheme that signs or exchanges carries none of these."""
    for name in _CREDENTIALS:
        value = request.headers.get(name)
        if value is None or (name == "authorization" and value.partition(" ")[0].lower() not in _SCHEMES):
            continue
        yield from _worth_guarding(_without_scheme(value))


# Those of the router that LiteLLM has now.
deployed: Final = Destinations()
# Set while a request that was checked is on its way: a library below the one that checked it does not check it again.
checked: ContextVar[bool] = ContextVar("gatehouse_request_checked", default=False)


def check_destination(scope: CallScope, attempt: Attempt, request: httpx.Request) -> None:
    """Compare where a request goes, and with which credential, with the deployment that the attempt is for.

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
    """Note that a call was stopped right before its bytes left; the error is for its caller."""
    metrics.egress_mismatches.labels(place=place).inc()
    metrics.blocks.labels(EgressMismatch.code).inc()
    log.error("call %s was stopped: %s (%s) is not as it was admitted", scope.call_id, where, place)
    scope.refusal = EgressMismatch(DIFFERS)
    return scope.refusal
