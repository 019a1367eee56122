"""The README's snippets do what the page says, in the order in which it gives them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from gatehouse.routes import RouteKind, classify
from gatehouse.settings import Policy

from tests.support.gateway import MASTER_KEY, REPOSITORY, Gateway

README = (REPOSITORY / "README.md").read_text()
SNIPPETS = re.findall(r"<!-- test: (\w+) -->\n```\w+\n(.*?)```", README, re.S)


def run(gateway: Gateway, command: list[str], folder: Path) -> str:
    environ = {**os.environ, "LITELLM_BASE_URL": gateway.url, "LITELLM_MASTER_KEY": MASTER_KEY}
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=folder, env=environ, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_curl_lines_of_the_readme_work(gateway: Gateway, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text(f"LITELLM_MASTER_KEY={MASTER_KEY}\n")
    script = "\n".join(code for kind, code in SNIPPETS if kind == "curl")
    script = script.replace("http://127.0.0.1:4000", gateway.url)
    output = run(gateway, ["bash", "-euo", "pipefail", "-c", script], tmp_path)
    assert "echo: Hello" in output
    assert '"key":"sk-' in output


@pytest.mark.parametrize("code", [code for kind, code in SNIPPETS if kind == "python"], ids=["openai", "adapter"])
def test_the_python_snippets_of_the_readme_work(gateway: Gateway, tmp_path: Path, code: str) -> None:
    assert "echo: Hello" in run(gateway, [sys.executable, "-c", code], tmp_path)


def test_the_paths_that_the_readme_names_exist() -> None:
    named = re.findall(r"\]\(([\w./-]+)\)|^\| `([\w./-]+)` \|", README, re.M)
    paths = {a or b for a, b in named} - {".env"}
    assert len(paths) > 8
    assert [path for path in paths if not (REPOSITORY / path).exists() and path != "logs/"] == []


def test_the_policy_in_the_operations_page_is_valid_and_does_what_it_says() -> None:
    page = (REPOSITORY / "docs" / "operations.md").read_text()
    (text,) = re.findall(r"```yaml\n(.*?)```", page, re.S)
    policy = Policy.model_validate(yaml.safe_load(text))
    assert classify("POST", "/v1/rerank", policy.ungoverned_routes) is RouteKind.OPEN
