"""A container of the stack may do as little as possible, also if an attacker takes it over."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest

from tests.compose.stack import IMAGE, ONCE, SECRETS, SERVICES, Stack, docker

# Which service is told which secret; every other one must not know it.
TOLD = {
    # Never what opens the database as its owner, who could rewrite the ledger.
    "gateway": set(SECRETS) - {"POSTGRES_PASSWORD"},
    "prepare": {"POSTGRES_PASSWORD", "GATEHOUSE_DB_PASSWORD"},
    "postgres": {"POSTGRES_PASSWORD"},
    "redis": {"REDIS_PASSWORD"},
    "prometheus": {"GATEHOUSE_METRICS_TOKEN"},
    "logs": set(),
}


def test_only_loopback_is_published(stack: Stack) -> None:
    published = {
        service: [
            (where["HostIp"], where["HostPort"])
            for bindings in stack.container(service)["NetworkSettings"]["Ports"].values()
            for where in bindings or ()
        ]
        for service in SERVICES
    }

    assert published == {
        "gateway": [("127.0.0.1", stack.env["GATEHOUSE_PORT"])],
        "prometheus": [("127.0.0.1", stack.env["PROMETHEUS_PORT"])],
        "postgres": [],
        "redis": [],
    }


@pytest.mark.parametrize("service", [*SERVICES, "prepare"])
def test_a_container_is_confined_and_bounded(stack: Stack, service: str) -> None:
    host = stack.container(service)["HostConfig"]

    assert host["ReadonlyRootfs"]
    assert host["CapDrop"] == ["ALL"]
    assert not host["CapAdd"]
    assert not host["Privileged"]
    assert "no-new-privileges:true" in host["SecurityOpt"]
    assert host["Memory"] > 0
    assert host["PidsLimit"] > 0
    assert host["NanoCpus"] > 0 or host["CpuQuota"] > 0
    assert host["LogConfig"] == {"Type": "json-file", "Config": {"max-size": "10m", "max-file": "3"}}


@pytest.mark.parametrize("service", SERVICES)
def test_a_running_process_has_no_privilege_left(stack: Stack, service: str) -> None:
    text = stack.inside(service, "cat", "/proc/1/status").stdout
    status = dict(line.split(":", 1) for line in text.splitlines())

    assert "0" not in status["Uid"].split()
    assert "0" not in status["Gid"].split()
    assert [int(status[name], 16) for name in ("CapEff", "CapPrm", "CapBnd", "CapAmb")] == [0, 0, 0, 0]
    assert status["NoNewPrivs"].strip() == "1"
    refused = stack.inside(service, "touch", "/etc/here", "/usr/here")
    assert refused.stderr.count("Read-only file system") == 2


def test_the_helper_that_owns_logs_may_only_change_owners(stack: Stack) -> None:
    helper = stack.container("logs")

    assert {name: stack.container(name)["State"]["ExitCode"] for name in ONCE} == dict.fromkeys(ONCE, 0)
    assert [name.removeprefix("CAP_") for name in helper["HostConfig"]["CapAdd"]] == ["CHOWN"]
    assert helper["HostConfig"]["NetworkMode"] == "none"


def test_the_gateways_role_adds_to_the_ledger_and_cannot_change_it(stack: Stack) -> None:
    ask = "import os, sys, psycopg\nwith psycopg.connect(os.environ['DATABASE_URL']) as c:\n    c.execute(sys.argv[1])"
    for statement in (
        "update gatehouse.capsules set hash = ''",
        "delete from gatehouse.capsules",
        "truncate gatehouse.checkpoints",
        "drop trigger append_only on gatehouse.capsules",
        "set role gatehouse",
    ):
        done = stack.inside("gateway", "python", "-c", ask, statement)
        assert re.search("InsufficientPrivilege: (permission denied|must be owner)", done.stderr), (statement, done)
    assert stack.inside("gateway", "python", "-c", ask, "select * from gatehouse.capsules").returncode == 0


def test_even_the_databases_superuser_is_refused_a_plain_change(stack: Stack) -> None:
    psql = ["psql", "-U", "gatehouse", "-c"]
    done = stack.inside("postgres", *psql, "update gatehouse.capsules set hash = ''")
    assert "gatehouse.capsules is append-only" in done.stderr, done


def test_the_ledgers_key_lies_in_the_checkout_for_one_user_alone(stack: Stack) -> None:
    ledger = stack.folder / "ledger"
    owner = (int(stack.env["GATEHOUSE_UID"]), int(stack.env["GATEHOUSE_GID"]))
    for path, mode in ((ledger, 0o700), (ledger / "keys", 0o700), (ledger / "keys/epoch-0.key", 0o600)):
        found = path.stat()
        assert (found.st_mode & 0o777, found.st_uid, found.st_gid) == (mode, *owner), path


def test_a_ledger_of_another_user_is_handed_over(stack: Stack, tmp_path: Path) -> None:
    """A restored backup or a change of GATEHOUSE_UID leaves such a ledger."""
    key = tmp_path / "ledger/keys/epoch-0.key"
    key.parent.mkdir(parents=True, mode=0o700)
    key.touch(0o600)
    (tmp_path / "logs").mkdir()
    for path in (key, key.parent, key.parent.parent):
        os.chown(path, 4711, 4711)
    volumes = [f"--volume={tmp_path}/{name}:/app/{name}" for name in ("logs", "ledger")]
    script, owner = stack.container("logs")["Config"]["Entrypoint"][2:]
    confined = ["--rm", "--network=none", "--read-only", "--cap-drop=ALL", "--cap-add=CHOWN", "--user=0:0"]
    docker("run", *confined, *volumes, "--entrypoint=sh", IMAGE, "-ec", script, owner)
    for path, mode in ((tmp_path / "ledger", 0o700), (key.parent, 0o700), (key, 0o600)):
        found = path.stat()
        assert (found.st_mode & 0o777, f"{found.st_uid}:{found.st_gid}") == (mode, owner)


def test_database_and_cache_have_no_way_out(stack: Stack) -> None:
    networks = {name: set(stack.container(name)["NetworkSettings"]["Networks"]) for name in SERVICES}
    front, back = f"{stack.project}_front", f"{stack.project}_back"

    assert networks == {"gateway": {front, back}, "prometheus": {front}, "postgres": {back}, "redis": {back}}
    assert json.loads(docker("network", "inspect", back))[0]["Internal"] is True


def test_a_container_knows_no_secret_of_another(stack: Stack) -> None:
    for service, told in TOLD.items():
        inspected = json.dumps(stack.container(service))
        assert {name for name in SECRETS if stack.env[name] in inspected} == told, service


def test_no_process_list_shows_a_secret(stack: Stack) -> None:
    for service in SERVICES:
        shown = docker("top", f"{stack.project}-{service}-1")
        assert not [name for name in SECRETS if stack.env[name] in shown], service


def test_the_image_holds_no_secret_and_nothing_its_user_can_write(stack: Stack) -> None:
    image = docker("history", "--no-trunc", IMAGE) + docker("inspect", IMAGE)
    assert not [name for name in SECRETS if stack.env[name] in image]
    assert not [name for name in SECRETS if f"{name}=" in image]

    look = "find / -xdev -name .env; find /app -xdev -writable ! -type l ! -path /app/logs ! -path /app/ledger"
    assert docker("run", "--rm", "--network=none", "--entrypoint=sh", IMAGE, "-c", look) == ""


def test_without_env_compose_says_what_to_do(stack: Stack) -> None:
    env = stack.folder / ".env"
    aside = env.rename(env.with_suffix(".aside"))
    try:
        refused = stack.compose("config", check=False)
    finally:
        aside.rename(env)

    assert refused.returncode != 0
    assert "run ./setup.sh first" in refused.stderr
