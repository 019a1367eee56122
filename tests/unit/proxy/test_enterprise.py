"""What only LiteLLM's proprietary package obeys is a reason not to start; what works without it is none."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
from gatehouse.proxy import enterprise
from gatehouse.proxy.enterprise import unmet

SENDS = {"callback_type": "generic_api", "endpoint": "https://example.com/calls", "headers": {"X-From": "gatehouse"}}


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DISABLE_ADMIN_ENDPOINTS", "DISABLE_LLM_API_ENDPOINTS"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("place", ["callbacks", "success_callback", "failure_callback", "audit_log_callbacks"])
@pytest.mark.parametrize("name", ["generic_api", "pagerduty", "resend_email", "sendgrid_email", "smtp_email"])
def test_a_logger_that_would_be_another_is_refused_by_name(place: str, name: str) -> None:
    for names in ([name], ["prometheus", name], name):
        said = unmet({"litellm_settings": {place: names}})
        assert said is not None
        assert place in said
        assert f"`{name}`" in said


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"litellm_settings": None, "general_settings": None, "callback_settings": None},
        {"litellm_settings": {"callbacks": ["gatehouse.plugin.governance", "prometheus"], "success_callback": None}},
        {"litellm_settings": {"callbacks": ["generic_api"]}, "callback_settings": {"generic_api": SENDS}},
        {"litellm_settings": {"callbacks": ["my_loggers.smtp_email"]}},
        {"general_settings": {"custom_auth_settings": {"mode": "on"}, "alerting": ["email"]}},
    ],
    ids=["nothing", "empty", "shipped", "generic", "own", "always"],
)
def test_what_works_without_the_package_is_no_mistake(config: dict[str, Any]) -> None:
    assert unmet(config) is None


@pytest.mark.parametrize("left_out", SENDS)
def test_a_generic_logger_that_says_too_little_is_refused(left_out: str) -> None:
    said = {name: value for name, value in SENDS.items() if name != left_out}
    config = {"litellm_settings": {"callbacks": ["generic_api"]}, "callback_settings": {"generic_api": said}}
    assert "callback_settings.generic_api" in str(unmet(config))


@pytest.mark.parametrize("switch", ["DISABLE_ADMIN_ENDPOINTS", "DISABLE_LLM_API_ENDPOINTS"])
def test_a_switch_that_would_close_nothing_is_refused(switch: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(switch, "true")
    assert str(unmet({})).startswith(f"{switch}: ")
    monkeypatch.setenv(switch, "false")
    assert unmet({}) is None


@pytest.mark.parametrize("mode", ["off", "auto", None])
def test_custom_authentication_that_would_always_be_asked_is_refused(mode: str | None) -> None:
    assert "custom_auth_settings" in str(unmet({"general_settings": {"custom_auth_settings": {"mode": mode}}}))


def test_where_the_package_is_installed_nothing_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(enterprise, "installed", lambda: True)
    assert unmet({"litellm_settings": {"callbacks": ["smtp_email"]}}) is None


def test_the_stand_in_is_one_name_and_no_package() -> None:
    """It runs in a process of its own, because an import leaves traces."""
    code = (
        "from gatehouse.proxy import enterprise; enterprise.stand_in()\n"
        "from litellm_enterprise.proxy.hooks.managed_files import PROXY_LiteLLMManagedFiles as found\n"
        "assert (found | None) and not enterprise.installed()\n"
        "try:\n    import litellm_enterprise.proxy.enterprise_routes\n"
        "except ImportError:\n    print('as expected')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip().endswith("as expected")
