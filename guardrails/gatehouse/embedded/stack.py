"""Starts and stops the embedded stack, and reports its state.

Promises: `up` returns when every part answers, or ends everything that it started and raises; `down` returns when
nothing of the stack is left; both may be called at any time, in any state.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from gatehouse.core.errors import SetupError
from gatehouse.embedded import preflight
from gatehouse.embedded.envfile import load
from gatehouse.embedded.logs import tail
from gatehouse.embedded.parts import StackPart, all_parts, prometheus_yml, redis_conf, supervisord_conf, write_private
from gatehouse.embedded.postgres import find_place, prepare_cluster
from gatehouse.embedded.probes import answers
from gatehouse.embedded.settings import StackSettings, read_settings
from gatehouse.embedded.supervisor import CONF, Process, Supervisor

# A cold first start on a slow machine imports LiteLLM (half a minute) and applies all of its migrations.
PATIENCE = 240.0
HEARTBEAT = 10.0
# Postgres may find shared memory of a predecessor that is still ending; the next try finds it gone.
TRIES = {"postgres": 5, "redis": 3, "gateway": 1, "prometheus": 3}
NAMES = ("gateway", "postgres", "redis", "prometheus")

Report = Callable[[str], None]


@dataclass(frozen=True)
class Row:
    """Describe one line of `gatehouse status`. `state` is running, starting, not answering, restarting or stopped."""

    part: str
    state: str
    pid: int
    address: str
    uptime: int


def default_gateway_command(settings: StackSettings) -> list[str]:
    script = Path(sys.executable).with_name("gatehouse")
    address = ["--host", settings.bind, "--port", str(settings.gateway_port)]
    return [sys.executable, str(script), "serve", *address, "--wait", f"{PATIENCE:.0f}"]


class Stack:
    """Control the stack of one project folder. `gateway_command`, if given, replaces `gatehouse serve`."""

    def __init__(self, home: Path, gateway_command: Sequence[str] | None = None) -> None:
        self.home = home
        self.state = home / ".gatehouse"
        self._gateway_command = gateway_command

    def settings(self) -> StackSettings:
        return read_settings(self.home, load(self.home))

    def up(self, report: Report, *, attached: bool = False) -> bool:
        """Start every part that does not run, and wait until all answer. Return False if the stack was up already.

        `report` receives a line for every step. When it raises `SetupError`, it has ended everything that it started.
        """
        preflight.check_packages()
        preflight.check_files(self.home)
        settings = self.settings()
        preflight.make_state(self.state)
        with self._alone(report):
            supervisor = Supervisor(self.state)
            if supervisor.processes() is not None:
                if all(row.state == "running" for row in self.status()):
                    return False
                report("it runs already, but not every part answers yet")
                self._wait(settings, supervisor, report, tries=None)
                return True
            try:
                self._start(settings, supervisor, report, attached=attached)
                self._wait(settings, supervisor, report, TRIES)
            except BaseException:  # also Ctrl-C: leave nothing half-started
                report("stopping the parts that were started")
                supervisor.stop(lambda _: None)
                raise
            return True

    def _start(self, settings: StackSettings, supervisor: Supervisor, report: Report, *, attached: bool) -> None:
        preflight.check_disk(self.state)
        if supervisor.survivors():
            report("waiting for processes of an earlier run to end")
            supervisor.end_leftovers(lambda _: None)
        place = find_place(settings)
        command = self._gateway_command or default_gateway_command(settings)
        parts = all_parts(settings, place, command)
        preflight.check_ports(parts, settings)
        if not (place.data / "PG_VERSION").exists():
            report("making the database")
        prepare_cluster(settings, place)
        self._configure(settings, supervisor, parts)
        report(f"starting {', '.join(part.name for part in parts)}")
        child = supervisor.start(attached=attached)
        deadline = time.monotonic() + 20
        while supervisor.processes() is None:
            if child.poll() is not None or time.monotonic() > deadline:
                raise SetupError(f"supervisor: it did not start. {self._last_words('supervisor')}")
            time.sleep(0.05)

    def _configure(self, settings: StackSettings, supervisor: Supervisor, parts: Sequence[StackPart]) -> None:
        write_private(self.state / "redis.conf", redis_conf(settings))
        write_private(self.state / "metrics_token", settings.metrics_token)
        write_private(self.state / "prometheus.yml", prometheus_yml(settings))
        write_private(self.state / CONF, supervisord_conf(parts, supervisor.socket_in_conf))
        for part in parts:
            part.launch.write(self.state / f"run/{part.name}.json")

    def _wait(
        self, settings: StackSettings, supervisor: Supervisor, report: Report, tries: Mapping[str, int] | None
    ) -> None:
        """Wait until every part answers. Prepare Postgres as soon as it does, because the gateway waits for that.

        Raise `SetupError` with the log's end for a part that dies `tries` times.
        """
        begun = reported = time.monotonic()
        prepared = False
        ready: set[str] = set()
        last: dict[str, Process] = {}
        deaths: dict[str, set[int]] = {}  # by part, the start times of its ended processes
        while True:
            processes = supervisor.processes()
            if processes is None:
                raise SetupError(f"supervisor: it ended. {self._last_words('supervisor')}")
            for process in processes:
                name, before = process.name, last.get(process.name, process)
                if process.pid != before.pid and before.pid:
                    deaths.setdefault(name, set()).add(before.started)
                    ready.discard(name)
                if process.state in ("BACKOFF", "EXITED", "FATAL"):
                    deaths.setdefault(name, set()).add(process.started)
                last[name] = process
                if tries and len(deaths.get(name, ())) >= tries[name]:
                    raise SetupError(f"{name}: it ended while starting. {self._last_words(name)}")
                if name not in ready and process.pid and answers(name, settings):
                    ready.add(name)
                    report(f"{name} is ready")
                    if name == "postgres" and not prepared:
                        self._prepare(settings, report)
                        prepared = True
            missing = [process.name for process in processes if process.name not in ready]
            if not missing:
                return
            now = time.monotonic()
            if now > begun + PATIENCE:
                late = missing[0]
                raise SetupError(f"{late}: no answer after {PATIENCE:.0f} seconds. {self._last_words(late)}")
            if now > reported + HEARTBEAT:
                reported = now
                report(f"still waiting for {', '.join(missing)} ({now - begun:.0f} s)")
            time.sleep(0.2)

    def _prepare(self, settings: StackSettings, report: Report) -> None:
        from gatehouse.ledger.provisioning import prepare
        from gatehouse.storage.litellm_schema import build_request_log_indexes

        key_dir = settings.ledger_dir / "keys"
        for line in prepare(settings.database_url, settings.gateway_database_url, key_dir):
            report(line)
        build_request_log_indexes(settings.database_url)

    def _last_words(self, part: str) -> str:
        lines = tail(self.state / f"logs/{part}.log", 15)
        quoted = "\n".join(f"    {line}" for line in lines) or "    (nothing)"
        return f"The end of its log, {self.state / 'logs' / part}.log:\n{quoted}"

    def down(self, report: Report) -> bool:
        """End everything and wait until it has ended. Return False if nothing was running. Data stays."""
        if not self.state.is_dir():
            return False
        reported: list[str] = []

        def waiting(alive: list[str]) -> None:
            if alive != reported and alive:
                reported[:] = alive
                report(f"waiting for {', '.join(alive)} to end")

        with self._alone(report):
            return Supervisor(self.state).stop(waiting)

    def processes(self) -> list[Process] | None:
        return Supervisor(self.state).processes() if self.state.is_dir() else None

    def status(self) -> list[Row]:
        """Return one row for each part of this machine, whether or not it runs."""
        settings = self.settings()
        found = {process.name: process for process in self.processes() or []}
        rows = []
        for name in NAMES:
            if name == "prometheus" and name not in found and shutil.which("prometheus") is None:
                continue
            address = settings.address(name)
            process = found.get(name)
            state = _state(process, settings) if process else "stopped"
            rows.append(Row(name, state, process.pid if process else 0, address, process.uptime if process else 0))
        return rows

    def env_is_newer(self) -> bool:
        """Tell whether `.env` has changed since the stack started, so that a restart would apply it."""
        try:
            return (self.home / ".env").stat().st_mtime > (self.state / CONF).stat().st_mtime
        except OSError:
            return False

    @contextmanager
    def _alone(self, report: Report) -> Iterator[None]:
        """Let one `up` or `down` at a time work on this folder; the kernel frees the lock of a killed one."""
        descriptor = os.open(self.state / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                report("waiting for another `gatehouse up` or `down` of this folder")
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)


def _state(process: Process, settings: StackSettings) -> str:
    if process.state in ("BACKOFF", "EXITED", "FATAL"):
        return "restarting"
    if process.state not in ("RUNNING", "STARTING"):
        return "stopped"
    if answers(process.name, settings, timeout=1.0):
        return "running"
    return "starting" if process.uptime < PATIENCE else "not answering"
