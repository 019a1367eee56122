"""Reads and checks the embedded stack's settings from `.env`, and makes the gateway process's environment from them.

It imports the standard library only: `child` loads it right before it becomes the gateway.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

from gatehouse.core.errors import SetupError

PORTS = {"GATEHOUSE_PORT": 4000, "POSTGRES_PORT": 15432, "REDIS_PORT": 16379, "PROMETHEUS_PORT": 9090}
LOCAL = "127.0.0.1"
OWNER, GATEWAY_ROLE = "gatehouse", "gatehouse_gateway"
# The gateway does not receive the owner's access to the database, even if the person who ran `up` has it.
NOT_FOR_THE_GATEWAY = ("POSTGRES_PASSWORD", "GATEHOUSE_OWNER_DATABASE_URL")


@dataclass(frozen=True)
class StackSettings:
    """Hold the address and the secrets of each part. Everything but the gateway listens on 127.0.0.1."""

    home: Path
    bind: str
    gateway_port: int
    postgres_port: int
    redis_port: int
    prometheus_port: int
    master_key: str = field(repr=False)
    postgres_password: str = field(repr=False)
    gateway_db_password: str = field(repr=False)
    redis_password: str = field(repr=False)
    metrics_token: str = field(repr=False)

    @property
    def state(self) -> Path:
        """Return the folder of everything that this mode writes, except the audit lines in `logs/`."""
        return self.home / ".gatehouse"

    @property
    def gateway_host(self) -> str:
        """Return the address at which this machine itself reaches the gateway."""
        return {"0.0.0.0": LOCAL, "::": "[::1]", "": LOCAL}.get(self.bind, self.bind)  # noqa: S104

    @property
    def gateway_url(self) -> str:
        return f"http://{self.gateway_host}:{self.gateway_port}"

    def address(self, part: str) -> str:
        """Return where a person finds that part: a URL for HTTP, else host and port."""
        return {
            "gateway": self.gateway_url,
            "prometheus": f"http://{LOCAL}:{self.prometheus_port}",
            "postgres": f"{LOCAL}:{self.postgres_port}",
            "redis": f"{LOCAL}:{self.redis_port}",
        }[part]

    @property
    def ledger_dir(self) -> Path:
        return self.state / "ledger"

    @property
    def database_url(self) -> str:
        """Return the database's URL for its owner."""
        return self._database_url(OWNER, self.postgres_password)

    @property
    def gateway_database_url(self) -> str:
        """Return the database's URL for the gateway's role."""
        return self._database_url(GATEWAY_ROLE, self.gateway_db_password)

    def _database_url(self, role: str, password: str) -> str:
        return f"postgresql://{role}:{quote(password, safe='')}@{LOCAL}:{self.postgres_port}/gatehouse"


def read_settings(home: Path, env: Mapping[str, str]) -> StackSettings:
    """Check the values of `.env`. Raise `SetupError` for a missing secret, a bad port, or one port used twice."""

    def secret(name: str) -> str:
        if not env.get(name):
            raise SetupError(f"{name}: it is not set in {home / '.env'}. Run `gatehouse init` to fill it in.")
        return env[name]

    ports: dict[int, str] = {}
    for name, default in PORTS.items():
        text = env.get(name) or str(default)
        if not text.isascii() or not text.isdigit() or not 0 < int(text) < 65536:
            raise SetupError(f"{name}: {text!r} is not a port. Set it to a number from 1 to 65535 in {home / '.env'}.")
        if int(text) in ports:
            raise SetupError(f"{name}: port {text} is also {ports[int(text)]}. Give each its own in {home / '.env'}.")
        ports[int(text)] = name
    port = {name: number for number, name in ports.items()}
    return StackSettings(
        home=home,
        bind=env.get("GATEHOUSE_BIND") or LOCAL,
        gateway_port=port["GATEHOUSE_PORT"],
        postgres_port=port["POSTGRES_PORT"],
        redis_port=port["REDIS_PORT"],
        prometheus_port=port["PROMETHEUS_PORT"],
        master_key=secret("LITELLM_MASTER_KEY"),
        postgres_password=secret("POSTGRES_PASSWORD"),
        gateway_db_password=secret("GATEHOUSE_DB_PASSWORD"),
        redis_password=secret("REDIS_PASSWORD"),
        metrics_token=secret("GATEHOUSE_METRICS_TOKEN"),
    )


def gateway_environment(home: Path, env: Mapping[str, str]) -> dict[str, str]:
    """Return what `gatehouse serve` needs besides the environment it inherits: `.env`, its database and its cache.

    An empty value in `.env` is left out, so that an exported one (a provider key, for example) takes effect.
    """
    settings = read_settings(home, env)
    return {
        **{name: value for name, value in env.items() if value and name not in NOT_FOR_THE_GATEWAY},
        "DATABASE_URL": settings.gateway_database_url,
        "REDIS_HOST": LOCAL,
        "REDIS_PORT": str(settings.redis_port),
        "REDIS_PASSWORD": settings.redis_password,
        "GATEHOUSE_HOME": str(home),
        "GATEHOUSE_LOG_DIR": env.get("GATEHOUSE_LOG_DIR") or str(home / "logs"),
        "GATEHOUSE_LEDGER_DIR": str(settings.ledger_dir),
        "CONFIG_FILE_PATH": str(home / "config.yaml"),
        "GATEHOUSE_POLICY": str(home / "policy.yaml"),
    }
