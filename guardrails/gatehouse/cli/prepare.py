"""`gatehouse prepare`: prepares the database with the owner's rights, which the gateway does not have."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from gatehouse.cli import app
from gatehouse.core.errors import SetupError
from gatehouse.core.settings import load_settings


@app.command()
def prepare(
    wait: Annotated[float, typer.Option(help="Seconds to wait for the database.")] = 60.0,
) -> None:
    """Prepare the database and the ledger's key: GATEHOUSE_OWNER_DATABASE_URL's role does it for DATABASE_URL's.

    Run it before the gateway starts, at every start; it changes nothing that is in order.
    """
    from gatehouse.ledger import provisioning
    from gatehouse.storage.litellm_schema import build_request_log_indexes
    from gatehouse.storage.prepare import may_prepare, same_role, wait_for

    settings = load_settings()
    owner_url = os.environ.get("GATEHOUSE_OWNER_DATABASE_URL") or settings.database_url
    wait_for(owner_url, wait)
    if not may_prepare(owner_url):
        raise SetupError(
            "database: this role may not create schemas in it. Put the address with its owner's role into "
            "GATEHOUSE_OWNER_DATABASE_URL."
        )
    gateway_url = None if same_role(owner_url, settings.database_url) else settings.database_url
    if gateway_url is None:
        print(provisioning.ONE_ROLE, file=sys.stderr)
    for line in provisioning.prepare(owner_url, gateway_url, settings.key_dir):
        print(line, flush=True)
    if build_request_log_indexes(owner_url):
        print("database: LiteLLM's request-log indexes built")
