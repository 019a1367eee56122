"""`gatehouse serve`: the gateway process. Waits for its database, brings both schemas up to date, then serves.

What serving needs is imported where it is used, so that the other commands start fast.
"""

from __future__ import annotations

import logging
import os
import sys
import time
from importlib import import_module
from io import TextIOWrapper
from typing import Annotated

import typer

from gatehouse.cli import app
from gatehouse.errors import SetupError
from gatehouse.settings import Settings, load_policy, load_settings

# LiteLLM fetches these from the internet at start-up unless told that its packaged copies will do.
_OFFLINE = {
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "LITELLM_LOCAL_ANTHROPIC_BETA_HEADERS": "True",
    "LITELLM_LOCAL_BLOG_POSTS": "True",
    "LITELLM_LOCAL_POLICY_TEMPLATES": "True",
    "LITELLM_LOCAL_AUTOROUTER_PRESETS": "True",
    "DISABLE_SCHEMA_UPDATE": "True",
    "LITELLM_LOG": "ERROR",
}


@app.command()
def serve(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.")] = 4000,
    wait: Annotated[float, typer.Option(help="Seconds to wait for the database.")] = 60.0,
) -> None:
    """Run the gateway in the foreground: the LiteLLM proxy with Gatehouse's governance inside."""
    _log_to_stderr("gatehouse", "uvicorn")
    settings = load_settings()
    load_policy(settings.policy_path)
    if not settings.config_path.is_file():
        raise SetupError(
            f"{settings.config_path}: not found. Restore LiteLLM's configuration or point CONFIG_FILE_PATH to it."
        )
    _prepare_database(settings, wait)
    _prepare_environment(settings)

    import uvicorn

    from gatehouse.db.litellm_schema import build_request_log_indexes

    # Imported by name, as uvicorn would: LiteLLM reads the environment that was prepared above.
    gateway = import_module("gatehouse.asgi").app
    # LiteLLM's threads interrupt the event loop less often (docs/performance.md has what this is worth).
    sys.setswitchinterval(0.02)
    build_request_log_indexes(settings.database_url)
    try:
        uvicorn.run(
            gateway,
            host=host,
            port=port,
            loop="uvloop",
            http="httptools",
            access_log=False,
            log_config=None,
            timeout_graceful_shutdown=10,
            server_header=False,
        )
    except SystemExit:
        # What LiteLLM had running ends noisily; the reason shall be the last line.
        raise SetupError(gateway.start_error or f"gateway: it could not serve on {host}:{port}. See above.") from None


def _log_to_stderr(*names: str) -> None:
    """Our lines and the server's; LiteLLM writes its own, at the level that LITELLM_LOG names, and prints to stdout."""
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)  # or what it printed would come after our last words
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    for name in names:
        logger = logging.getLogger(name)
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
        logger.propagate = False


def _prepare_database(settings: Settings, wait: float) -> None:
    import psycopg

    from gatehouse.db.litellm_schema import apply_litellm_migrations
    from gatehouse.db.schema import apply_migrations

    deadline = time.monotonic() + wait
    while True:
        try:
            with psycopg.connect(settings.database_url, connect_timeout=5):
                break
        except psycopg.OperationalError as error:
            if time.monotonic() >= deadline:
                reason = str(error).strip().splitlines()[-1]
                raise SetupError(
                    f"database: not reachable for {wait:.0f} s ({reason}). Start Postgres, or correct DATABASE_URL."
                ) from None
            time.sleep(0.5)
    applied = apply_litellm_migrations(settings.database_url) + apply_migrations(settings.database_url)
    if applied:
        print(f"database: {applied} migrations applied", file=sys.stderr, flush=True)


def _prepare_environment(settings: Settings) -> None:
    from gatehouse.db.prisma_engine import engine_environment

    for name, value in _OFFLINE.items():
        os.environ.setdefault(name, value)
    os.environ.update(engine_environment(settings.home))
    os.environ["CONFIG_FILE_PATH"] = str(settings.config_path)
