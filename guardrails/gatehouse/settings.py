"""What the gateway is told from outside: environment variables, and policy.yaml, checked line by line."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from gatehouse.errors import SetupError
from gatehouse.home import find_home

_N = TypeVar("_N", int, float)


class AuditPolicy(BaseModel):
    """`audit` in policy.yaml: what the ledger keeps, in which chains, and what happens while it cannot be written."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    content: Literal["hash", "full"] = Field(default="hash", description="How much of prompt and answer is kept.")
    chain: Literal["single", "team"] = Field(default="single", description="One chain, or one for each team.")
    on_error: Literal["deny", "spool"] = Field(
        default="deny", description="Refuse calls while the ledger cannot be written, or keep their records in a file."
    )


class Policy(BaseModel):
    """policy.yaml. An unknown key is an error: a rule that is not understood must not look as if it were in force."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    version: Literal[1]
    ungoverned_routes: tuple[str, ...] = Field(
        default=(), description="Routes let through without governance; a trailing `*` stands for all that begin so."
    )

    audit: AuditPolicy = AuditPolicy()

    @field_validator("ungoverned_routes")
    @classmethod
    def _are_paths(cls, routes: tuple[str, ...]) -> tuple[str, ...]:
        for route in routes:
            if not route.startswith("/") or route.rstrip("*") == "/":
                raise ValueError(f"{route!r} is not a route; write a path such as /v1/rerank or /vertex_ai/*")
        return routes


@dataclass(frozen=True, slots=True)
class LoadedPolicy:
    """A policy with its version: the SHA-256 of the file's bytes, lower-case hex."""

    policy: Policy
    version: str


@dataclass(frozen=True, slots=True)
class Settings:
    """The gateway process's environment, read once at start."""

    home: Path
    config_path: Path
    policy_path: Path
    log_dir: Path
    log_max_bytes: int
    log_keep: int
    ledger_dir: Path
    database_url: str
    metrics_token: str | None
    redis_host: str | None
    redis_port: int
    redis_password: str | None
    settle_grace_s: float

    @property
    def key_dir(self) -> Path:
        return self.ledger_dir / "keys"

    @property
    def checkpoint_dir(self) -> Path:
        return self.ledger_dir / "checkpoints"

    @property
    def spool_dir(self) -> Path:
        return self.ledger_dir / "spool"


def load_settings(environ: Mapping[str, str] = os.environ) -> Settings:
    """Read the gateway's settings.

    Raises:
        SetupError: a variable that the gateway cannot do without is missing or malformed.
    """
    home = find_home(environ, Path.cwd())
    url = environ.get("DATABASE_URL")
    if not url:
        raise SetupError("DATABASE_URL: not set. Start the gateway with ./setup.sh, or name its database there.")
    if environ.get("SERVER_ROOT_PATH", "") not in ("", "/"):
        raise SetupError(
            "SERVER_ROOT_PATH: routes are governed by their full path. Serve the gateway at the root instead."
        )
    return Settings(
        home=home,
        config_path=Path(environ.get("CONFIG_FILE_PATH") or home / "config.yaml"),
        policy_path=Path(environ.get("GATEHOUSE_POLICY") or home / "policy.yaml"),
        log_dir=Path(environ.get("GATEHOUSE_LOG_DIR") or home / "logs"),
        log_max_bytes=_number(environ, "GATEHOUSE_LOG_MAX_BYTES", 100_000_000, int),
        log_keep=_number(environ, "GATEHOUSE_LOG_KEEP", 20, int),
        ledger_dir=Path(environ.get("GATEHOUSE_LEDGER_DIR") or home / ".gatehouse" / "ledger"),
        database_url=url,
        metrics_token=environ.get("GATEHOUSE_METRICS_TOKEN") or None,
        redis_host=environ.get("REDIS_HOST") or None,
        redis_port=_number(environ, "REDIS_PORT", 6379, int),
        redis_password=environ.get("REDIS_PASSWORD") or None,
        settle_grace_s=_number(environ, "GATEHOUSE_SETTLE_GRACE_SECONDS", 5.0, float),
    )


def _number(environ: Mapping[str, str], name: str, default: _N, kind: type[_N]) -> _N:
    text = environ.get(name)
    if not text:
        return default
    try:
        return kind(text)
    except ValueError:
        raise SetupError(f"{name}: {text!r} is not a number. Correct it in .env.") from None


def load_policy(path: Path) -> LoadedPolicy:
    """Read and validate policy.yaml.

    Raises:
        SetupError: with file, line and what was expected.
    """
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise SetupError(f"{path}: {error.strerror}. Restore the file or point GATEHOUSE_POLICY to it.") from None
    try:
        root = yaml.compose(raw, Loader=yaml.SafeLoader)
        document = yaml.safe_load(raw)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise SetupError(f"{path}:{line}: {error.problem}. Correct the YAML.") from None
    try:
        policy = Policy.model_validate({} if document is None else document)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        raise SetupError(
            f"{path}:{_line_of(root, first['loc'])}: {where}: {first['msg']}. Correct it and start again."
        ) from None
    return LoadedPolicy(policy, hashlib.sha256(raw).hexdigest())


def _line_of(node: yaml.Node | None, location: tuple[int | str, ...]) -> int:
    """The line (from 1) of the innermost node on the way to `location`."""
    line = node.start_mark.line + 1 if node else 1
    for part in location:
        node = next(_children(node, part), None)
        if node is None:
            break
        line = node.start_mark.line + 1
    return line


def _children(node: yaml.Node | None, part: int | str) -> Iterator[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        yield from (value for key, value in node.value if key.value == str(part))
    elif isinstance(node, yaml.SequenceNode) and isinstance(part, int):
        yield from node.value[part : part + 1]
