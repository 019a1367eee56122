"""The stack serves calls, and restarts its parts by itself."""

from __future__ import annotations

import re

import httpx
import pytest

from tests.compose.stack import REPOSITORY, SERVICES, Stack, docker
from tests.support.process import wait_until

UNITS = {"B": 1, "kB": 1000, "KiB": 2**10, "MB": 1000**2, "MiB": 2**20, "GB": 1000**3, "GiB": 2**30}


def test_a_virtual_key_gets_an_answer_and_the_host_its_audit_line(stack: Stack) -> None:
    answer = stack.chat(stack.new_key(), "hello from compose")

    assert answer.status_code == 200, answer.text
    assert "hello from compose" in answer.json()["choices"][0]["message"]["content"]
    call_id = answer.headers["x-gatehouse-call-id"]
    wait_until(lambda: bool(stack.audit_lines(call_id)), "the audit line is in logs/ of the checkout")
    (line,) = stack.audit_lines(call_id)
    assert line["event_type"] == "chat_completion_success"


def test_prometheus_reads_the_gateway_with_its_token(stack: Stack) -> None:
    assert httpx.get(f"{stack.url}/metrics", follow_redirects=True).status_code == 401
    stack.chat(stack.new_key(), "to be counted")

    def ask(query: str) -> list[list[object]]:
        answer = httpx.get(f"{stack.prometheus_url}/api/v1/query", params={"query": query}).json()
        return [series["value"] for series in answer["data"]["result"]]

    wait_until(lambda: [value for _, value in ask('up{job="gatehouse"}')] == ["1"], "Prometheus has its target up", 40)
    counted = 'sum(gatehouse_calls_total{job="gatehouse", outcome="success"}) > 0'
    wait_until(lambda: bool(ask(counted)), "our counters are in Prometheus", 40)
    rules = httpx.get(f"{stack.prometheus_url}/api/v1/rules").json()["data"]["groups"]
    written = (REPOSITORY / "prometheus/rules/alerts.yml").read_text().count("- alert:")
    assert [rule["health"] for group in rules for rule in group["rules"]] == ["ok"] * written


def test_the_idle_stack_holds_less_than_2_gb(stack: Stack) -> None:
    names = [f"{stack.project}-{service}-1" for service in SERVICES]
    held = {}
    for line in docker("stats", "--no-stream", "--format", "{{.Name}} {{.MemUsage}}", *names).splitlines():
        name, amount, unit = re.match(r"(\S+) ([\d.]+)(\w+)", line).groups()
        held[name] = float(amount) * UNITS[unit]

    assert set(held) == set(names)
    assert sum(held.values()) < 2e9, held


def test_up_again_changes_nothing(stack: Stack) -> None:
    before = {service: stack.container(service)["Id"] for service in SERVICES}
    pids = {service: stack.state(service)[0] for service in SERVICES}

    stack.up()

    assert {service: stack.container(service)["Id"] for service in SERVICES} == before
    assert {service: stack.state(service)[0] for service in SERVICES} == pids


@pytest.mark.parametrize("service", ["redis", "postgres", "gateway"])
def test_a_killed_server_comes_back_and_calls_are_answered(stack: Stack, service: str) -> None:
    key = stack.new_key()
    pid, _ = stack.state(service)

    stack.kill(pid)

    stack.wait_healthy(service, other_than=pid)
    wait_until(lambda: stack.chat(key, f"after {service} came back").status_code == 200, "a call is answered", 60)


def test_the_gateway_process_under_its_init_comes_back(stack: Stack) -> None:
    """The kernel kills it from inside when memory runs out: the init process must not outlive it."""
    init, _ = stack.state("gateway")
    kill = (
        "import os, pathlib\n"
        "for p in pathlib.Path('/proc').glob('[0-9]*'):\n"
        "    if p.name != '1' and p.name != str(os.getpid()) and b'serve' in (p / 'cmdline').read_bytes():\n"
        "        os.kill(int(p.name), 9)"
    )

    assert stack.inside("gateway", "python", "-c", kill).returncode in (0, 137)

    stack.wait_healthy("gateway", other_than=init)
    answer = stack.chat(stack.new_key(), "again")
    assert answer.status_code == 200, answer.text
