"""The gateway's settings from environment variables; those of policy.yaml are in `gatehouse.policy`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from gatehouse.core.errors import SetupError
from gatehouse.core.home import find_home
from gatehouse.core.keys import InstallationKeys
from gatehouse.core.proxies import TrustedProxies

_N = TypeVar("_N", int, float)


@dataclass(frozen=True, slots=True)
class Settings:
    """Hold the gateway process's environment, read once at start."""

    home: Path
    config_path: Path
    policy_path: Path
    log_dir: Path
    log_max_bytes: int
    log_keep: int
    ledger_dir: Path
    checkpoint_dir: Path
    database_url: str
    secret: str = field(repr=False)
    metrics_token: str | None
    redis_host: str | None
    redis_port: int
    redis_password: str | None
    settle_grace_s: float
    report_within_s: float
    scanners: int
    max_body_bytes: int
    max_answer_bytes: int
    trusted_proxies: TrustedProxies

    @property
    def keys(self) -> InstallationKeys:
        """Return the keys derived from the installation secret.

        Raises:
            SetupError: there is no secret, or it is too short.
        """
        return InstallationKeys.parse(self.secret)

    @property
    def key_dir(self) -> Path:
        return self.ledger_dir / "keys"

    @property
    def spool_dir(self) -> Path:
        return self.ledger_dir / "spool"


def load_settings(environ: Mapping[str, str] = os.environ) -> Settings:
    """Read the gateway's settings.

    Raises:
        SetupError: a required variable is missing or malformed.
    """
    home = find_home(environ, Path.cwd())
    url = environ.get("DATABASE_URL")
    if not url:
        raise SetupError("DATABASE_URL: not set. Start the gateway with ./setup.sh, or name its database there.")
    if environ.get("SERVER_ROOT_PATH", "") not in ("", "/"):
        raise SetupError(
            "SERVER_ROOT_PATH: routes are governed by their full path. Serve the gateway at the root instead."
        )
    ledger_dir = Path(environ.get("GATEHOUSE_LEDGER_DIR") or home / ".gatehouse" / "ledger")
    return Settings(
        home=home,
        config_path=Path(environ.get("CONFIG_FILE_PATH") or home / "config.yaml"),
        policy_path=Path(environ.get("GATEHOUSE_POLICY") or home / "policy.yaml"),
        log_dir=Path(environ.get("GATEHOUSE_LOG_DIR") or home / "logs"),
        log_max_bytes=_number(environ, "GATEHOUSE_LOG_MAX_BYTES", 100_000_000, int),
        log_keep=_number(environ, "GATEHOUSE_LOG_KEEP", 20, int),
        ledger_dir=ledger_dir,
        checkpoint_dir=Path(environ.get("GATEHOUSE_CHECKPOINT_DIR") or ledger_dir / "checkpoints"),
        database_url=url,
        secret=environ.get("GATEHOUSE_SECRET") or "",
        metrics_token=environ.get("GATEHOUSE_METRICS_TOKEN") or None,
        redis_host=environ.get("REDIS_HOST") or None,
        redis_port=_number(environ, "REDIS_PORT", 6379, int),
        redis_password=environ.get("REDIS_PASSWORD") or None,
        settle_grace_s=_number(environ, "GATEHOUSE_SETTLE_GRACE_SECONDS", 5.0, float),
        report_within_s=_number(environ, "GATEHOUSE_REPORT_WITHIN_SECONDS", 900.0, float),
        scanners=_number(environ, "GATEHOUSE_SCANNERS", 2, int),
        max_body_bytes=_number(environ, "GATEHOUSE_MAX_BODY_BYTES", 33_554_432, int),
        max_answer_bytes=_number(environ, "GATEHOUSE_MAX_ANSWER_BYTES", 64 * 1024 * 1024, int),
        trusted_proxies=TrustedProxies.parse(environ.get("FORWARDED_ALLOW_IPS") or ""),
    )


def _number(environ: Mapping[str, str], name: str, default: _N, kind: type[_N]) -> _N:
    text = environ.get(name)
    if not text:
        return default
    try:
        return kind(text)
    except ValueError:
        raise SetupError(f"{name}: {text!r} is not a number. Correct it in .env.") from None
