"""Reports a provider's errors as the LiteLLM exception that carries the right HTTP status.

LiteLLM's router retries, cools down and falls back by exception class. Other exceptions count as connection errors.
"""

from __future__ import annotations

import httpx
import litellm

_BY_STATUS = {
    400: litellm.BadRequestError,
    401: litellm.AuthenticationError,
    403: litellm.PermissionDeniedError,
    404: litellm.NotFoundError,
    422: litellm.UnprocessableEntityError,
    429: litellm.RateLimitError,
    500: litellm.InternalServerError,
    502: litellm.BadGatewayError,
    503: litellm.ServiceUnavailableError,
}


def upstream_error(status: int, message: str, *, model: str, provider: str) -> Exception:
    """Return the exception to raise when the model behind `provider` answers with HTTP `status`."""
    message = f"{provider}: {message}"
    if status == httpx.codes.REQUEST_TIMEOUT:
        timeout: Exception = litellm.Timeout(message, model=model, llm_provider=provider)
        return timeout
    kind = _BY_STATUS.get(status)
    if kind is None:
        other: Exception = litellm.APIError(status, message, llm_provider=provider, model=model)
        return other
    response = httpx.Response(status, request=httpx.Request("POST", f"http://{provider.replace('_', '-')}.invalid/"))
    error: Exception = kind(message, model=model, llm_provider=provider, response=response)
    return error
