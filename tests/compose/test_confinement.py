"""What a container of the stack may do if somebody takes it over: as little as possible."""

from __future__ import annotations

import json

import pytest

from tests.compose.stack import IMAGE, SECRETS, SERVICES, Stack, docker

# Which service is told which secret; every other one must not know it.
TOLD = {
    "gateway": set(SECRETS),
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


@pytest.mark.parametrize("service", SERVICES)
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

    assert helper["State"]["ExitCode"] == 0
    assert [name.removeprefix("CAP_") for name in helper["HostConfig"]["CapAdd"]] == ["CHOWN"]
    assert helper["HostConfig"]["NetworkMode"] == "none"


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

    look = "find / -xdev -name .env; find /app -xdev -writable ! -type l ! -path /app/logs"
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
