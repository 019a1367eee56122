"""From the `screens` section of policy.yaml to what the scanner takes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gatehouse.guards.screens.config import ScreenConfig

if TYPE_CHECKING:
    from gatehouse.policy.model import ScreensPolicy


def screen_config(policy: ScreensPolicy) -> ScreenConfig:
    """The `screens` section of policy.yaml. Its modes and `on_error` stay the caller's to obey: what is off is not
    looked for, and a hit of what is on says which screen it is of.

    Raises:
        SetupError: names the first mistake.
    """
    config = ScreenConfig(
        blocked_content=dict(policy.blocked_content),
        secrets=policy.secrets != "off",
        prompt_injection=policy.prompt_injection != "off",
    )
    config.check()
    return config
