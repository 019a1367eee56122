"""The arguments of a Governor, checked before the first call."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from gatehouse_adapter._internal.settings import base_url_of, is_header_value
from gatehouse_adapter.errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class GovernorConfig:
    """Configure a `Governor`; times are in seconds.

    Attributes:
        endpoint: the gateway's address, with or without `/v1`.
        client_id: the agent's id.
        client_secret: a virtual key of the gateway.
        default_user_token: the end user of calls that name none in `user` or `user_token`.
        tenant_id: sent with every decision, like `extra_context`.
        fail_open: make calls while the gateway is unreachable. A refusal still counts.
        call_timeout_seconds: how long a call waits for its decision, without the time for approval.
        breaker_failure_threshold: failures in a row after which the gateway is not asked for a while.
        breaker_recovery_seconds: the length of that while; then one call tries.
        enable_hitl_polling: wait for a required approval; False raises PolicyDeniedError at once.
        approval_poll_interval_seconds: how often to ask when the gateway does not hold the call itself.
        approval_max_wait_seconds: how long to wait for an approval.
        extra_context: sent with every decision as the request's metadata; `session_id` names the session.
    """

    endpoint: str
    client_id: str
    client_secret: str = field(default="", repr=False)
    default_user_token: str = field(default="anonymous", repr=False)
    tenant_id: str | None = None
    fail_open: bool = False
    call_timeout_seconds: float = 5.0
    breaker_failure_threshold: int = 5
    breaker_recovery_seconds: float = 30.0
    enable_hitl_polling: bool = True
    approval_poll_interval_seconds: float = 2.0
    approval_max_wait_seconds: float = 300.0
    extra_context: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @property
    def headers(self) -> dict[str, str]:
        """Return the headers of every request to the endpoint."""
        sent = {"content-type": "application/json", "user-agent": "gatehouse-adapter"}
        if self.client_secret:
            sent["authorization"] = f"Bearer {self.client_secret}"
        return sent


def checked(options: GovernorConfig) -> GovernorConfig:
    """Return the options with the endpoint's address in the form for requests.

    Raises:
        ConfigurationError: an option cannot be used; its message never holds the key.
    """
    if options.client_secret and not is_header_value(options.client_secret):
        raise ConfigurationError(
            "client_secret holds characters that no virtual key has, such as spaces. Copy it again."
        )
    if not 0 < len(options.client_id) <= 256:
        raise ConfigurationError("client_id is empty or longer than 256 characters. Give the agent's id.")
    for name, least in (
        ("call_timeout_seconds", 0.0),
        ("approval_poll_interval_seconds", 0.0),
        ("breaker_recovery_seconds", None),
        ("approval_max_wait_seconds", None),
    ):
        value = getattr(options, name)
        if not math.isfinite(value) or value < 0 or value == least:
            above = "of 0 or more" if least is None else "above 0"
            raise ConfigurationError(f"{name} is {value}, not a number of seconds {above}. Leave it out.")
    if options.breaker_failure_threshold < 1:
        raise ConfigurationError("breaker_failure_threshold is below 1. Leave it out for 5 failures in a row.")
    advice = "Give the gateway's address, such as http://127.0.0.1:4000."
    endpoint = base_url_of(options.endpoint, "endpoint", advice)
    return replace(options, endpoint=endpoint, extra_context=dict(options.extra_context or {}))
