"""The engine's process starts, says why it cannot, survives what it should, and ends in time."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from gatehouse.storage import prisma_engine

from tests.support.postgres import Postgres
from tests.support.process import free_port, wait_until

REPOSITORY = Path(__file__).resolve().parents[2]
PROGRAM = REPOSITORY / "prisma-engine" / "query-engine"
SCHEMA = """datasource client {
  provider = "postgresql"
  url      = env("DATABASE_URL")
}
model Thing {
  id String @id
  n  Int    @default(0)
}
"""
TABLE = 'create table "Thing" (id text primary key, n integer not null default 0)'
COUNT = "query { result: aggregateThing { _count { _all } } }"


@pytest.fixture(scope="module", autouse=True)
def prepared() -> None:
    prisma_engine.install(REPOSITORY, prisma_engine.EngineKind.WASM, print)


@pytest.fixture(scope="module")
def own_postgres() -> Iterator[Postgres]:
    """Start a Postgres of this module's own, to stop and kill."""
    server = Postgres()
    yield server
    server.close()


class Engine:
    """Runs one engine process and calls it over HTTP."""

    def __init__(self, folder: Path, url: str, program: Path = PROGRAM, schema: str = SCHEMA) -> None:
        path = folder / "schema.prisma"
        path.write_text(schema)
        self.port = free_port()
        self.process = subprocess.Popen(
            [program, "-p", str(self.port), "--enable-metrics", "--enable-raw-queries"],
            env=os.environ
            | prisma_engine.engine_environment(REPOSITORY)
            | {"PRISMA_DML_PATH": str(path), "DATABASE_URL": url},
            stderr=subprocess.PIPE,
            text=True,
        )

    def up(self) -> Engine:
        wait_until(self.answers, "the engine answers")
        return self

    def answers(self) -> bool:
        assert self.process.poll() is None, self.failure()
        try:
            return self.call("GET", "/status") == (200, {"status": "ok"})
        except OSError:
            return False

    def call(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        connection.request(method, path, json.dumps(body) if body is not None else None, headers)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())

    def query(self, text: str, transaction: str | None = None) -> Any:
        headers = {"x-transaction-id": transaction} if transaction else {}
        return self.call("POST", "/", {"query": text, "variables": {}}, **headers)[1]

    def works(self) -> bool:
        return "data" in self.query(COUNT)

    def failure(self) -> str:
        """Return what the engine said; it has ended with 1."""
        _, said = self.process.communicate(timeout=30)
        assert self.process.returncode == 1
        return said


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Engine]]:
    engines: list[Engine] = []

    def launch(url: str, **options: Any) -> Engine:
        engines.append(Engine(tmp_path, url, **options))
        return engines[-1]

    yield launch
    for engine in engines:
        engine.process.kill()
        engine.process.communicate()


@pytest.fixture
def url(postgres: Postgres) -> str:
    return with_table(postgres)


def with_table(server: Postgres) -> str:
    address = server.create_database()
    with psycopg.connect(address, autocommit=True) as connection:
        connection.execute(TABLE)
    return address


def test_it_answers_to_version_with_the_commit_that_the_client_expects() -> None:
    for flag in ("--version", "-V"):
        env = os.environ | prisma_engine.engine_environment(REPOSITORY)
        done = subprocess.run([PROGRAM, flag], env=env, capture_output=True, text=True, check=True)
        assert done.stdout == f"query-engine {prisma_engine.WASM_COMMIT}\n"


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("postgresql://u:sesame@127.0.0.1:1/d", "the database at 127.0.0.1:1 cannot be reached: "),
        ("mysql://u:sesame@127.0.0.1/d", "DATABASE_URL is not a postgresql:// address. "),
        ("", "DATABASE_URL is not set. "),
    ],
)
def test_without_a_database_it_says_so_in_one_sentence(start: Callable[..., Engine], url: str, sentence: str) -> None:
    said = start(url).failure()
    assert said.startswith(f"error: prisma-engine: {sentence}")
    assert said.count("\n") == 1
    assert "sesame" not in said


def test_a_wrong_password_is_told_and_never_shown(start: Callable[..., Engine]) -> None:
    # Tests' servers trust everyone; this one refuses, as Postgres does (protocol 3.0, ErrorResponse).
    fields = b'SFATAL\0VFATAL\0C28P01\0Mpassword authentication failed for user "u"\0\0'
    with socket.create_server(("127.0.0.1", 0)) as server:

        def refuse() -> None:
            connection, _ = server.accept()
            connection.recv(1000)
            connection.sendall(b"E" + (len(fields) + 4).to_bytes(4, "big") + fields)
            connection.close()

        threading.Thread(target=refuse, daemon=True).start()
        said = start(f"postgresql://u:sesame@127.0.0.1:{server.getsockname()[1]}/d").failure()
    assert "refused user u: password authentication failed" in said
    assert "sesame" not in said
    assert said.count("\n") == 1


def test_a_database_that_does_not_exist_is_named(start: Callable[..., Engine], postgres: Postgres) -> None:
    assert "has no database nowhere. " in start(postgres.url_of("nowhere")).failure()


def test_a_schema_without_models_is_told(start: Callable[..., Engine], url: str) -> None:
    said = start(url, schema=SCHEMA.split("model")[0]).failure()
    assert said == "error: prisma-engine: the Prisma schema has no models. Run 'gatehouse engine install' again.\n"


def test_an_engine_that_panics_ends_so_that_another_is_started(start: Callable[..., Engine], url: str) -> None:
    # A model without an id, which `prisma generate` would have refused, makes the WASM engine trap.
    engine = start(url, schema=SCHEMA.replace(" @id", "")).up()
    with pytest.raises((http.client.HTTPException, OSError)):
        engine.query("query { result: findManyThing { id } }")
    assert engine.process.wait(10) == 101
    assert engine.process.stderr is not None
    assert engine.process.stderr.read().startswith("prisma-engine: the engine failed (unreachable) and ends")


def test_without_its_packages_it_says_how_to_get_them(start: Callable[..., Engine], tmp_path: Path) -> None:
    copy = tmp_path / "moved"
    shutil.copytree(PROGRAM.parent, copy, ignore=shutil.ignore_patterns("node_modules"))
    said = start("", program=copy / "query-engine").failure()
    assert "its npm packages are not installed" in said
    assert "gatehouse engine install" in said
    (copy / "node_modules" / "@prisma" / "client").mkdir(parents=True)
    assert "its npm packages are incomplete" in start("", program=copy / "query-engine").failure()


def test_without_node_it_says_how_to_get_it() -> None:
    done = subprocess.run(
        [PROGRAM, "--version"],
        env={"PATH": "/nowhere:/bin:/usr/bin", "GATEHOUSE_NODE": "/no/node"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr == (
        "error: prisma-engine: Node.js is not at '/no/node'. Run 'gatehouse engine install', or set GATEHOUSE_NODE.\n"
    )


def test_a_killed_engine_is_replaced_by_another_that_works(start: Callable[..., Engine], url: str) -> None:
    first = start(url).up()
    transaction = first.call("POST", "/transaction/start", {})[1]["id"]
    assert "data" in first.query('mutation { result: createOneThing(data: {id: "lost"}) { id } }', transaction)
    first.process.kill()
    began = time.monotonic()
    second = start(url).up()
    assert second.query(COUNT) == {"data": {"result": {"_count": {"_all": 0}}}}
    assert time.monotonic() - began < 10  # what the client gives an engine to come up


@pytest.mark.parametrize("how", ["stop", "kill"])
def test_it_survives_postgres(start: Callable[..., Engine], own_postgres: Postgres, how: str) -> None:
    url = with_table(own_postgres)
    engine = start(url).up()
    assert engine.works()
    transaction = engine.call("POST", "/transaction/start", {"timeout": 60000})[1]["id"]
    engine.query(COUNT, transaction)
    getattr(own_postgres, how)()
    for _ in range(3):
        (error,) = engine.query(COUNT)["errors"]
        facing = error["user_facing_error"]
        assert facing["error_code"] in ("P1001", "P1017")
        # LiteLLM knows an outage by these words.
        assert "Can't reach database server" in facing["message"] or "connection closed" in facing["message"]
    assert "errors" in engine.query(COUNT, transaction)
    status, error = engine.call("POST", "/transaction/start", {})
    assert (status, error["error_code"]) == (500, "P1001")
    own_postgres.start()
    assert engine.works()
    assert engine.process.poll() is None


def test_it_waits_for_a_postgres_that_is_starting(start: Callable[..., Engine], url: str) -> None:
    port = int(url.rsplit(":", 1)[1].split("/")[0])
    fields = b"SFATAL\0VFATAL\0C57P03\0Mthe database system is starting up\0\0"
    refused = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as front:

        def serve() -> None:
            connection, _ = front.accept()
            connection.recv(1000)
            connection.sendall(b"E" + (len(fields) + 4).to_bytes(4, "big") + fields)
            connection.close()
            refused.set()
            while True:
                connection, _ = front.accept()
                back = socket.create_connection(("127.0.0.1", port))
                for source, target in ((connection, back), (back, connection)):
                    threading.Thread(target=pump, args=(source, target), daemon=True).start()

        threading.Thread(target=serve, daemon=True).start()
        start(url.replace(str(port), str(front.getsockname()[1]))).up()
    assert refused.is_set()


def pump(source: socket.socket, target: socket.socket) -> None:
    try:
        while data := source.recv(65536):
            target.sendall(data)
    except OSError:
        pass
    finally:
        target.close()


def test_it_ends_when_the_process_that_started_it_is_killed(url: str, tmp_path: Path) -> None:
    program = (
        "import sys, time; from pathlib import Path; from tests.stack.test_prisma_engine_process import Engine\n"
        "engine = Engine(Path(sys.argv[1]), sys.argv[2]).up(); print(engine.process.pid, flush=True); time.sleep(60)"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", program, tmp_path, url], cwd=REPOSITORY, stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout is not None
    engine = int(parent.stdout.readline())
    parent.kill()
    parent.communicate()
    wait_until(lambda: not running(engine), "the engine ended")


def running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_ends_when_told_and_closes_its_connections(start: Callable[..., Engine], url: str, number: int) -> None:
    engine = start(url).up()
    engine.process.send_signal(number)
    assert engine.process.wait(10) == 0


def test_it_never_closes_an_idle_connection_first(start: Callable[..., Engine], url: str) -> None:
    engine = start(url).up()
    connection = http.client.HTTPConnection("127.0.0.1", engine.port)
    for pause in (0, 6.5):  # Node's own limit is 5 s
        time.sleep(pause)
        connection.request("GET", "/status")
        used = connection.sock
        assert connection.getresponse().read() == b'{"status":"ok"}'
    assert connection.sock is used


def test_it_holds_to_the_connection_limit(start: Callable[..., Engine], url: str) -> None:
    engine = start(f"{url}?connection_limit=3").up()
    sleep = 'query { result: queryRaw(query: "select 1 as n from pg_sleep(0.4)", parameters: "[]") }'
    threads = [threading.Thread(target=engine.query, args=(sleep,)) for _ in range(8)]
    for thread in threads:
        thread.start()
    most = 0
    with psycopg.connect(url, autocommit=True) as connection:
        while any(thread.is_alive() for thread in threads):
            (counted,) = connection.execute(
                "select count(*) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()"
            ).fetchone()
            most = max(most, counted)
            time.sleep(0.05)
    assert most == 3


def test_a_pool_that_is_used_up_is_told_as_such(start: Callable[..., Engine], url: str) -> None:
    engine = start(f"{url}?connection_limit=1&pool_timeout=1").up()
    engine.call("POST", "/transaction/start", {"timeout": 60000})
    (error,) = engine.query(COUNT)["errors"]
    assert error["user_facing_error"]["error_code"] == "P2024"


def test_a_page_in_a_browser_is_not_served(start: Callable[..., Engine], url: str) -> None:
    engine = start(url).up()
    assert engine.call("POST", "/", {"query": COUNT}, origin="http://evil.example")[0] == 403


def test_nonsense_is_refused_and_the_engine_goes_on(start: Callable[..., Engine], url: str) -> None:
    engine = start(url).up()
    assert engine.query("{")["errors"][0]["user_facing_error"]["error_code"] == "P2009"
    assert engine.call("POST", "/", [])[1]["errors"]
    assert engine.call("POST", "/", None)[1]["errors"]
    assert engine.call("POST", "/nowhere", {})[0] == 404
    assert engine.call("GET", "/")[0] == 404
    for unknown in ("none", "0123456789abcdef01234567"):
        for end in ("commit", "rollback"):
            assert engine.call("POST", f"/transaction/{unknown}/{end}")[0] == 404
        assert engine.query(COUNT, unknown)["errors"][0]["user_facing_error"]["error_code"] == "P2028"
    assert engine.works()
