"""Prepares Prisma for LiteLLM: an engine for this machine, and the Python client generated for LiteLLM's schema.

Many networks do not reach the download of the native engine; the WASM engine in `prisma-engine/` needs only npm
packages. A record beside the generated client lists what it was made from, so a moved checkout or a new LiteLLM is
prepared again, and nothing else is.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from enum import StrEnum
from importlib.metadata import version
from pathlib import Path

from gatehouse.core.errors import SetupError
from gatehouse.storage.node import Node, find_node, npm_ci

WASM_VERSION = "5.17.0"
WASM_COMMIT = "393aa359c9ad4a4bb28630fb5613f9c281cde053"
NATIVE_SECONDS = 60  # a download takes seconds; where a firewall drops its packets it would hang for minutes
GENERATE_SECONDS = 120
AGAIN = "Run `gatehouse engine install`"
CHECK_NETWORK = "Check the network, or use `--engine wasm`"

_TABLE_TYPES = "table_types.py"
_LOAD_TABLE_TYPES = """

def __getattr__(name):
    if name.startswith("__"):
        raise AttributeError(name)
    from . import table_types

    return getattr(table_types, name)
"""

Say = Callable[[str], None]


class EngineKind(StrEnum):
    """Name the two engines: Prisma's binary, and its WASM build under Node."""

    NATIVE = "native"
    WASM = "wasm"


@dataclass(frozen=True, slots=True)
class Prepared:
    """Record what the generated client was made from. It equals `_wanted` while nothing has changed."""

    kind: str
    engine: str
    node: str | None
    client: str
    schema_sha256: str
    packages_sha256: str


def install(home: Path, wanted: EngineKind | None, say: Say, *, dev: bool = False) -> Prepared:
    """Prepare the wanted engine; with None, the native one if it can be downloaded, else the WASM one.

    Args:
        home: the project root, holding `prisma-engine`.
        say: receives one line for each long step, and one with the engine chosen and the reason.
        dev: also install the tools that check prisma-engine itself.

    Raises:
        SetupError: it failed; a later run does not take what it left for a complete engine.
    """
    if shutil.which("openssl") is None:
        # The client runs `openssl version` at each connect to name its platform, and fails without it.
        raise SetupError(
            "openssl: not found on PATH, and Prisma's Python client asks it for its version. Install openssl."
        )
    with _alone(home):
        if wanted is EngineKind.NATIVE:
            return _install_native(home, say)
        if wanted is None:
            ready = _current(home)
            if ready is not None:
                say(f"prisma engine: {ready.kind}, already prepared ({ready.engine})")
                return ready
            try:
                return _install_native(home, say)
            except SetupError as error:
                shutil.rmtree(_folder(home) / "native" / "node_modules", ignore_errors=True)
                reason = str(error).removesuffix(f". {CHECK_NETWORK}.")
                return _install_wasm(home, say, f"the native one cannot be had: {reason}", dev=dev)
        return _install_wasm(home, say, "asked for", dev=dev)


def engine_environment(home: Path) -> dict[str, str]:
    """Return the environment variables with which LiteLLM's Prisma client starts the prepared engine.

    Raises:
        SetupError: no engine was prepared, or what it was prepared from has changed.
    """
    ready = current(home)
    return {"PRISMA_QUERY_ENGINE_BINARY": ready.engine} | ({"GATEHOUSE_NODE": ready.node} if ready.node else {})


def current(home: Path) -> Prepared:
    """Return the prepared engine, if it is still current.

    Raises:
        SetupError: no engine is.
    """
    ready = _current(home)
    if ready is None:
        raise SetupError(f"Prisma: no engine is prepared for this checkout and this LiteLLM. {AGAIN}.")
    return ready


def engine_version(ready: Prepared) -> str:
    """Return the engine's answer to `--version`.

    Raises:
        SetupError: the engine does not answer.
    """
    env = os.environ | ({"GATEHOUSE_NODE": ready.node} if ready.node else {})
    try:
        done = subprocess.run(  # noqa: S603
            [ready.engine, "--version"], env=env, capture_output=True, text=True, timeout=10, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise SetupError(f"Prisma's {ready.kind} engine: it does not start ({error}). {AGAIN}.") from error
    if done.returncode != 0:
        raise SetupError(f"Prisma's {ready.kind} engine: {done.stderr.strip().removeprefix('error: ')}")
    return done.stdout.strip()


def _install_wasm(home: Path, say: Say, why: str, *, dev: bool) -> Prepared:
    folder = _folder(home)
    node = find_node()
    packages, needed = folder / "node_modules", _packages_sha256(folder)
    stamp = packages / ".gatehouse-sha256"
    complete = stamp.is_file() and stamp.read_text() == needed
    if not complete or (dev and not (packages / "typescript").is_dir()):
        say("prisma engine: installing its npm packages (some seconds) ...")
        npm_ci(node, folder, dev=dev)
        stamp.write_text(needed)
    target = _wanted(home, EngineKind.WASM, folder / "query-engine", node)
    if _current(home) == target:
        say(f"prisma engine: wasm, already prepared ({target.engine})")
        return target
    say("prisma engine: generating the client for LiteLLM's schema (some seconds) ...")
    env = {
        "GATEHOUSE_NODE": str(node.executable),
        "PRISMA_BINARY_CACHE_DIR": str(folder),
        "PRISMA_QUERY_ENGINE_BINARY": target.engine,
        "PRISMA_SCHEMA_ENGINE_BINARY": target.engine,
        "PRISMA_VERSION": WASM_VERSION,
        "PRISMA_EXPECTED_ENGINE_VERSION": WASM_COMMIT,
    }
    _generate(node, env, GENERATE_SECONDS)
    _record(target)
    say(f"prisma engine: wasm ({why})")
    return target


def _install_native(home: Path, say: Say) -> Prepared:
    folder = _folder(home) / "native"
    node = find_node()
    say(f"prisma engine: trying the native one (at most {NATIVE_SECONDS} s) ...")
    npm_ci(node, folder)
    _generate(node, {"PRISMA_BINARY_CACHE_DIR": str(folder)}, NATIVE_SECONDS)
    for candidate in sorted((folder / "node_modules").glob("**/query-engine-*")):
        if candidate.suffix in ("", ".x") and os.access(candidate, os.X_OK):
            target = _wanted(home, EngineKind.NATIVE, candidate, None)
            engine_version(target)
            _record(target)
            say("prisma engine: native (downloaded for this machine)")
            return target
    raise SetupError(f"Prisma's native engine: `prisma generate` left none under {folder}. Use `--engine wasm`.")


def _generate(node: Node, extra: dict[str, str], seconds: int) -> None:
    base = {name: value for name, value in os.environ.items() if not name.startswith("PRISMA_")}
    env = node.environment(base) | extra
    # Prisma starts the generator `prisma-client-py` by name; it is installed beside this Python.
    env["PATH"] = os.pathsep.join((str(Path(sys.executable).parent), env["PATH"]))
    # LiteLLM's schema names five platforms. Each is a download, and the client would try all five at each connect.
    text = re.sub(r"binaryTargets\s*=\s*\[[^]]*]", 'binaryTargets = ["native"]', _litellm_schema().read_text())
    _stamp().unlink(missing_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        schema = Path(scratch, "schema.prisma")
        schema.write_text(text)
        command = [sys.executable, "-m", "prisma", "generate", f"--schema={schema}"]
        try:
            done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=seconds, check=False)  # noqa: S603
        except subprocess.TimeoutExpired as error:
            raise SetupError(f"prisma generate: no end within {seconds} s. {CHECK_NETWORK}.") from error
    if done.returncode != 0:
        raise SetupError(f"prisma generate: {_reason(done.stdout + done.stderr)}. {CHECK_NETWORK}.")
    _set_table_types_aside(_package("prisma"))


def _set_table_types_aside(client: Path) -> None:
    """Move the types of LiteLLM's tables out of `types.py`, which then loads them when something asks for one.

    Only type checkers read these 245,000 lines. Executing them costs each start of the gateway seconds and 200 MB.
    """
    text = (client / "types.py").read_text()
    (client / _TABLE_TYPES).write_text(text)
    (client / "types.py").write_text(text.partition("\n# LiteLLM_")[0] + _LOAD_TABLE_TYPES)


def _reason(output: str) -> str:
    plain = [re.sub(r"\x1b\[[0-9;]*m", "", line).strip() for line in output.splitlines()]
    errors = [line for line in plain if line.startswith("Error") or "Error:" in line]
    return (errors or [line for line in plain if line] or ["it failed and gave no reason"])[0].rstrip(".")[:300]


def _current(home: Path) -> Prepared | None:
    try:
        ready = Prepared(**json.loads(_stamp().read_text()))
    except (OSError, ValueError, TypeError):
        return None
    node = Path(ready.node) if ready.node else None
    engine = _folder(home) / "query-engine" if ready.kind == EngineKind.WASM else Path(ready.engine)
    target = _wanted(home, EngineKind(ready.kind), engine, Node(node, None) if node else None)
    there = (
        os.access(engine, os.X_OK)
        and (node is None or node.is_file())
        and (_package("prisma") / "client.py").is_file()
        and (_package("prisma") / _TABLE_TYPES).is_file()
    )
    return ready if there and ready == target else None


def _wanted(home: Path, kind: EngineKind, engine: Path, node: Node | None) -> Prepared:
    folder = _folder(home)
    return Prepared(
        kind=kind.value,
        engine=str(engine),
        node=str(node.executable) if node else None,
        client=version("prisma"),
        schema_sha256=hashlib.sha256(_litellm_schema().read_bytes()).hexdigest(),
        packages_sha256=_packages_sha256(folder if kind is EngineKind.WASM else folder / "native"),
    )


def _record(prepared: Prepared) -> None:
    _stamp().write_text(json.dumps(asdict(prepared), indent=2) + "\n")


def _stamp() -> Path:
    return _package("prisma") / "gatehouse-engine.json"


def _litellm_schema() -> Path:
    return _package("litellm") / "proxy" / "schema.prisma"


def _package(name: str) -> Path:
    spec = importlib.util.find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        raise SetupError(f"Python package {name}: it is not installed. Run `uv sync`, or install gatehouse again.")
    return Path(spec.submodule_search_locations[0])


def _packages_sha256(folder: Path) -> str:
    return hashlib.sha256((folder / "package-lock.json").read_bytes()).hexdigest()


def _folder(home: Path) -> Path:
    folder = home.resolve() / "prisma-engine"
    if not (folder / "package-lock.json").is_file():
        raise SetupError(
            f"Prisma's WASM engine: there is no {folder}. Go to a Gatehouse checkout, or set GATEHOUSE_HOME."
        )
    return folder


@contextmanager
def _alone(home: Path) -> Iterator[None]:
    """Allow one installation at a time: npm and the generator both rewrite folders in place."""
    handle = os.open(_folder(home), os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
