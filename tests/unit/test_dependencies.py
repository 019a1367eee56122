"""What is installed may be run and passed on; what LiteLLM's proxy needs is there, but for what is left out by name."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable
from importlib.metadata import distributions, requires
from importlib.util import find_spec
from pathlib import Path

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

REPOSITORY = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((REPOSITORY / "guardrails/pyproject.toml").read_text())["project"]
LOCKED = {package["name"] for package in tomllib.loads((REPOSITORY / "uv.lock").read_text())["package"]}

# Requirements of `litellm[proxy]` that we do not name, and why LiteLLM's proxy goes without.
LEFT_OUT = {
    "litellm-enterprise": "its licence forbids to pass it on, and to run it in production without a contract",
    "granian": "a server for the `litellm` command; `gatehouse serve` is uvicorn",
    "gunicorn": "a server for the `litellm` command; `gatehouse serve` is uvicorn",
    "rq": "nothing in LiteLLM imports it",
}


def bounds(requirements: Iterable[str], extra: str = "") -> dict[str, SpecifierSet]:
    """The bounds of what a package needs, or of what one of its extras alone adds."""
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
