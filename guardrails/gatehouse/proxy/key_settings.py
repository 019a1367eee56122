"""Checks what is stored with keys, teams, users and models, because LiteLLM obeys it in every later call.

`router_settings` may hold only names of models, numbers and words: a fallback stored with messages of its own would
send them on each call, past every stage. Fields that give a key its own callbacks, models or caches, or that let its
caller use LiteLLM's controls, are refused by name.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any, Final

from gatehouse.core.errors import InvalidRequest

# No setting has so many levels; LiteLLM's own have four.
_MAX_DEPTH = 40
# Names of models, groups and strategies are shorter.
_MAX_NAME = 256

_Shape = Callable[[object], bool]

# Routes that take the body of a call, or values of their own, and store nothing.
_STORE_NOTHING: Final = frozenset({"/spend/calculate", "/cost/estimate"})

# For each refused name, what is wrong with any value for it.
_CALLBACKS = "gives it callbacks, which see every call. Name callbacks under litellm_settings in config.yaml"
_CONTROLS = "lets its caller use LiteLLM's own controls. Leave it out"
_IN_METADATA: Final[Mapping[str, str]] = {
    **dict.fromkeys("logging callback_settings litellm_disabled_callbacks".split(), _CALLBACKS),
    **dict.fromkeys(
        "allow_client_mock_response allow_client_message_redaction_opt_out allow_client_pricing_override".split(),
        _CONTROLS,
    ),
    "model_config": "gives it a provider's address and credential of its own. Add a model instead",
}
_REFUSED: Final[Mapping[str, str]] = {
    **_IN_METADATA,
    **dict.fromkeys("callbacks success_callback failure_callback callback_vars".split(), _CALLBACKS),
    "config": "gives it models of its own and takes the check of its models away. Use `models` instead",
}


def _name(value: object) -> bool:
    return isinstance(value, str) and len(value) <= _MAX_NAME and value.isprintable()


def _number(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)  # a boolean is one


def _plain(value: object) -> bool:
    return _name(value) or _number(value)


def _list(shape: _Shape) -> _Shape:
    return lambda value: isinstance(value, list) and all(map(shape, value))


def _map(shape: _Shape) -> _Shape:
    return lambda value: isinstance(value, dict) and all(_name(name) and shape(item) for name, item in value.items())


def _fields(**shapes: _Shape) -> _Shape:
    return lambda value: isinstance(value, dict) and all(
        name in shapes and (item is None or shapes[name](item)) for name, item in value.items()
    )


def _either(*shapes: _Shape) -> _Shape:
    return lambda value: any(shape(value) for shape in shapes)


_names = _list(_name)
_fallbacks = _list(_map(_names))

# LiteLLM's `UpdateRouterConfig`, and what its router takes from a request besides.
_ROUTER: Final[Mapping[str, _Shape]] = {
    **dict.fromkeys(
        "allowed_fails cooldown_time num_retries timeout stream_timeout max_retries retry_after enable_tag_filtering"
        " disable_cooldowns".split(),
        _number,
    ),
    **dict.fromkeys("routing_strategy tag_routing_prefix".split(), _name),
    **dict.fromkeys("fallbacks context_window_fallbacks content_policy_fallbacks".split(), _fallbacks),
    **dict.fromkeys("default_fallbacks optional_pre_call_checks".split(), _names),
    "routing_strategy_args": _map(_plain),
    "retry_policy": _map(_number),
    "model_group_retry_policy": _map(_map(_number)),
    "model_group_affinity_config": _map(_names),
    "model_group_alias": _map(_either(_name, _fields(model=_name, hidden=_number))),
    "weights": _map(_either(_number, _map(_number))),
    "routing_groups": _list(
        _fields(
            group_name=_name,
            models=_names,
            routing_strategy=_name,
            routing_strategy_args=_map(_plain),
            model_priorities=_map(_number),
        )
    ),
}

# Fields besides `router_settings` that name models or guardrails; they may hold only names.
_NAMES_IN_METADATA: Final[Mapping[str, _Shape]] = dict.fromkeys(("guardrails", "policies"), _names)
_NAMES: Final[Mapping[str, _Shape]] = {
    **_NAMES_IN_METADATA,
    **dict.fromkeys("fallbacks context_window_fallbacks content_policy_fallbacks".split(), _either(_names, _fallbacks)),
    **dict.fromkeys("aliases model_aliases".split(), _map(_name)),
    "budget_fallbacks": _map(_names),
}


class _Read(Enum):
    """Name which names LiteLLM reads in an object."""

    FIELDS = "fields"
    METADATA = "metadata"
    NONE = "none"


def check_management(path: str, body: object) -> None:
    """Refuse a request that would store something that LiteLLM must not obey.

    Args:
        path: the route, such as `/key/generate`.
        body: the request's decoded JSON.

    Raises:
        InvalidRequest: it names the field, and never the value.
    """
    if path not in _STORE_NOTHING:
        _look(body, _Read.FIELDS, 0)


def check_router_settings(settings: object) -> None:
    """Refuse router settings that hold anything but names of models, numbers and words.

    Raises:
        InvalidRequest: it names the field.
    """
    if not _says(settings):
        return
    if not isinstance(settings, dict):
        raise InvalidRequest("router_settings is not an object. Send one, with names of models, numbers and words.")
    for name, value in settings.items():
        shape = _ROUTER.get(name)
        if shape is None:
            known = name if name.isidentifier() and len(name) <= _MAX_NAME else "it"
            raise InvalidRequest(f"router_settings: {known} is no setting of a key or a team. Leave it out.")
        if value is not None and not shape(value):
            raise InvalidRequest(
                f"router_settings.{name} may hold names of models, numbers and words, and nothing else, because it is "
                "obeyed in every later call. A fallback is written {model: [other models]}."
            )


def _look(value: object, read: _Read, depth: int) -> None:
    if depth > _MAX_DEPTH:
        raise InvalidRequest("The body is nested too deeply. Send settings as LiteLLM's API describes them.")
    if isinstance(value, str) and value.lstrip()[:1] in ("{", "["):
        value = _decoded(value)
    if isinstance(value, list):
        for item in value:
            _look(item, read, depth + 1)
    elif isinstance(value, dict):
        for name, item in value.items():
            if name == "router_settings":
                check_router_settings(item)
            else:
                _check_field(name, item, read)
                _look(item, _below(name, read), depth + 1)


def _below(name: str, read: _Read) -> _Read:
    if read is not _Read.FIELDS or name in ("aliases", "model_aliases"):
        return _Read.NONE
    return _Read.METADATA if name == "metadata" else _Read.FIELDS


def _check_field(name: str, value: object, read: _Read) -> None:
    if read is _Read.NONE or not _says(value):
        return
    everywhere = read is _Read.FIELDS
    if (reason := (_REFUSED if everywhere else _IN_METADATA).get(name)) is not None:
        raise InvalidRequest(f"{name}: it is stored with a key or a team and {reason}.")
    shape = (_NAMES if everywhere else _NAMES_IN_METADATA).get(name)
    if shape is not None and not shape(value):
        raise InvalidRequest(f"{name} may hold names and nothing else, because it is obeyed in every later call.")
    if name == "cache" and not (isinstance(value, dict) and set(value) <= {"no-cache", "no-store"}):
        raise InvalidRequest("cache: LiteLLM's cache of answers is off. Only no-cache and no-store can be set.")
    if name == "permissions" and everywhere and isinstance(value, dict) and set(value) != {"get_spend_routes"}:
        raise InvalidRequest("permissions: only get_spend_routes can be set. Others turn LiteLLM's guardrails off.")


def _says(value: object) -> bool:
    return value is not None and value is not False and value not in ("", [], {})


def _decoded(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None
