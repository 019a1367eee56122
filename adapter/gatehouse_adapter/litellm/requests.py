"""Splits a call into what the gateway decides on, which is all that a model may read, and what stays local.

An argument that is not known as LiteLLM's own goes to the gateway, which refuses what it does not know. So an option
that a later LiteLLM passes on to a provider is never passed on unread.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import litellm
from litellm.llms.base_llm.base_utils import type_to_response_format_param
from litellm.types.router import CredentialLiteLLMParams
from litellm.types.utils import all_litellm_params
from pydantic import BaseModel

from gatehouse_adapter.errors import BadRequest
from gatehouse_adapter.litellm.options import GovernorConfig

ROUTE: Final = "/v1/chat/completions"
MARK: Final = "gatehouse_call_id"
"""The name in the metadata of a governor's calls by which its callback, and other loggers, recognize them."""

# With these options LiteLLM would insert another model, or text of its own, after the decision.
_CHANGE_IT_LATER: Final = frozenset(
    """
    prompt_id prompt_variables prompt_label prompt_version prompt_environment litellm_system_prompt
    model_list model_alias_map context_window_fallback_dict silent_model search_tool_name
    user_continue_message assistant_continue_message custom_prompt_dict roles initial_prompt_value final_prompt_value
    auto_router_config cache_control_injection_points
    """.split()
)
_LOCAL: Final = frozenset(
    {*all_litellm_params, *CredentialLiteLLMParams.model_fields}
    | set(
        """
        timeout request_timeout stream_timeout deployment_id base_url api_base api_version api_key organization
        shared_session enable_json_schema_validation extra_headers headers callbacks success_callback failure_callback
        drop_params additional_drop_params mock_tool_calls mock_delay metadata
        """.split()
    )
)
_SIGNATURES: Final = {
    "completion": inspect.signature(litellm.completion),
    "acompletion": inspect.signature(litellm.acompletion),
}


@dataclass(frozen=True, slots=True)
class Request:
    """Describe one call that is to be made.

    Attributes:
        body: what a model may read, as JSON.
        local: LiteLLM's options that stay here.
        everything: the caller's arguments, for a call without a decision.
        added: names in `body` that the caller did not give, and that the provider does not receive.
    """

    body: bytes = field(repr=False)
    local: Mapping[str, Any] = field(repr=False)
    everything: Mapping[str, Any] = field(repr=False)
    added: frozenset[str]
    session: str | None = field(default=None, repr=False)

    def decided(self, body: Mapping[str, Any], call_id: str) -> dict[str, Any]:
        """Return LiteLLM's arguments for the admitted body; the gateway does not decide where the call goes."""
        sent = {name: value for name, value in body.items() if name not in _LOCAL and name not in self.added}
        return {**self.local, **sent, "metadata": self._metadata(call_id)}

    def undecided(self) -> dict[str, Any]:
        """Return LiteLLM's arguments as the caller gave them."""
        return {**self.everything, "metadata": self._metadata("")}

    def _metadata(self, call_id: str) -> dict[str, Any]:
        given = self.local.get("metadata")
        return {**(given if isinstance(given, Mapping) else {}), MARK: call_id}


def attempts(name: str, args: tuple[Any, ...], options: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the arguments of `litellm.<name>` by name, first the given ones, then those of each fallback.

    A fallback is a call of its own that needs its own decision, so it is not left to LiteLLM.
    """
    bound = _SIGNATURES[name].bind_partial(*args, **options).arguments
    rest = bound.pop("kwargs", {})
    given = {**bound, **rest}
    fallbacks = given.pop("fallbacks", None) or ()
    yield given
    for each in fallbacks:
        yield {**given, **(each if isinstance(each, Mapping) else {"model": each})}


def prepare(given: Mapping[str, Any], options: GovernorConfig) -> Request:
    """Return the request for these arguments of LiteLLM's.

    Raises:
        BadRequest: it cannot be written as JSON, or would be changed after the decision.
    """
    everything = {name: value for name, value in given.items() if value is not None}
    user_token = everything.pop("user_token", None)
    for name in _CHANGE_IT_LATER & everything.keys():
        if everything[name]:
            raise BadRequest(
                f"{name}: LiteLLM would change the request after the decision. Leave it out, "
                "and put its content into model and messages."
            )
    if litellm.model_fallbacks:
        raise BadRequest("litellm.model_fallbacks names models that need decisions. Give `fallbacks` with the call.")
    local = {name: value for name, value in everything.items() if name in _LOCAL}
    body = {name: value for name, value in everything.items() if name not in _LOCAL and name not in _CHANGE_IT_LATER}
    if isinstance(body.get("response_format"), type):
        body["response_format"] = type_to_response_format_param(body["response_format"])
    if user_token is not None or "user" not in body:
        extra = {"user": options.default_user_token if user_token is None else user_token}
    else:
        extra = {}
    # The session goes in a header, because the gateway refuses its name in metadata as a control of LiteLLM's.
    said = {name: value for name, value in options.extra_context.items() if name != "session_id"}
    context = {**({"tenant_id": options.tenant_id} if options.tenant_id else {}), **said}
    added: dict[str, Any] = {**extra, **({"metadata": context} if context else {})}
    session = everything.get("litellm_session_id") or options.extra_context.get("session_id")
    return Request(
        body=_json({**body, **added}),
        local=local,
        everything=everything,
        added=frozenset(added),
        session=session if isinstance(session, str) else None,
    )


def _json(body: Mapping[str, Any]) -> bytes:
    try:
        text = json.dumps(body, ensure_ascii=False, separators=(",", ":"), allow_nan=False, default=_plain)
        return text.encode()
    except (TypeError, ValueError, RecursionError) as exc:
        raise BadRequest(
            f"The request cannot be written as JSON: {type(exc).__name__}: {exc}. Nothing was sent. "
            "Messages and options hold only text, numbers, booleans, lists and dicts."
        ) from exc


def _plain(value: Any) -> Any:
    """Return a message of an earlier answer as LiteLLM itself would write it."""
    if isinstance(value, BaseModel):
        return value.model_dump(exclude_none=True)
    raise TypeError(f"{type(value).__name__} is no JSON")
