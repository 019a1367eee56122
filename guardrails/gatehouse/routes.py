"""Which routes call a model, which only manage the proxy, and which nobody vouches for.

Default deny: a request is governed, or it is on the list of routes that are known not to reach a model, or it is
refused. So whatever a new LiteLLM release adds stays closed until somebody has read it. Paths are compared as the
server routes them (decoded, case-sensitive, no trailing slash); the tables were read from LiteLLM 1.106.2.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from enum import Enum
from typing import Final


class RouteKind(Enum):
    """How the middleware treats a request."""

    GOVERNED = "governed"
    OPEN = "open"
    UNGOVERNED = "ungoverned"


# POST routes on which LiteLLM runs `async_pre_call_hook` before anything goes upstream (each has a test that sees it
# run).
_PREFIXES = r"(?:/v1|/openai/v1|)"
_DEPLOYMENT = r"(?:/engines/[^/]+|/openai/deployments/[^/]+)"
_GOVERNED = re.compile(
    rf"(?:{_PREFIXES}/(?:chat/completions|completions|embeddings|moderations|audio/speech|audio/transcriptions"
    r"|images/generations|responses)"
    rf"|{_DEPLOYMENT}/(?:chat/completions|completions|embeddings)"
    r"|/v1/messages)"
)

# Routes that read or change the proxy's own state. Those below them that would call a model, or send text to a
# provider, are taken out again by _CLOSED.
_OPEN_EXACT = frozenset(
    """
    / /governance /ui /routes /test /settings /openapi.json /docs /docs/oauth2-redirect /redoc /get_image
    /get_favicon /get_logo_url
    /fallback/login /login /v2/login /v3/login /v3/login/exchange /session/logout /robots.txt /active/callbacks
    /models /v1/models /v1/model/info /v2/model/info /v1/model/deprecations
    /health/liveliness /health/liveness /health/readiness /health/readiness/details /health/license /health/history
    /health/latest /health/backlog /health/drain /health/shared-status
    /utils/supported_openai_params /utils/model_info /provider/budgets /v2/team/list /v2/user/info /v2/key/info
    /credentials /guardrails /policies /audit /lens/activity/available /api/plugins /jwt/key/mapping
    """.split()
)
# Lists that LiteLLM's UI shows; what can be done to them stays closed.
_OPEN_TO_READ = frozenset(
    """
    /favicon.ico /coordination_redis/settings /gateway/daily/activity /policy/templates /policy/list /prompts/list
    /v1/agents /v1/mcp/network/client-ip /v1/mcp/server /v1/mcp/server/submissions /v1/mcp/toolset
    /v1/mcp/user-env-vars/status /vector_store/list
    """.split()
)
_OPEN_PREFIXES = tuple(
    """
    /governance/ /ui/ /litellm-asset-prefix/ /_next/ /swagger/ /.well-known/ /litellm/.well-known/ /sso/ /onboarding/
    /key/ /user/ /team/ /organization/ /customer/ /end_user/ /project/ /budget/ /spend/ /global/ /tag/ /invitation/
    /config/ /get/ /update/ /add/ /delete/ /upload/ /public/ /access_group/ /v1/access_group /management/v1/ /model/
    /model_group/ /model_hub/ /cache/ /credentials/ /router/ /callbacks/ /alerting/ /audit/ /cost/ /agent/daily/
    /guardrails/ /v2/guardrails/ /v1/models/ /models/ /v2/organization/ /reload/ /schedule/ /email/ /config_overrides/
    /policies/
    """.split()
)
_CLOSED = re.compile(
    r"/key/health"  # sends a mock completion
    r"|/(?:v1/)?models/[^/]*:.*"  # Google's generateContent and countTokens
    r"|/config/pass_through_endpoint.*"  # opens a way around the pipeline
    r"|/guardrails/(?:apply_guardrail|test.*|.*custom.*)"
    r"|/policies/(?:test.*|.*suggest.*|.*enrich.*|.*generate.*)"
    r"|/cost/predict-cache"
)


def classify(method: str, path: str, named: Iterable[str] = ()) -> RouteKind:
    """Say how a request to `path` is treated.

    Args:
        method: HTTP method, upper case, or `WEBSOCKET`.
        path: the decoded path of the request, without query string.
        named: routes that policy.yaml lets through ungoverned; a name ending in `*` stands for all that begin with it.
    """
    if _GOVERNED.fullmatch(path) and method in ("POST", "OPTIONS"):
        return RouteKind.GOVERNED if method == "POST" else RouteKind.OPEN
    if any(path == name or (name.endswith("*") and path.startswith(name[:-1])) for name in named):
        return RouteKind.OPEN
    if method == "WEBSOCKET" or _CLOSED.fullmatch(path):
        return RouteKind.UNGOVERNED
    if method == "GET" and path in _OPEN_TO_READ:
        return RouteKind.OPEN
    if method == "OPTIONS" or path in _OPEN_EXACT or path.startswith(_OPEN_PREFIXES):
        return RouteKind.OPEN
    return RouteKind.UNGOVERNED


# By path, without what stands before it: the call type as LiteLLM's hooks name it.
CALL_TYPES: Final[Mapping[str, str]] = {
    "/chat/completions": "acompletion",
    "/completions": "atext_completion",
    "/messages": "anthropic_messages",
    "/responses": "aresponses",
    "/embeddings": "aembedding",
    "/moderations": "amoderation",
    "/images/generations": "aimage_generation",
    "/audio/speech": "aspeech",
}


# The one that takes a form.
TRANSCRIPTION: Final = "atranscription"


def call_type_of(path: str) -> str | None:
    """LiteLLM's call type on a governed route that takes JSON, such as `/v1/chat/completions`; None on any other."""
    return CALL_TYPES.get(path.removeprefix("/openai").removeprefix("/v1"))
