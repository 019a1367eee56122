"""Runs one block of a page as a reader would; the block's language says how, and the page says in what surroundings.

Every page has a folder of its own, in which its blocks find what the ones before them left.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import psycopg
import yaml
from gatehouse.policy.load import load_policy
from gatehouse.policy.model import Policy

from tests.support.markdown import Block

CONFIG_SECTIONS = {"model_list", "litellm_settings", "router_settings", "general_settings"}
_ID = re.compile(r"\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b")
_LINE = "http://127.0.0.1:4000"
# An HTTP error is an error: what a page shows is what works.
_PRELUDE = 'curl() { command curl -sS --fail-with-body "$@"; }\n'


@dataclass(frozen=True)
class Surroundings:
    """Holds what a page's blocks run in.

    Attributes:
        folder: the working directory.
        environ: the environment; its CALL_ID stands wherever a command names a call.
        url: stands wherever a page says http://127.0.0.1:4000.
        database_url: what `sql` asks.
    """

    folder: Path
    environ: Mapping[str, str]
    url: str
    database_url: str


def run(block: Block, around: Surroundings, before: str = "") -> None:
    """Run `block`, or check it where it is a file; an AssertionError says what is wrong.

    Args:
        before: what a Python block continues.
    """
    if name := block.remarks.get("file"):
        (around.folder / name).write_text(block.code)
    match block.language:
        case "python":
            script = around.folder / f"line_{block.line}.py"
            script.write_text(before + block.code)
            _expect(block, _run([sys.executable, str(script)], block, around))
        case "sh" | "bash":
            _expect(block, _shell(block.code, block, around))
        case "console":
            _console(block, around)
        case "yaml":
            _yaml(block, around)
        case "json":
            json.loads(block.code)
        case "toml":
            tomllib.loads(block.code)
        case "sql":
            with psycopg.connect(around.database_url) as connection:
                connection.execute(block.code)
        case "text" | "mermaid":
            pass
        case other:
            raise AssertionError(f"no way to run {other or 'a block without a language'!r}: name one, or add it here")


def _shell(code: str, block: Block, around: Surroundings) -> str:
    script = _PRELUDE + _ID.sub(around.environ.get("CALL_ID", ""), code).replace(_LINE, around.url)
    return _run(["bash", "-euo", "pipefail", "-c", script], block, around)


def _run(command: list[str], block: Block, around: Surroundings) -> str:
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=180, cwd=around.folder, env=dict(around.environ), check=False
    )
    assert done.returncode == int(block.remarks.get("exit", "0")), f"{block}:\n{done.stdout}\n{done.stderr}"
    return done.stdout


def _console(block: Block, around: Surroundings) -> None:
    """Run each `$ command`, and compare its output with what the page shows below it."""
    steps = re.findall(r"^\$ (.*(?:\\\n.*)*)\n((?:(?!\$ ).*\n)*)", block.code, re.MULTILINE)
    assert steps, f"{block}: a console block has commands that begin with `$ `"
    for command, shown in steps:
        printed = _shell(command, block, around)
        if shown.strip():
            assert _matches(shown, printed), f"{block}: {command}\nshown:\n{shown}\nprinted:\n{printed}"


def _expect(block: Block, printed: str) -> None:
    if block.output is None:
        return
    shown = block.output.code
    if block.output.language == "json":
        shown, printed = (json.dumps(json.loads(text), sort_keys=True) for text in (shown, printed))
    assert _matches(shown, printed), f"{block}\nshown:\n{shown}\nprinted:\n{printed}"


def _matches(shown: str, printed: str) -> bool:
    """Tell whether this is what the page shows; numbers, times, ids and hashes may differ, `…` stands for any text."""
    pattern = ".*".join(re.escape(_without_values(part)) for part in shown.split("…"))
    return re.fullmatch(pattern, _without_values(printed), re.DOTALL) is not None


def _without_values(text: str) -> str:
    for pattern, name in (
        (_ID.pattern, "ID"),
        (r"<([A-Z_]+)_[0-9A-HJKMNP-TV-Z]{8,10}>", r"<\1>"),
        (r"\b\d{4}-\d\d-\d\d[T ][\d:.]+(?:Z|[+-]\d\d:\d\d)?", "TIME"),
        (r"\b\d[\d,]*(?:\.\d+)?(?:e[+-]\d+)?\b( \w+?)?s?\b", r"N\1"),  # one record, two records
        (r"\b[0-9a-f]{12,}\b|[\w+/]{40,}=*", "HASH"),
        (r"\s+", " "),
    ):
        text = re.sub(pattern, name, text)
    return text.strip()


def _yaml(block: Block, around: Surroundings) -> None:
    """Check a policy, cases for the policy above them, or a part of config.yaml."""
    content: Any = yaml.safe_load(block.code)
    assert isinstance(content, dict), f"{block}: a YAML block shows sections of a file"
    if "cases" in content:
        (around.folder / "cases.yaml").write_text(block.code)
        _shell("gatehouse policy test cases.yaml --policy policy.yaml", block, around)
    elif content.keys() <= CONFIG_SECTIONS:
        (around.folder / "config.yaml").write_text(block.code)
        for named in re.findall(r"\bgatehouse\.[\w.]+", block.code):
            module, _, name = named.rpartition(".")
            assert hasattr(import_module(module), name), f"{block}: there is no {named}"
    elif content.keys() <= Policy.model_fields.keys():
        version = "" if "version" in content else "version: 1\n"
        (around.folder / "policy.yaml").write_text(version + block.code)
        load_policy(around.folder / "policy.yaml")
    else:
        raise AssertionError(f"{block}: neither a policy, nor cases of one, nor a part of config.yaml")
