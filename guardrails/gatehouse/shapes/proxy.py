"""What every request to the proxy may carry: settings of the API, and what LiteLLM itself puts beside them.

Callers cannot say what LiteLLM obeys (`dialects.caller_fields`): what is passed over here was put there by LiteLLM
itself. Its options that change what a model reads (`fallbacks`, prompt templates, `model_list`) are on no list, and so
refused when they say anything.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from gatehouse.shapes.fields import Reader, as_role, fields, kind_only, refuse, skip, text, token, tokens
from gatehouse.shapes.freejson import free
from gatehouse.shapes.parts import KEY, Path, View

other_text = as_role("other", text)
other_free = as_role("other", free)

# Put there by LiteLLM before the hooks run, or read by LiteLLM alone; several hold objects that are no JSON.
_INTERNAL = """
    litellm_metadata proxy_server_request secret_fields litellm_call_id litellm_logging_obj litellm_session_id
    litellm_trace_id litellm_params standard_logging_object session_id trace_id tags guardrails guardrail_to_apply
    policies
    no-log cache caching cache_key num_retries max_retries timeout request_timeout stream_timeout client_side_timeout
    keepalive_seconds drop_params additional_drop_params allowed_openai_params mock_timeout headers user_api_key_dict
    user_api_key_metadata user_api_key_team_metadata user_api_key_user_id user_api_key_team_id user_api_key_end_user_id
    user_api_key_hash user_api_key_request_route success_callback failure_callback callbacks litellm_disabled_callbacks
    router_settings_override disable_fallbacks deployment model_info allowed_model_region custom_llm_provider
    api_version
    api_base api_key organization team_id client_disconnected error_information enable_prompt_caching
    sensitive_data_routing_applied sensitive_data_routing_detection_info sensitive_data_routing_guardrail
    sensitive_data_routing_original_model provider_specific_header litellm_request_debug shared_session
    specific_deployment budget_limits max_budget ttl s3_bucket_name routing_decision
""".split()


_COMMON: dict[str, Reader] = {
    "model": token,
    "stream": token,
    "stream_options": fields({"include_usage": token, "include_obfuscation": token}),
    "user": other_text,
    "safety_identifier": other_text,
    "prompt_cache_key": other_text,
    "prompt_cache_retention": token,
    "prompt_cache_options": kind_only,
    "service_tier": token,
    "inference_geo": token,
}
# A key's or a team's settings may have LiteLLM put these there; no caller can.
_BY_OPERATOR: dict[str, Reader] = {
    "litellm_system_prompt": as_role("system", text),
    "mock_response": other_free,
    "extra_headers": other_free,
    "extra_query": other_free,
}


class Request:
    """A dialect's whole request: its own fields, its plain settings, and what every request may carry.

    Args:
        table: readers of the dialect's own fields.
        settings: names of its plain settings.
        added: readers of what LiteLLM itself puts there for its hooks.

    Attributes:
        names: the fields that the API has, so that a caller may say them.
    """

    def __init__(
        self, table: Mapping[str, Reader], settings: Iterable[str] = (), added: Mapping[str, Reader] | None = None
    ) -> None:
        own: dict[str, Reader] = {**_COMMON, **dict.fromkeys(settings, tokens), **table}
        self.names = frozenset(own)
        known = {**own, **_BY_OPERATOR, **(added or {})}
        # What no API has is read to its last word; what one has is read as if it stood at the top.
        below = fields({**known, "metadata": other_free}, otherwise=_unknown)
        internal: dict[str, Reader] = dict.fromkeys((*_INTERNAL, "metadata"), skip)
        self._read = fields({**internal, **known, "extra_body": below}, otherwise=_unnamed)

    def __call__(self, view: View, value: Any, path: Path, role: str) -> None:
        """Read a request that the edge has let through, with what LiteLLM put beside it."""
        self._read(view, value, path, role)


def _unknown(view: View, value: Any, path: Path, role: str) -> None:
    view.text((*path, KEY), str(path[-1]), "other")
    other_free(view, value, path, role)


def callers_metadata(view: View, body: Mapping[str, Any], names: frozenset[str], read: frozenset[str]) -> None:
    """Read what the caller says in metadata, and in tags, wherever LiteLLM has put it.

    Args:
        names: of the entries that are the caller's.
        read: the fields that the dialect itself reads.
    """
    for place in ("metadata", "litellm_metadata"):
        held = body.get(place)
        if not isinstance(held, dict):
            continue
        for name in names if place not in read else ():
            if name in held:
                view.text((place, name, KEY), name, "other")
                if held[name] is not None:
                    other_free(view, held[name], (place, name), "other")
    if isinstance(body.get("tags"), list):
        other_free(view, body["tags"], ("tags",), "other")


def _unnamed(view: View, value: Any, path: Path, role: str) -> None:
    name = path[-1]
    if len(path) == 1 and isinstance(name, str) and name.startswith("_litellm_"):
        return
    refuse(view, value, path, role)
