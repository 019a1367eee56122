"""Streams responses that a provider stores. LiteLLM itself fetches them only whole."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import wraps
from typing import Any

import litellm
from litellm.llms.custom_httpx.http_handler import get_async_httpx_client
from litellm.llms.custom_httpx.llm_http_handler import BaseLLMHTTPHandler
from litellm.responses.streaming_iterator import ResponsesAPIStreamingIterator

from gatehouse.core.call import current_attempt
from gatehouse.dialects.stored_responses import Action, StoredResponse
from gatehouse.pipeline.scope import current_scope

Fetch = Callable[..., Awaitable[Any]]


def stream_stored_responses() -> None:
    """Let LiteLLM fetch stored responses as streams from now on."""
    found = BaseLLMHTTPHandler.async_get_responses
    original = getattr(found, "unwatched", found)
    wrapped = wraps(original)(_streaming(original))
    wrapped.unwatched = original  # type: ignore[attr-defined]
    BaseLLMHTTPHandler.async_get_responses = wrapped


def _streaming(fetch: Fetch) -> Fetch:
    async def fetching(handler: Any, **given: Any) -> Any:
        scope = current_scope.get()
        about = scope.about if scope is not None else None
        if about is None or about.action is not Action.FETCH or not about.parameters.get("stream"):
            return await fetch(handler, **given)
        return await _stream(handler, about, **given)

    return fetching


async def _stream(
    handler: Any,
    about: StoredResponse,
    *,
    response_id: str,
    responses_api_provider_config: Any,
    litellm_params: Any,
    logging_obj: Any,
    custom_llm_provider: str,
    extra_headers: dict[str, Any] | None = None,
    shared_session: Any = None,
    **others: Any,
) -> Any:
    """Do as LiteLLM's `async_get_responses`, and read the answer as a stream.

    The whole stream is asked for, also by a client that continues one: only whole texts can be screened.
    """
    config = responses_api_provider_config
    headers = config.validate_environment(headers=extra_headers or {}, model="None", litellm_params=litellm_params)
    address = config.get_complete_url(api_base=litellm_params.api_base, litellm_params=dict(litellm_params))
    url, query = config.transform_get_response_api_request(
        response_id=response_id, api_base=address, litellm_params=litellm_params, headers=headers
    )
    query = {**query, "stream": "true", "include[]": list(about.parameters.get("include", ()))}
    if "include_obfuscation" in about.parameters:
        query["include_obfuscation"] = "true" if about.parameters["include_obfuscation"] else "false"
    logging_obj.pre_call(
        input="", api_key="", additional_args={"complete_input_dict": {}, "api_base": address, "headers": headers}
    )
    client = get_async_httpx_client(
        llm_provider=litellm.LlmProviders(custom_llm_provider),
        params={"ssl_verify": litellm_params.get("ssl_verify", None)},
        shared_session=shared_session,
    ).client
    try:
        request = client.build_request("GET", url, headers=headers, params=query, timeout=others.get("timeout"))
        response = await client.send(request, stream=True)
        if response.is_error:
            await response.aread()
            response.raise_for_status()
    except Exception as error:
        raise handler._handle_error(e=error, provider_config=config) from error
    attempt = current_attempt.get()
    return ResponsesAPIStreamingIterator(
        response=response,
        model="",
        responses_api_provider_config=config,
        logging_obj=logging_obj,
        litellm_metadata={"model_info": {"id": attempt.deployment if attempt else None}},
        custom_llm_provider=custom_llm_provider,
        call_type=Action.FETCH.value,
    )
