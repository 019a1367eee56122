"""Prometheus itself accepts what it is given, and the alert rules fire when they should."""

from __future__ import annotations

import pytest

from tests.compose.stack import Stack, docker


@pytest.mark.parametrize(
    "check",
    [
        ["check", "config", "prometheus.yml"],
        ["check", "rules", "rules/alerts.yml"],
        ["test", "rules", "alerts_test.yml"],
    ],
    ids=" ".join,
)
def test_promtool_finds_no_fault(stack: Stack, check: list[str]) -> None:
    image = stack.container("prometheus")["Config"]["Image"]
    mount = f"{stack.folder}/prometheus:/etc/prometheus:ro"
    # `check config` wants the token's file to be there.
    tool = ["run", "--rm", "--network=none", "--volume", mount, "--workdir=/etc/prometheus", "--entrypoint=sh"]
    token = ["--tmpfs=/run/gatehouse:mode=1777", image, "-c", 'touch /run/gatehouse/metrics_token; exec promtool "$@"']

    docker(*tool, *token, "promtool", *check)
