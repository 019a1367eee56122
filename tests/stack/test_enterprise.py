"""The gateway does not start with a setting that only LiteLLM's proprietary package would obey."""

from __future__ import annotations

from pathlib import Path

import yaml

from tests.support.gateway import START_S, Gateway
from tests.support.postgres import Postgres
from tests.support.process import wait_until
from tests.support.redis_server import Redis


def test_a_start_with_a_logger_that_is_not_installed_says_so(
    postgres: Postgres, redis_server: Redis, upstream_config: Path, tmp_path: Path
) -> None:
    config = yaml.safe_load(upstream_config.read_text())
    config["litellm_settings"]["success_callback"] = ["smtp_email"]
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(config))
    gateway = Gateway(postgres.create_database(), redis_server.port, config=path)
    gateway.server.start()
    try:
        wait_until(lambda: not gateway.server.running, "the gateway ends", START_S)
        assert "litellm_settings.success_callback has `smtp_email`" in gateway.output.read_text()
    finally:
        gateway.close()
