"""What is installed may be run and passed on; what LiteLLM's proxy needs is there, but for what is left out by name."""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterable, Iterator
from importlib.metadata import distributions, requires
from importlib.util import find_spec
from pathlib import Path

import litellm
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

REPOSITORY = Path(__file__).resolve().parents[3]
LITELLM = Path(litellm.__file__).parent
PROJECT = tomllib.loads((REPOSITORY / "guardrails/pyproject.toml").read_text())["project"]
LOCKED = {package["name"] for package in tomllib.loads((REPOSITORY / "uv.lock").read_text())["package"]}

# Requirements of `litellm[proxy]` that we do not name, and why LiteLLM's proxy goes without.
LEFT_OUT = {
    "litellm-enterprise": "its licence forbids to pass it on, and to run it in production without a contract",
    "granian": "a server for the `litellm` command; `gatehouse serve` is uvicorn",
    "gunicorn": "a server for the `litellm` command; `gatehouse serve` is uvicorn",
    "rq": "nothing in LiteLLM imports it",
}

# What LiteLLM takes from the proprietary package, below `litellm_enterprise`, and what becomes of it without.
TAKEN = {
    "enterprise_callbacks.callback_controls": "no caller can switch a callback off",
    "enterprise_callbacks.llama_guard": "LiteLLM refuses the configuration",
    "enterprise_callbacks.llm_guard": "LiteLLM refuses the configuration",
    "enterprise_callbacks.pagerduty.pagerduty": "refused in proxy/enterprise.py",
    "enterprise_callbacks.secret_detection": "LiteLLM refuses the configuration",
    "enterprise_callbacks.send_emails.base_email": "no mail on budgets and keys; docs/operations.md says so",
    "enterprise_callbacks.send_emails.resend_email": "refused in proxy/enterprise.py",
    "enterprise_callbacks.send_emails.sendgrid_email": "refused in proxy/enterprise.py",
    "enterprise_callbacks.send_emails.smtp_email": "refused in proxy/enterprise.py",
    "integrations.custom_guardrail": "a guardrail by tags refuses its calls",
    "litellm_core_utils.litellm_logging": "a caller's own x- headers are not shown to loggers",
    "proxy.auth.custom_sso_handler": "sign-in by it is refused with the reason",
    "proxy.auth.route_checks": "its switches are refused in proxy/enterprise.py",
    "proxy.auth.user_api_key_auth": "custom_auth_settings is refused in proxy/enterprise.py",
    "proxy.common_utils.check_batch_cost": "batches are closed",
    "proxy.common_utils.check_responses_cost": "needs managed files, which are closed",
    "proxy.enterprise_routes": "route_table.py has none of its routes",
    "proxy.hooks.managed_files": "proxy/enterprise.py has a stand-in",
    "proxy.management_endpoints.key_management_endpoints": "LiteLLM looks up the organisation of a key's team itself",
    "proxy.proxy_server": "no description of one's own in the API's documentation",
    "types.enterprise_callbacks.send_emails": "no mail on budgets and keys; docs/operations.md says so",
}


def bounds(requirements: Iterable[str], extra: str = "") -> dict[str, SpecifierSet]:
    """Return the version bounds of what a package needs, or of what one of its extras adds."""
    found: dict[str, SpecifierSet] = {}
    for each in map(Requirement, requirements):
        in_base, there = (each.marker is None or each.marker.evaluate({"extra": name}) for name in ("", extra))
        if there and in_base is not bool(extra):
            name = canonicalize_name(each.name)
            found[name] = found.get(name, SpecifierSet()) & each.specifier
    return found


def test_the_proprietary_package_is_neither_locked_nor_installed() -> None:
    assert "litellm" in LOCKED
    assert "litellm-enterprise" not in LOCKED
    assert find_spec("litellm_enterprise") is None


def test_no_installed_package_is_proprietary() -> None:
    for each in distributions():
        said = [each.metadata.get("License-Expression"), each.metadata.get("License")]
        licence = "\n".join(filter(None, [*said, *each.metadata.get_all("Classifier", [])]))
        assert not re.search("proprietary|commercial licen[cs]e", licence, re.IGNORECASE), each.name


def test_what_litellms_proxy_needs_is_named_within_its_own_bounds_or_left_out_with_a_reason() -> None:
    needed = requires("litellm") or []
    theirs = bounds(needed, "proxy")
    ours = bounds(PROJECT["dependencies"])
    ours |= {name: bound for name, bound in bounds(needed).items() if name not in ours}  # LiteLLM brings these itself
    assert len(theirs) > 30  # or nothing was read
    unread = sorted(theirs.keys() - ours.keys() - LEFT_OUT.keys())
    assert not unread, (
        "LiteLLM's proxy needs more than guardrails/pyproject.toml names. Name it there, within LiteLLM's bounds, or "
        f"put it in LEFT_OUT with the reason: {unread}"
    )
    assert LEFT_OUT.keys() <= theirs.keys() - ours.keys(), "LEFT_OUT has what is named, or what LiteLLM does not need."
    other = {name: str(bound) for name, bound in theirs.items() if name not in LEFT_OUT and ours[name] != bound}
    assert not other, f"LiteLLM's proxy has other bounds than guardrails/pyproject.toml: {other}"


def test_what_litellm_takes_from_the_proprietary_package_has_been_looked_at() -> None:
    taken = {module.removeprefix("litellm_enterprise.") for _, module, _ in imports()}
    assert taken == TAKEN.keys(), (
        "LiteLLM takes something else from litellm_enterprise. Read what it does without, and where it says nothing "
        "have proxy/enterprise.py say it."
    )


def test_litellm_can_do_without_the_proprietary_package_wherever_it_asks_for_it() -> None:
    """The one exception is where proxy/enterprise.py stands in."""
    alone = {(file, module) for file, module, guarded in imports() if not guarded}
    assert alone == {("proxy/response_api_endpoints/endpoints.py", "litellm_enterprise.proxy.hooks.managed_files")}


def imports() -> Iterator[tuple[str, str, bool]]:
    """Yield each import from the proprietary package: the file, the module, and whether LiteLLM expects it to fail."""
    for path in sorted(LITELLM.rglob("*.py")):
        if b"litellm_enterprise" not in (source := path.read_bytes()):
            continue
        nodes = list(ast.walk(ast.parse(source)))
        expected = [child for node in nodes if isinstance(node, ast.Try) and node.handlers for child in node.body]
        for node in nodes:
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("litellm_enterprise."):
                yield path.relative_to(LITELLM).as_posix(), node.module or "", node in expected
