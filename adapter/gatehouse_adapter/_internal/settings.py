"""The gateway's address and key, from arguments or else the environment, checked before the first call."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeVar

import httpx

from gatehouse_adapter.errors import ConfigurationError

URL_VARIABLE = "LITELLM_BASE_URL"
KEY_VARIABLE = "LITELLM_MASTER_KEY"

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Settings:
    base_url: str
    """Without a trailing slash and without /v1."""
    api_key: str = field(repr=False)
    timeout: float
    """Seconds."""
    max_retries: int


def load(
    *,
    base_url: str | None,
    api_key: str | None,
    timeout: float,
    max_retries: int,
    environ: Mapping[str, str] = os.environ,
) -> Settings:
    """Load the settings. Raise ConfigurationError, whose message never holds the key."""
    url = base_url or environ.get(URL_VARIABLE)
    if not url:
        raise ConfigurationError(
            f"The gateway's address is missing: {URL_VARIABLE} is not set and no base_url was given. "
            f"Set {URL_VARIABLE}, for example to http://127.0.0.1:4000."
        )
    key = (api_key or environ.get(KEY_VARIABLE, "")).strip()
    if not key:
        raise ConfigurationError(
            f"The gateway's key is missing: {KEY_VARIABLE} is not set and no api_key was given. "
            f"Set {KEY_VARIABLE} to a virtual key or to the master key in the gateway's .env file."
        )
    if not is_header_value(key):
        raise ConfigurationError(
            f"The gateway's key ({KEY_VARIABLE} or api_key) holds characters that no key has, such as spaces. "
            "Copy it again."
        )
    if not (math.isfinite(timeout) and timeout > 0):
        raise ConfigurationError(f"timeout is {timeout}, not a number of seconds above 0. Leave it out for 300.")
    if max_retries < 0:
        raise ConfigurationError(f"max_retries is {max_retries}, below 0. Use 0 for no retries.")
    advice = f"Set {URL_VARIABLE} or base_url to an address such as http://127.0.0.1:4000."
    address = base_url_of(url, "The gateway's address", advice)
    return Settings(base_url=address, api_key=key, timeout=timeout, max_retries=max_retries)


def one_of(name: str, value: T | None, other_name: str, other: T | None) -> T | None:
    """Return the value of an argument that has two names.

    Raises:
        ConfigurationError: both names were used.
    """
    if value is not None and other is not None:
        raise ConfigurationError(f"{name} and {other_name} are two names of one argument. Give one of them.")
    return other if value is None else value


def is_header_value(text: str) -> bool:
    """Tell whether a header can carry it as one word; checked here because the HTTP library's error would quote it."""
    return text.isascii() and text.isprintable() and " " not in text


def base_url_of(url: str, name: str, advice: str) -> str:
    """Return the gateway's address without a trailing slash and without /v1; `name` and `advice` are for an error.

    Raises:
        ConfigurationError: it is not an address.
    """
    try:
        parsed = httpx.URL(url.strip())
    except httpx.InvalidURL as exc:
        raise ConfigurationError(f"{name} is not a URL ({exc}). {advice}") from None
    if parsed.userinfo:
        # Not quoted: it holds a password.
        raise ConfigurationError(f"{name} holds a user name or password, which is not used. {advice}")
    if parsed.scheme not in ("http", "https") or not parsed.host or parsed.query or parsed.fragment:
        raise ConfigurationError(f"{name} {url!r} is not a plain http or https URL. {advice}")
    return str(parsed).rstrip("/").removesuffix("/v1").rstrip("/")
