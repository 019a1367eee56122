"""The arguments of a Governor, checked before the first call."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from gatehouse_adapter._internal.settings import base_url_of, is_header_value
from gatehouse_adapter.errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class Options:
    """Hold the arguments of `Governor` under the same names; times are in seconds."""

    endpoint: str
    client_id: str
    client_secret: str = field(repr=False)
    default_user_token: str = field(repr=False)
    tenant_id: str | None
    fail_open: bool
    call_timeout_seconds: float
    breaker_failure_threshold: int
    breaker_recovery_seconds: float
    enable_hitl_polling: bool
    approval_poll_interval_seconds: float
    approval_max_wait_seconds: float
    extra_context: Mapping[str, Any] = field(repr=False)

    @property
    def headers(self) -> dict[str, str]:
        """Return the headers of every request to the endpoint."""
        sent = {"content-type": "application/json", "user-agent": "gatehouse-adapter"}
        if self.client_secret:
            sent["authorization"] = f"Bearer {self.client_secret}"
        return sent


def checked(options: Options) -> Options:
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
    return replace(options, endpoint=base_url_of(options.endpoint, "endpoint", advice))
