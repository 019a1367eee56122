"""A bad policy file or environment is refused with the place of the mistake; a good one has a version."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from gatehouse.core.errors import SetupError
from gatehouse.core.settings import load_settings
from gatehouse.policy.load import load_policy


def policy(folder: Path, text: str) -> Path:
    path = folder / "policy.yaml"
    path.write_text(text)
    return path


def test_a_policys_version_is_the_sha256_of_its_bytes(tmp_path: Path) -> None:
    path = policy(tmp_path, "version: 1\nungoverned_routes: [/v1/files, /vertex_ai/*]\n")
    loaded = load_policy(path)
    assert loaded.version == hashlib.sha256(path.read_bytes()).hexdigest()
    assert loaded.policy.ungoverned_routes == ("/v1/files", "/vertex_ai/*")


@pytest.mark.parametrize(
    ("text", "place", "reason"),
    [
        ("version: 1\n\nrulez: []\n", ":3:", "rulez"),
        ("version: 2\n", ":1:", "Input should be 1"),
        ("", ":1:", "version"),
        ("version: 1\nungoverned_routes:\n  - /ok\n  - nope\n", ":", "'nope' is not a route"),
        ("version: 1\nungoverned_routes: ['/*']\n", ":2:", "is not a route"),
        ("version: [\n", ":2:", "Correct the YAML"),
        ("- version: 1\n", ":1:", "the file"),
    ],
)
def test_a_mistake_in_the_policy_is_named_with_its_line(tmp_path: Path, text: str, place: str, reason: str) -> None:
    with pytest.raises(SetupError) as refused:
        load_policy(policy(tmp_path, text))
    assert f"policy.yaml{place}" in str(refused.value)
    assert reason in str(refused.value)


def test_a_missing_policy_is_no_policy(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="No such file"):
        load_policy(tmp_path / "policy.yaml")


def test_settings_name_the_variable_that_is_wrong(tmp_path: Path) -> None:
    home = {"GATEHOUSE_HOME": str(tmp_path)}
    with pytest.raises(SetupError, match="DATABASE_URL: not set"):
        load_settings(home)
    with pytest.raises(SetupError, match="REDIS_PORT: 'x' is not a number"):
        load_settings(home | {"DATABASE_URL": "postgresql://", "REDIS_PORT": "x"})
    with pytest.raises(SetupError, match="SERVER_ROOT_PATH"):
        load_settings(home | {"DATABASE_URL": "postgresql://", "SERVER_ROOT_PATH": "/proxy"})
    with pytest.raises(SetupError, match="FORWARDED_ALLOW_IPS"):
        load_settings(home | {"DATABASE_URL": "postgresql://", "FORWARDED_ALLOW_IPS": "*"})
    assert load_settings(home | {"DATABASE_URL": "postgresql://"}).trusted_proxies.networks == ()
