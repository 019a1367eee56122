"""Turns the `screens` section of policy.yaml into the scanner's configuration."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gatehouse.guards.screens.config import ScreenConfig
from gatehouse.guards.screens.hits import SECRETS

if TYPE_CHECKING:
    from gatehouse.policy.model import ScreensPolicy


def mode_of(policy: ScreensPolicy, screen: str) -> str:
    """Return how a hit of a screen is treated: `block`, `mask`, `observe` or `off`. Blocked content always blocks."""
    if screen == SECRETS:
        return policy.secrets
    return policy.prompt_injection if screen == "prompt_injection" else "block"


def screen_config(policy: ScreensPolicy) -> ScreenConfig:
    """Return the section as the scanner's configuration. A screen that is off is left out; the caller must obey
    `on_error` and the modes of the others.

    Raises:
        SetupError: it names the first mistake.
    """
    config = ScreenConfig(
        blocked_content=dict(policy.blocked_content),
        secrets=policy.secrets != "off",
        prompt_injection=policy.prompt_injection != "off",
    )
    config.check()
    return config
