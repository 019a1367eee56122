"""`gatehouse serve`: the gateway process. It waits until its database is prepared, then serves.

Where its role may prepare the database (one role for everything: development, tests) it does so itself. It imports
what serving needs only where it is used, so that the other commands start fast.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
from importlib import import_module
from io import TextIOWrapper
from typing import Annotated

import typer

from gatehouse.cli import app
from gatehouse.core.errors import SetupError
from gatehouse.core.settings import Settings, load_settings
from gatehouse.policy.load import load_policy

# LiteLLM fetches these from the internet at start-up unless it is told to use its packaged copies.
_OFFLINE = {
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "LITELLM_LOCAL_ANTHROPIC_BETA_HEADERS": "True",
    "LITELLM_LOCAL_BLOG_POSTS": "True",
    "LITELLM_LOCAL_POLICY_TEMPLATES": "True",
    "LITELLM_LOCAL_AUTOROUTER_PRESETS": "True",
    "DISABLE_SCHEMA_UPDATE": "True",
    "LITELLM_LOG": "ERROR",
    # How long LiteLLM leaves a failed Redis alone; meanwhile keys with a budget or a rate limit are refused. LiteLLM's
    # default of a minute would refuse them for that long after each restart of Redis. Twice this is the longest time
    # that the documentation promises (`proxy.redis_breaker`).
    "REDIS_CIRCUIT_BREAKER_RECOVERY_TIMEOUT": "1",
}


@app.command()
def serve(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.")] = 4000,
    wait: Annotated[float, typer.Option(help="Seconds to wait for the database and its preparation.")] = 60.0,
) -> None:
    """Run the gateway in the foreground: the LiteLLM proxy with Gatehouse's governance inside."""
    _log_to_stderr("gatehouse", "uvicorn")
    settings = load_settings()
    load_policy(settings.policy_path)
    settings.keys  # noqa: B018  # fails where there is no secret
    if not settings.config_path.is_file():
        raise SetupError(
            f"{settings.config_path}: not found. Restore LiteLLM's configuration or point CONFIG_FILE_PATH to it."
        )
    prepared_itself = _prepare(settings, wait)
    _prepare_environment(settings)

    import uvicorn

    from gatehouse.gateway import draining_server
    from gatehouse.gateway.http_protocol import BoundedHttpProtocol
    from gatehouse.gateway.huge_pages import in_huge_pages

    # Import by name, as uvicorn would: LiteLLM reads the environment that was prepared above.
    gateway = import_module("gatehouse.asgi").app
    # LiteLLM's threads interrupt the event loop less often (docs/performance.md has the effect).
    sys.setswitchinterval(0.02)
    if prepared_itself:
        threading.Thread(target=_build_indexes, args=(settings.database_url,), daemon=True).start()
    try:
        config = uvicorn.Config(
            in_huge_pages(gateway),
            host=host,
            port=port,
            loop="uvloop",
            http=BoundedHttpProtocol,
            access_log=False,
            proxy_headers=False,  # `gateway.forwarded` reads them: uvicorn would believe every process on this machine
            log_config=None,
            timeout_graceful_shutdown=draining_server.DRAIN_S,
            server_header=False,
        )
        server = draining_server.DrainingServer(config, gateway.begin_to_stop)
        server.run()
        if not server.started:
            raise SystemExit(1)
    except SystemExit:
        # LiteLLM's background work ends with many log lines; the reason must be the last line.
        logging.disable()
        raise SetupError(gateway.start_error or f"gateway: it could not serve on {host}:{port}. See above.") from None


def _log_to_stderr(*names: str) -> None:
    """Log Gatehouse's lines and the server's. LiteLLM logs its own at LITELLM_LOG's level, and prints to stdout."""
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)  # otherwise printed lines would follow the last log lines
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    for name in names:
        logger = logging.getLogger(name)
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
        logger.propagate = False


def _prepare(settings: Settings, wait: float) -> bool:
    """Prepare what the gateway needs, or wait for it. Return whether this role did it itself."""
    from gatehouse.ledger import provisioning
    from gatehouse.storage.prepare import may_prepare, wait_for

    wait_for(settings.database_url, wait)
    if not may_prepare(settings.database_url):
        provisioning.wait_until_prepared(settings.database_url, settings.key_dir, wait)
        return False
    for line in (provisioning.ONE_ROLE, *provisioning.prepare(settings.database_url, None, settings.key_dir)):
        print(line, file=sys.stderr, flush=True)
    return True


def _build_indexes(database_url: str) -> None:
    """Build indexes, which takes long on a table with rows, while serving; the next start tries again."""
    from gatehouse.storage.litellm_schema import build_request_log_indexes

    try:
        build_request_log_indexes(database_url)
    except SetupError as error:
        logging.getLogger("gatehouse").warning("request-log indexes: %s", error)


def _prepare_environment(settings: Settings) -> None:
    from gatehouse.storage.prisma_engine import engine_environment

    for name, value in _OFFLINE.items():
        os.environ.setdefault(name, value)
    os.environ.update(engine_environment(settings.home))
    # Otherwise LiteLLM and Prisma's client would read a .env nearby, and with it the database owner's password.
    os.environ["PYTHON_DOTENV_DISABLED"] = "true"
    os.environ["CONFIG_FILE_PATH"] = str(settings.config_path)
