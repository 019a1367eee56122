"""What every request to the proxy may carry: settings of the API, and what LiteLLM itself puts beside them.

Only fields that no model reads are passed over. LiteLLM's own options that change what a model reads (`fallbacks` with
messages, prompt templates, `model_list`) are on no list, and so refused when they say anything.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from gatehouse.shapes.fields import Reader, as_role, fields, kind_only, refuse, skip, text, token, tokens
from gatehouse.shapes.freejson import free
from gatehouse.shapes.parts import Path, View, unknown

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


def _fallbacks(view: View, value: Any, path: Path, role: str) -> None:
    """Other models by name; a fallback that brings messages of its own is refused."""
    if not isinstance(value, list):
        raise unknown(path, "a list was expected")
    for index, inner in enumerate(value):
        if not isinstance(inner, str):
            raise unknown((*path, index), "a fallback may only name a model")
        view.text((*path, index), inner, "other")


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
    "litellm_system_prompt": as_role("system", text),
    "fallbacks": _fallbacks,
    "mock_response": other_free,
    "extra_headers": other_free,
    "extra_query": other_free,
}


def request(table: Mapping[str, Reader], settings: Iterable[str] = ()) -> Reader:
    """A dialect's whole request: its own fields, its plain settings, and what every request may carry.

    `extra_body` is laid over the body by OpenAI's client, so it is read as one.
    """
    known: dict[str, Reader] = {**_COMMON, **dict.fromkeys(settings, tokens), **table}
    below = fields({**known, "metadata": other_free})
    internal: dict[str, Reader] = dict.fromkeys((*_INTERNAL, "metadata"), skip)
    return fields({**internal, **known, "extra_body": below}, otherwise=_unnamed)


def _unnamed(view: View, value: Any, path: Path, role: str) -> None:
    name = path[-1]
    if len(path) == 1 and isinstance(name, str) and name.startswith("_litellm_"):
        return
    refuse(view, value, path, role)
