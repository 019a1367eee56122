"""Decides which routes call a model, which only manage the proxy, and which are refused.

Default deny: a request is governed, or the table of routes (`route_table.py`) lists its method and path as open, or it
is refused. A path that matches both an open and a closed route is refused, and so is every route that a new LiteLLM
release adds, until it is classified. Paths are compared as the server routes them: decoded and case-sensitive.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from enum import Enum
from functools import lru_cache
from typing import Final

from gatehouse.dialects.call_types import _DEPLOYMENT
from gatehouse.dialects.stored_responses import stored_response
from gatehouse.gateway import route_table


class RouteKind(Enum):
    """Name how the middleware treats a request."""

    GOVERNED = "governed"
    OPEN = "open"
    UNGOVERNED = "ungoverned"


# POST routes on which LiteLLM runs `async_pre_call_hook` before anything goes upstream. Below /openai no other route
# does: LiteLLM passes the rest to OpenAI as it is.
_GOVERNED = re.compile(
    r"(?:(?:/v1|)/(?:chat/completions|completions|embeddings|moderations|audio/speech|audio/transcriptions"
    r"|images/generations|responses)"
    r"|/openai/v1/responses|/(?:v[12]/)?rerank"
    rf"|{_DEPLOYMENT}/(?:chat/completions|completions|embeddings)"
    r"|/v1/messages)"
)

# Files of LiteLLM's UI, which are only read.
_STATIC = re.compile(r"/ui(?:/.*)?|/(?:_next|litellm-asset-prefix/_next|swagger)/.*", re.DOTALL)
# Gatehouse's own routes, which have their own checks.
_OURS = re.compile(r"/governance(?:/.*)?", re.DOTALL)
# Alternatives in a line of the table.
_CHOICE: Final = re.compile(r"\[([^\]]*)\]")


class _Table:
    """Hold routes of the table by method: those without parameters by name, the others as one expression.

    Attributes:
        templates: the routes with parameters, by the expression of each.
    """

    def __init__(self, text: str) -> None:
        self._exact: dict[str, set[str]] = defaultdict(set)
        self.templates: list[tuple[re.Pattern[str], str]] = []
        patterns: dict[str, list[str]] = defaultdict(list)
        for method, path in entries(text):
            if "{" in path:
                patterns[method].append(_pattern(path))
                self.templates.append((re.compile(_pattern(path), re.DOTALL), path))
            else:
                self._exact[method].add(path)
        self._patterns = {method: re.compile("|".join(all_), re.DOTALL) for method, all_ in patterns.items()}

    def names(self, method: str, path: str) -> bool:
        """Tell whether a route without parameters has this method and path."""
        return path in self._exact.get(method, ())

    def has(self, path: str) -> bool:
        """Tell whether a route of any method without parameters has this path."""
        return any(path in paths for paths in self._exact.values())

    def matches(self, method: str, path: str) -> bool:
        """Tell whether a route with parameters matches."""
        return any(
            (pattern := self._patterns.get(name)) is not None and pattern.fullmatch(path) is not None
            for name in (method, "ANY")
        )


def entries(text: str) -> Iterator[tuple[str, str]]:
    """Yield each method and path of a part of the table."""
    for line in text.split("\n"):
        methods, _, path = line.strip().partition(" ")
        if path:
            yield from ((method, each) for each in _spelled(path) for method in methods.split(","))


def _spelled(path: str) -> Iterator[str]:
    """Yield each path that a line with alternatives stands for."""
    match = _CHOICE.search(path)
    if match is None:
        yield path
        return
    for each in match[1].split("|"):
        yield from _spelled(path[: match.start()] + each + path[match.end() :])


def _pattern(path: str) -> str:
    """Return an expression that matches the same paths as LiteLLM's router."""
    parts = re.split(r"\{\w+(:path)?\}", path)
    made = re.escape(parts[0])
    for several, literal in zip(parts[1::2], parts[2::2], strict=True):
        made += (".*" if several else "[^/]+") + re.escape(literal)
    return f"(?:{made})"


_STORED = _Table(route_table.STORED)
_OPEN = _Table(route_table.OPEN)
_REPLACED = _Table(route_table.REPLACED)
_CLOSED = _Table("\n".join(route_table.CLOSED.values()))


def classify(method: str, path: str, named: Iterable[str] = ()) -> RouteKind:
    """Decide how a request to `path` is treated.

    Args:
        method: HTTP method, upper case, or `WEBSOCKET`.
        path: the decoded path of the request, without query string.
        named: routes that policy.yaml lets through ungoverned. A name ending in `*` stands for any ending, except for
            websockets, which are named one by one.
    """
    if (method == "POST" and _GOVERNED.fullmatch(path)) or stored_response(method, path) is not None:
        return RouteKind.GOVERNED
    if any(
        path == name or (name.endswith("*") and path.startswith(name[:-1]) and method != "WEBSOCKET") for name in named
    ):
        return RouteKind.OPEN
    return RouteKind.OPEN if _opened("GET" if method == "HEAD" else method, path) else RouteKind.UNGOVERNED


def is_management(method: str, path: str) -> bool:
    """Tell whether a request changes LiteLLM's own state, so that what it stores must be checked."""
    return method in ("POST", "PUT", "PATCH") and _opened(method, path) and not _is_ours(method, path)


def _is_ours(method: str, path: str) -> bool:
    return _OURS.fullmatch(path) is not None or _REPLACED.names(method, path)


def _opened(method: str, path: str) -> bool:
    if method == "WEBSOCKET":
        return False
    if _is_ours(method, path) or (method == "GET" and _STATIC.fullmatch(path)):
        return True
    bare = path.removesuffix("/") or "/"  # the server redirects such a path
    if _OPEN.names(method, bare):
        return True
    if _CLOSED.names(method, bare) or _CLOSED.matches(method, path):
        return False
    # In Google's API a colon precedes a verb, which calls a model. Ids that are only read may contain one.
    return method == "OPTIONS" or (_OPEN.matches(method, path) and (method == "GET" or ":" not in path))


@lru_cache(maxsize=4_096)
def template_of(path: str) -> str | None:
    """Return a path as the table lists it, with names for its parameters; None where no route matches."""
    if _GOVERNED.fullmatch(path):
        match = _MODEL_IN.match(path)
        return path if match is None else f"{path[: match.start(1)]}{{model}}{path[match.end(1) :]}"
    if any(table.has(path) for table in (_OPEN, _REPLACED, _CLOSED)):
        return path
    templates = (*_STORED.templates, *_OPEN.templates, *_CLOSED.templates)
    return next((template for pattern, template in templates if pattern.fullmatch(path)), None)


_MODEL_IN: Final = re.compile(r"\A(?:/engines|/openai/deployments)/([^/]+)/")


def model_in(path: str) -> str | None:
    """Return the model in the path of a governed route; None where there is none."""
    match = _MODEL_IN.match(path)
    return None if match is None else match[1]
