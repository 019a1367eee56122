"""The embedded stack with real Postgres and Redis starts, recovers, stops completely, and keeps its data."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import psycopg
import pytest
import redis
from gatehouse.core.errors import SetupError
from gatehouse.embedded.setup import first_call
from gatehouse.embedded.stack import Stack, default_gateway_command
from gatehouse.embedded.supervisor import Supervisor

from tests.support.embedded import REPOSITORY, Project, gone
from tests.support.gateway import query_engine_of
from tests.support.process import PATIENCE_S, accepts, wait_until

DRIVER = """
import sys
from pathlib import Path
from gatehouse.cli.stack import run_up
from gatehouse.embedded.stack import Stack
home = Path(sys.argv[1])
run_up(Stack(home, [sys.executable, str(home / "stand_in.py")]), foreground=True)
"""


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """Make a folder that the user of root's Postgres can reach, unlike pytest's temporary folders."""
    path = Path(tempfile.mkdtemp(prefix="gatehouse-embedded-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="module")
def shared(folder: Path) -> Iterator[Project]:
    # A name with everything that a configuration file could trip over.
    project = Project(folder / 'it\'s #1; 100%s "odd"')
    yield project
    project.remove()


@pytest.fixture
def project(shared: Project) -> Project:
    """Return the shared stack, running."""
    (shared.home / "broken").unlink(missing_ok=True)
    shared.up()
    return shared


def secrets_of(project: Project) -> list[str]:
    settings = project.stack.settings()
    passwords = [settings.postgres_password, settings.gateway_db_password, settings.redis_password]
    return [settings.master_key, *passwords, settings.metrics_token]


def test_up_starts_everything_and_a_second_up_changes_nothing(project: Project) -> None:
    assert project.all_running()
    before, begun = project.pid("gateway"), time.monotonic()
    assert project.up() is False
    assert time.monotonic() - begun < 10
    assert project.pid("gateway") == before


def test_down_ends_everything_and_data_survives(project: Project) -> None:
    url = project.stack.settings().database_url
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("create table if not exists kept (word text)")
        connection.execute("insert into kept values ('still here')")
    processes = project.processes()
    assert project.down() is True
    assert gone(processes, 0) == []
    assert set(project.states().values()) == {"stopped"}
    assert project.down() is False
    project.up()
    with psycopg.connect(url) as connection:
        assert connection.execute("select word from kept").fetchone() == ("still here",)


@pytest.mark.parametrize("part", ["postgres", "redis", "gateway"])
def test_a_killed_part_comes_back(project: Project, part: str) -> None:
    before = project.pid(part)
    os.kill(before, signal.SIGKILL)
    wait_until(lambda: project.all_running() and project.pid(part) != before, f"{part} is back")


def test_a_killed_redis_comes_back_with_its_counters(project: Project) -> None:
    settings = project.stack.settings()
    with redis.Redis(port=settings.redis_port, password=settings.redis_password) as client:
        client.set("counter", "1")
        os.kill(project.pid("redis"), signal.SIGKILL)

        def back() -> bool:
            with contextlib.suppress(redis.RedisError):
                return bool(client.ping())
            return False

        wait_until(back, "Redis is back")
        assert client.get("counter") == b"1"


def test_a_part_that_keeps_dying_is_never_given_up(project: Project) -> None:
    (project.home / "broken").touch()
    os.kill(project.pid("gateway"), signal.SIGKILL)
    seen: set[str] = set()

    def died_often() -> bool:
        seen.update(p.state for p in project.stack.processes() or [] if p.name == "gateway")
        # supervisord gives up after three tries by default.
        return project_log(project, "gateway").count("broken as asked") >= 4

    wait_until(died_often, "four deaths")
    assert "FATAL" not in seen
    (project.home / "broken").unlink()
    wait_until(project.all_running, "the gateway is back")


def project_log(project: Project, part: str) -> str:
    return (project.home / f".gatehouse/logs/{part}.log").read_text()


def test_nothing_outlives_a_killed_supervisor_and_the_next_up_works(project: Project) -> None:
    processes = project.processes()
    os.kill(project.pid("supervisor"), signal.SIGKILL)
    if sys.platform == "linux":
        assert gone(processes) == []
    project.up()
    assert project.all_running()


def test_up_works_after_everything_was_killed_at_once(project: Project) -> None:
    processes = project.processes()
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    assert gone(processes) == []
    # As after a reboot: the pid that Postgres wrote down is now somebody else's.
    lock = project.home / ".gatehouse/postgres/postmaster.pid"
    lines = lock.read_text().splitlines()
    lock.write_text("\n".join([str(os.getpid()), *lines[1:]]) + "\n")
    os.utime(lock, (1, 1))
    project.up()
    assert project.all_running()


def test_secrets_are_on_no_command_line_and_in_no_log_or_configuration(project: Project) -> None:
    processes = project.processes()
    shown = [" ".join(process.cmdline()) for process in processes]
    state = project.home / ".gatehouse"
    shown += [path.read_text(errors="replace") for path in [*state.glob("logs/*"), *state.glob("run/*")]]
    shown.append((state / "supervisord.conf").read_text())
    for secret in secrets_of(project):
        assert not any(secret in text for text in shown)


def test_each_part_gets_only_the_environment_it_needs(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    project.down()
    monkeypatch.setenv("SOME_PROVIDER_KEY", "from the shell")
    monkeypatch.setenv("REDIS_PORT", "1")
    project.up()
    got = json.loads((project.home / "environment.json").read_text())
    settings = project.stack.settings()
    assert got["SOME_PROVIDER_KEY"] == "from the shell"
    assert got["DATABASE_URL"] == settings.gateway_database_url
    assert "POSTGRES_PASSWORD" not in got
    assert settings.postgres_password not in " ".join(got.values())
    assert got["GATEHOUSE_LEDGER_DIR"] == str(project.home / ".gatehouse/ledger")
    assert got["REDIS_PORT"] == str(settings.redis_port)
    assert got["GATEHOUSE_HOME"] == str(project.home)
    assert "OPENAI_API_KEY" not in got or got["OPENAI_API_KEY"]
    for part in ("postgres", "redis"):
        assert "SOME_PROVIDER_KEY" not in psutil.Process(project.pid(part)).environ()


def test_files_are_closed_to_other_users(project: Project) -> None:
    state = project.home / ".gatehouse"
    assert (project.home / ".env").stat().st_mode & 0o077 == 0
    for path in state.iterdir():
        if (not path.is_symlink() and path.is_file()) or path.is_dir():
            assert path.stat().st_mode & 0o077 == 0, path


def test_a_changed_password_is_taken_over(project: Project) -> None:
    before = project.stack.settings()
    project.down()
    project.set("POSTGRES_PASSWORD", "it's-another_one")
    project.set("GATEHOUSE_DB_PASSWORD", "and'another")
    project.up()
    after = project.stack.settings()
    for old, new in (
        (before.database_url, after.database_url),
        (before.gateway_database_url, after.gateway_database_url),
    ):
        psycopg.connect(new).close()
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            psycopg.connect(old)


def test_no_role_that_logs_in_is_a_superuser(project: Project) -> None:
    settings = project.stack.settings()
    for url in (settings.database_url, settings.gateway_database_url):
        with psycopg.connect(url) as connection:
            row = connection.execute("select rolsuper, rolcreaterole, rolcreatedb from pg_roles where rolname = user")
            assert row.fetchone() == (False, False, False)


def test_the_gateways_role_adds_to_the_ledger_and_cannot_change_it(project: Project) -> None:
    url = project.stack.settings().gateway_database_url
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("insert into gatehouse.checkpoints (chain, size, note) values ('test', 1, '')")
        for statement in (
            "update gatehouse.checkpoints set note = 'forged'",
            "delete from gatehouse.capsules",
            "truncate gatehouse.capsules",
            "drop trigger append_only on gatehouse.capsules",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege, match=r"^(permission denied|must be owner)"):
                connection.execute(statement.encode())


def test_the_ledgers_key_is_made_once_for_this_user_alone(project: Project) -> None:
    folder = project.home / ".gatehouse/ledger/keys"
    assert folder.stat().st_mode & 0o777 == 0o700
    assert (folder / "epoch-0.key").stat().st_mode & 0o777 == 0o600
    before = (folder / "keyring.json").read_bytes()
    project.down()
    project.up()
    assert (folder / "keyring.json").read_bytes() == before


def test_a_cluster_of_before_there_were_two_roles_is_taken_over(project: Project) -> None:
    settings = project.stack.settings()
    with psycopg.connect(settings.database_url) as connection:
        connection.execute("drop owned by gatehouse_gateway")
    project.down()
    (project.home / ".gatehouse/postgres/pg_hba.conf").write_text("host all gatehouse 127.0.0.1/32 scram-sha-256\n")
    project.up()
    with psycopg.connect(settings.gateway_database_url) as connection:
        connection.execute("select * from gatehouse.calls")


def test_what_cannot_be_prepared_fails_the_start_and_stops_everything(folder: Path) -> None:
    project = Project(folder / "newer")
    try:
        project.up()
        with psycopg.connect(project.stack.settings().database_url) as connection:
            connection.execute("insert into gatehouse.migrations (name) values ('9999_newer.sql')")
        project.down()
        with pytest.raises(SetupError, match=r"^database: it has migration 9999_newer\.sql, which"):
            project.up()
        assert Supervisor(project.home / ".gatehouse").survivors() == {}
    finally:
        project.remove()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_foreground_ends_with_its_terminal(project: Project, number: signal.Signals) -> None:
    project.down()
    command = subprocess.Popen(
        [sys.executable, "-c", DRIVER, str(project.home)],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # As in a terminal: what a shell starts in the background ignores Ctrl-C, and so does all that it starts.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert command.stdout
    for line in command.stdout:
        if line.startswith("Ctrl-C"):
            break
    assert project.all_running()
    processes = project.processes()
    command.send_signal(number)
    code = command.wait(PATIENCE_S)
    assert code == (-signal.SIGKILL if number == signal.SIGKILL else 0)
    assert gone(processes) == []


def test_a_taken_port_is_told_in_one_sentence_and_starts_nothing(project: Project) -> None:
    project.down()
    with socket.socket() as taker:
        # Connections of the Redis before may still be in TIME_WAIT there.
        taker.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taker.bind(("127.0.0.1", project.stack.settings().redis_port))
        taker.listen()
        done = subprocess.run(
            [Path(sys.executable).with_name("gatehouse"), "up"],
            env={**os.environ, "GATEHOUSE_HOME": str(project.home)},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert done.returncode == 1
    port = project.stack.settings().redis_port
    assert done.stderr.startswith(f"error: Redis: port {port} is already taken by ")
    assert f"(pid {os.getpid()})" in done.stderr
    assert "REDIS_PORT" in done.stderr
    assert done.stderr.count("\n") == 1
    assert Supervisor(project.home / ".gatehouse").survivors() == {}
    assert not accepts(project.stack.settings().postgres_port)


def test_a_start_that_fails_half_way_is_undone_and_shows_the_log(project: Project) -> None:
    project.down()
    (project.home / "broken").touch()
    with pytest.raises(SetupError, match=r"gateway: it ended while starting(?s:.*)stand-in: broken as asked"):
        project.up()
    assert Supervisor(project.home / ".gatehouse").survivors() == {}


def test_two_ups_at_once_start_one_stack(project: Project) -> None:
    project.down()
    quiet = DRIVER.replace("foreground=True", "foreground=False")
    both = [subprocess.Popen([sys.executable, "-c", quiet, str(project.home)], stdout=subprocess.DEVNULL) for _ in "ab"]
    assert [command.wait(60) for command in both] == [0, 0]
    assert project.all_running()


def test_a_long_path_gets_its_socket_elsewhere(folder: Path) -> None:
    project = Project(folder / ("long" * 30))
    try:
        project.up()
        assert project.all_running()
        assert len(Supervisor(project.home / ".gatehouse").socket) < 107
    finally:
        project.remove()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root's Postgres runs as another user")
def test_root_can_run_it_from_a_folder_closed_to_others(folder: Path) -> None:
    closed = folder / "closed"
    closed.mkdir(mode=0o700)
    project = Project(closed / "checkout")
    try:
        project.up()
        assert psutil.Process(project.pid("postgres")).uids().real != 0
        project.down()
        project.up()
        assert project.all_running()
    finally:
        project.remove()


@pytest.mark.timeout(400)  # two cold starts of the proxy, on a machine that may be busy
def test_the_real_gateway_runs_in_it(folder: Path) -> None:
    """This runs the whole once: `gatehouse up`, a call, a kill, a call, `gatehouse down`."""
    project = Project(folder / "real")
    serve = default_gateway_command(project.stack.settings())
    # The query engine is prepared for the repository, not for this folder.
    project.stack = Stack(project.home, ["/usr/bin/env", f"GATEHOUSE_HOME={REPOSITORY}", *serve])
    try:
        project.up()
        assert "Hello" in first_call(project.stack.settings())
        before = project.processes()
        # The query engine has LiteLLM's environment as it is by now.
        assert project.stack.settings().postgres_password not in str(query_engine_of(project.pid("gateway")).environ())
        assert sum(p.memory_info().rss - p.memory_info().shared for p in before) < 1.5 * 2**30
        os.kill(project.pid("gateway"), signal.SIGKILL)
        wait_until(project.all_running, "the gateway is back", 150)
        assert "Hello" in first_call(project.stack.settings())
        processes = project.processes()
        project.down()
        assert gone([*before, *processes], 5) == []
    finally:
        project.remove()
