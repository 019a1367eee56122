"""A value has one placeholder in a team: on every gateway with the installation's secret, and after a restart."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.support.gateway import Gateway
from tests.support.redis_server import Redis
from tests.support.upstream import Upstream

MAIL = "ada.lovelace@example.com"


def placeholder(gateway: Gateway, key: str, upstream: Upstream) -> str:
    """Return what the provider gets instead of the address, which comes back to the caller."""
    upstream.requests.clear()
    upstream.says = lambda body: f"I wrote to {' '.join(re.findall(r'EMAIL_ADDRESS_[0-9A-Z]{8}', body)[:1]).lower()}."
    asked = {"model": "up-chat", "max_tokens": 10, "messages": [{"role": "user", "content": f"Write to {MAIL}"}]}
    with gateway.client(key) as client:
        answer = client.post("/v1/chat/completions", json=asked)
    assert answer.status_code == 200, answer.text
    assert answer.json()["choices"][0]["message"]["content"] == f"I wrote to {MAIL}."
    (found,) = re.findall(r"Write to (<EMAIL_ADDRESS_\w{8}>)", upstream.received)
    return str(found)


@pytest.mark.timeout(600)
def test_gateways_with_one_secret_give_the_same_placeholders_and_another_team_gets_others(
    governed: Gateway, redis_server: Redis, upstream_config: Path, tmp_path: Path, upstream: Upstream
) -> None:
    with governed.client() as client:
        teams = [client.post("/team/new", json={}).json()["team_id"] for _ in range(2)]
    mine, colleagues, others = (governed.new_key(team_id=team) for team in (teams[0], *teams))
    alone = governed.new_key()
    given = placeholder(governed, mine, upstream)
    assert placeholder(governed, colleagues, upstream) == given
    assert len({given, placeholder(governed, others, upstream), placeholder(governed, alone, upstream)}) == 3
    with governed.client() as client:
        client.post("/team/update", json={"team_id": teams[0], "team_alias": "renamed"}).raise_for_status()
    (tmp_path / "policy.yaml").write_text("version: 1\npii: {mode: mask}\n")
    second = Gateway(
        governed.database_url,
        redis_server.port,
        config=upstream_config,
        policy=tmp_path / "policy.yaml",
        folder=governed.folder,
    )
    try:
        for _ in range(2):  # and after a restart
            second.start()
            assert placeholder(second, mine, upstream) == given
            second.server.stop()
    finally:
        second.server.stop()
