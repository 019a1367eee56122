"""`gatehouse prepare` on a real Postgres makes two roles; the gateway's adds to the ledger and cannot change it."""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path
from urllib.parse import quote

import psycopg
import pytest
from gatehouse.capsule import keys
from gatehouse.core.errors import SetupError
from gatehouse.ledger.provisioning import prepare, wait_until_prepared
from gatehouse.storage.litellm_schema import apply_litellm_migrations

from tests.support.gateway import INSTALLATION_SECRET, REPOSITORY, Gateway
from tests.support.postgres import Postgres
from tests.support.process import wait_until
from tests.support.redis_server import Redis

GATEHOUSE = Path(sys.executable).with_name("gatehouse")
# Whoever is no gateway is trusted here; a gateway's password is asked for.
HBA = "host all /^gateway_ 127.0.0.1/32 scram-sha-256\nhost all all 127.0.0.1/32 trust\n"
CAPSULE = """insert into gatehouse.capsules (chain, sequence, id, canonical, hash, signature, signed_by, signed_at,
             subtrees) values ('c', 0, %s, '', '', '', '', now(), '')"""
CHECKPOINT = "insert into gatehouse.checkpoints (chain, size, note) values ('c', 1, '')"
# What Postgres says by itself; the ledger's triggers, which would refuse too, say something else.
NO_RIGHT = "^(permission denied|must be owner|must be able to)"
_numbers = count(1)


class Database:
    """Holds a database, its owner's URL, and the URL of a gateway's role that does not exist yet."""

    def __init__(self, server: Postgres, folder: Path, template: str = "template1") -> None:
        self.folder = folder
        number = next(_numbers)
        self.name, self.role = f"prepare_{number}", f"gateway_{number}"
        with psycopg.connect(server.url, autocommit=True) as connection:
            connection.execute(f"create database {self.name} template {template}".encode())
        self.owner_url = server.url_of(self.name)
        self.set_password('it\'s %s/"secret"')
        self.key_dir = folder / "ledger" / "keys"

    def set_password(self, password: str) -> None:
        self.password = password
        self.gateway_url = f"postgresql://{self.role}:{quote(password, safe='')}@{self.owner_url.partition('@')[2]}"

    def prepare(self) -> list[str]:
        return prepare(self.owner_url, self.gateway_url, self.key_dir)

    def command(self, **environ: str) -> subprocess.CompletedProcess[str]:
        told = {
            "DATABASE_URL": self.gateway_url,
            "GATEHOUSE_OWNER_DATABASE_URL": self.owner_url,
            "GATEHOUSE_LEDGER_DIR": str(self.folder / "ledger"),
            "GATEHOUSE_HOME": str(REPOSITORY),
        }
        return subprocess.run(
            [GATEHOUSE, "prepare", "--wait", "5"],
            env={**os.environ, **told, **environ},
            capture_output=True,
            text=True,
            check=False,
        )

    def as_owner(self, statement: str, *values: object) -> None:
        with psycopg.connect(self.owner_url) as connection:
            connection.execute(statement.encode(), values or None)

    def as_gateway(self, statement: str, *values: object) -> None:
        with psycopg.connect(self.gateway_url) as connection:
            connection.execute(statement.encode(), values or None)


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    server = Postgres()
    (server.folder / "data" / "pg_hba.conf").write_text(HBA)
    (server.folder / "data" / "postgresql.auto.conf").write_text("fsync = off\n")
    with psycopg.connect(server.url) as connection:
        connection.execute("select pg_reload_conf()")
    yield server
    server.close()


@pytest.fixture
def empty(server: Postgres, tmp_path: Path) -> Database:
    """Make an empty database."""
    return Database(server, tmp_path)


@pytest.fixture(scope="module")
def template(server: Postgres) -> str:
    """Make a database with LiteLLM's tables, which takes seconds."""
    url = server.create_database()
    apply_litellm_migrations(url)
    return url.rpartition("/")[2]


@pytest.fixture
def new(server: Postgres, template: str, tmp_path: Path) -> Database:
    """Make a database with LiteLLM's tables and none of ours."""
    return Database(server, tmp_path, template)


@pytest.fixture(scope="module")
def prepared(server: Postgres, template: str, tmp_path_factory: pytest.TempPathFactory) -> Database:
    """Make a database with one capsule and one checkpoint of the gateway's role, for tests that change nothing."""
    database = Database(server, tmp_path_factory.mktemp("prepared"), template)
    database.prepare()
    database.as_gateway(CAPSULE, uuid.uuid4())
    database.as_gateway(CHECKPOINT)
    return database


def test_the_command_prepares_a_fresh_database_and_finds_nothing_to_do_then(empty: Database) -> None:
    first = empty.command()
    assert first.returncode == 0, first.stderr
    said = first.stdout.splitlines()
    assert said[0] == f"role {empty.role}: created"
    assert "migrations applied" in first.stdout
    assert "the ledger's first key made" in first.stdout
    assert first.stderr == ""
    assert not any(
        empty.password in text or quote(empty.password, safe="") in text for text in (first.stdout, first.stderr)
    )
    assert (empty.key_dir / "epoch-0.key").stat().st_mode & 0o777 == 0o600
    assert empty.key_dir.stat().st_mode & 0o077 == 0
    again = empty.command()
    assert (again.returncode, again.stdout, again.stderr) == (0, "", "")
    wait_until_prepared(empty.gateway_url, empty.key_dir, 0)


def test_it_does_not_load_litellm(new: Database) -> None:
    new.prepare()
    code = (
        "import sys; from gatehouse.cli import main\n"
        "try: main()\n"
        "except SystemExit as end: assert not end.code, end.code\n"
        "assert not {'litellm', 'prisma'} & set(sys.modules)"
    )
    environ = {"DATABASE_URL": new.gateway_url, "GATEHOUSE_OWNER_DATABASE_URL": new.owner_url}
    done = subprocess.run(
        [sys.executable, "-c", code, "prepare"],
        env={**os.environ, **environ, "GATEHOUSE_LEDGER_DIR": str(new.folder / "ledger")},
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("table", ["capsules", "checkpoints"])
@pytest.mark.parametrize(
    "statement",
    [
        "update gatehouse.{} set chain = 'forged'",
        "delete from gatehouse.{}",
        "truncate gatehouse.{}",
        "drop trigger append_only on gatehouse.{}",
        "alter table gatehouse.{} disable trigger append_only",
        "create trigger mine before insert on gatehouse.{} execute function gatehouse.refuse_change()",
        "create rule mine as on insert to gatehouse.{} do instead nothing",
        "alter table gatehouse.{} owner to current_user",
        "drop table gatehouse.{}",
        "alter function gatehouse.refuse_change() rename to refuse_nothing",
        "set session_replication_role = replica",
        "insert into gatehouse.{} select * from gatehouse.{} on conflict (chain, %s) do update set chain = 'forged'",
    ],
)
def test_the_gateways_role_cannot_change_what_was_sealed(prepared: Database, table: str, statement: str) -> None:
    key = "sequence" if table == "capsules" else "size"
    with pytest.raises(psycopg.errors.InsufficientPrivilege, match=NO_RIGHT):
        prepared.as_gateway(statement.replace("{}", table).replace("%s", key))


@pytest.mark.parametrize(
    "statement",
    [
        "insert into gatehouse.migrations (name) values ('9999')",
        "delete from gatehouse.calls",
        "delete from gatehouse.chains",
        "truncate gatehouse.calls",
        "create table gatehouse.mine (id int)",
        "create schema mine",
        "create role mine",
        "set role postgres",
        "drop schema gatehouse cascade",
    ],
)
def test_the_gateways_role_cannot_do_what_it_has_no_need_for(prepared: Database, statement: str) -> None:
    with pytest.raises(psycopg.errors.InsufficientPrivilege, match=NO_RIGHT):
        prepared.as_gateway(statement)


@pytest.mark.parametrize("table", ["capsules", "checkpoints"])
@pytest.mark.parametrize(
    "statement", ["update gatehouse.{} set chain = 'forged'", "delete from gatehouse.{}", "truncate gatehouse.{}"]
)
def test_even_a_superusers_plain_change_is_refused(prepared: Database, table: str, statement: str) -> None:
    with pytest.raises(psycopg.errors.InsufficientPrivilege, match="is append-only"):
        prepared.as_owner(statement.format(table))


def test_the_gateways_role_can_do_its_work(new: Database) -> None:
    new.prepare()
    new.as_gateway("insert into gatehouse.chains (chain) values ('c')")
    with psycopg.connect(new.gateway_url) as connection:
        connection.execute("lock table gatehouse.chains in exclusive mode")
        connection.execute("select * from gatehouse.chains where chain = 'c' for update")
        connection.execute("update gatehouse.chains set size = 1")
        connection.execute("select nextval('gatehouse.settle_seq')")
        connection.execute(CAPSULE, (uuid.uuid4(),))
        connection.execute(CHECKPOINT)
        connection.execute('update "LiteLLM_VerificationToken" set spend = 0')
        connection.execute('delete from "LiteLLM_VerificationToken"')
    # What the owner adds, and what LiteLLM makes itself: its views, which the owner can clear away.
    new.as_owner("create table added (id serial)")
    new.as_gateway("insert into added default values")
    new.as_gateway("create view seen as select * from added")
    new.as_owner("drop view seen")


def test_privileges_that_somebody_gave_are_taken_away_again(new: Database) -> None:
    new.prepare()
    new.as_owner(f"grant all on gatehouse.capsules to {new.role}")
    new.as_owner("grant update on gatehouse.checkpoints to public")
    new.as_owner(f"grant create on schema gatehouse to {new.role}")
    assert new.prepare() == [f"role {new.role}: privileges on 3 tables, sequences and schemas set"]
    for statement in (
        "update gatehouse.capsules set chain = ''",
        "update gatehouse.checkpoints set chain = ''",
        "create table gatehouse.mine (id int)",
    ):
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="permission denied"):
            new.as_gateway(statement)
    assert new.prepare() == []


def test_a_role_that_is_too_much_is_refused(new: Database) -> None:
    new.as_owner(f"create role {new.role} login superuser password 'x'")
    with pytest.raises(SetupError, match=f"role {new.role}: it may do more in Postgres than a gateway should"):
        new.prepare()


def test_privileges_by_way_of_another_role_are_told(new: Database) -> None:
    new.prepare()
    new.as_owner(f"create role changer_of_{new.role}")
    new.as_owner(f"grant delete on gatehouse.capsules to changer_of_{new.role}")
    new.as_owner(f"grant changer_of_{new.role} to {new.role}")
    with pytest.raises(SetupError, match=f"role {new.role}: .*by way of another role"):
        new.prepare()


def test_a_changed_password_is_taken_over(new: Database) -> None:
    new.prepare()
    old = new.gateway_url
    new.set_password("another-one")
    assert new.prepare() == [f"role {new.role}: its password is now the one in DATABASE_URL"]
    psycopg.connect(new.gateway_url).close()
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(old)


def test_the_servers_log_never_shows_the_password(new: Database, server: Postgres) -> None:
    new.as_owner(f"alter database {new.name} set log_statement = 'all'")
    new.prepare()
    new.set_password("another-long-secret")
    new.prepare()
    log = server.server.log.read_text()
    assert f'create role "{new.role}"' in log
    assert f'alter role "{new.role}"' in log
    assert "secret" not in log


def test_two_at_once_prepare_it_once(empty: Database) -> None:
    with ThreadPoolExecutor(2) as pool:
        done = [line for lines in pool.map(lambda _: empty.prepare(), range(2)) for line in lines]
    assert done.count(f"role {empty.role}: created") == 1
    assert len([line for line in done if "first key made" in line]) == 1
    assert empty.prepare() == []
    keys.load(empty.key_dir)


def test_an_owner_that_is_no_superuser_needs_the_role_to_be_there(empty: Database) -> None:
    owner = f"owner_of_{empty.role}"
    empty.as_owner(f"create role {owner} login")
    empty.as_owner(f"alter database {empty.name} owner to {owner}")
    as_superuser, empty.owner_url = empty.owner_url, empty.owner_url.replace("postgres@", f"{owner}@")
    with pytest.raises(SetupError, match=f"role {empty.role}: the owner may not make it .*Do that as a superuser"):
        empty.prepare()
    with psycopg.connect(as_superuser) as connection:
        connection.execute(f"create role {empty.role} login password 'known'".encode())
        connection.execute(f"grant {empty.role} to {owner}".encode())
    empty.set_password("known")
    empty.prepare()
    empty.as_gateway(CAPSULE, uuid.uuid4())
    assert empty.prepare() == []


def test_a_database_that_one_role_had_for_itself_is_taken_over(new: Database) -> None:
    prepare(new.owner_url, None, new.key_dir)
    new.as_owner(CAPSULE, uuid.uuid4())
    new.prepare()
    new.as_gateway("select * from gatehouse.capsules")
    new.as_gateway('delete from "LiteLLM_VerificationToken"')
    with pytest.raises(psycopg.errors.InsufficientPrivilege, match=NO_RIGHT):
        new.as_gateway("delete from gatehouse.capsules")
    assert new.prepare() == []


def test_lost_keys_are_told_and_no_new_ones_made(new: Database) -> None:
    new.prepare()
    new.as_gateway(CAPSULE, uuid.uuid4())
    kept = new.key_dir.rename(new.folder / "kept")
    done = new.command()
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: {new.key_dir}: the ledger has capsules, and its keys are not here. Restore")
    assert done.stderr.count("\n") == 1
    assert not new.key_dir.exists()
    kept.rename(new.key_dir)
    assert new.prepare() == []


def test_one_role_for_everything_is_warned_of(new: Database) -> None:
    done = new.command(DATABASE_URL=new.owner_url, GATEHOUSE_OWNER_DATABASE_URL="")
    assert done.returncode == 0, done.stderr
    assert done.stderr.startswith("warning: the gateway's role owns the database")
    assert done.stderr.count("\n") == 1


def test_without_the_owners_address_it_says_so(new: Database) -> None:
    new.prepare()
    done = new.command(GATEHOUSE_OWNER_DATABASE_URL="")
    assert done.returncode == 1
    assert "Put the address with its owner's role into GATEHOUSE_OWNER_DATABASE_URL" in done.stderr


def test_a_gateway_waits_for_what_is_prepared_and_says_what_is_missing(new: Database) -> None:
    new.prepare()
    keyring = new.key_dir / keys.KEYRING_NAME
    keyring.rename(new.folder / "aside")
    with pytest.raises(SetupError, match=r"it is not prepared: the ledger's key in .* Run `gatehouse prepare`"):
        wait_until_prepared(new.gateway_url, new.key_dir, 0)
    (new.folder / "aside").rename(keyring)
    new.as_owner("delete from gatehouse.migrations where name like '0002%'")
    with pytest.raises(SetupError, match=r"it is not prepared: migration 0002_ledger.sql is missing"):
        wait_until_prepared(new.gateway_url, new.key_dir, 0)
    new.as_owner(f"revoke all on schema gatehouse from {new.role}")
    with pytest.raises(SetupError, match="it is not prepared: what its role may do there is missing"):
        wait_until_prepared(new.gateway_url, new.key_dir, 0)


def test_serve_ends_with_one_sentence_where_nobody_prepared(new: Database) -> None:
    new.as_owner(f"create role {new.role} login password 'known'")
    new.set_password("known")
    done = subprocess.run(
        [GATEHOUSE, "serve", "--wait", "1", "--port", "1"],
        env={
            **os.environ,
            "DATABASE_URL": new.gateway_url,
            "GATEHOUSE_HOME": str(REPOSITORY),
            "GATEHOUSE_SECRET": INSTALLATION_SECRET,
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("error: database: it is not prepared: ")
    assert "Run `gatehouse prepare`" in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_gateway_that_waits_goes_on_when_everything_is_prepared(new: Database) -> None:
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(wait_until_prepared, new.gateway_url, new.key_dir, 60)
        new.prepare()
        waiting.result(5)
    new.as_gateway(CAPSULE, uuid.uuid4())


def owned_by(database: Database) -> dict[str, int]:
    """Return how many relations of which kind the gateway's role owns."""
    with psycopg.connect(database.owner_url) as connection:
        rows = connection.execute(
            """select case relkind when 'v' then 'VIEW' else relkind::text end, count(*) from pg_class
                where pg_get_userbyid(relowner) = %s group by 1""",
            (database.role,),
        )
        return dict(rows.fetchall())


@pytest.mark.timeout(240)
def test_a_whole_gateway_works_with_that_role_alone(empty: Database, redis_server: Redis) -> None:
    """A gateway that starts before anything is prepared waits; then it answers, and seals."""
    gateway = Gateway(empty.gateway_url, redis_server.port, folder=empty.folder)
    gateway.server.start()
    try:
        empty.prepare()
        wait_until(gateway.ready, "the gateway answers", 120)
        # LiteLLM makes its views itself, as the role it has.
        wait_until(lambda: owned_by(empty) == {"VIEW": 8}, "LiteLLM's views are there")
        with gateway.client(gateway.new_key()) as client:
            body = {"model": "demo", "messages": [{"role": "user", "content": "hello"}]}
            answer = client.post("/v1/chat/completions", json=body)
        assert answer.status_code == 200, answer.text
        gateway.wait_settled()
        assert gateway.capsule(answer.headers["x-gatehouse-call-id"])
        assert "permission denied" not in gateway.output.read_text()
        assert empty.prepare() == []
    finally:
        gateway.close()
