"""Prepares the database for a gateway, and tells whether that is done.

Promises: idempotent, also when several run at once; a gateway that finds nothing pending has every privilege it needs,
because one transaction commits the last migrations and the privileges.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict

from gatehouse.core.errors import SetupError
from gatehouse.storage import litellm_schema, roles, schema

Connection = psycopg.Connection[tuple[Any, ...]]

_PAUSE_S = 0.2


def connect(database_url: str) -> Connection:
    """Open a connection that looks up no name in a schema to which the gateway's role may write.

    Raises:
        SetupError: the address cannot be read.
        psycopg.OperationalError: the database is unreachable, or refuses this role.
    """
    try:
        conninfo_to_dict(database_url)
    except psycopg.ProgrammingError:
        # libpq quotes the part that it could not read, which may be the password.
        raise SetupError("DATABASE_URL: it is not a postgresql:// address. Percent-encode its password.") from None
    return psycopg.connect(database_url, connect_timeout=5, options="-c search_path=pg_catalog")


def wait_for(
    database_url: str, seconds: float, missing_in: Callable[[Connection], str | None] = lambda _: None
) -> None:
    """Wait until the database answers and `missing_in` finds nothing missing.

    Raises:
        SetupError: that takes longer than `seconds`; the message says what was missing last.
    """
    deadline = time.monotonic() + seconds
    while True:
        try:
            with connect(database_url) as connection:
                missing = missing_in(connection)
        except psycopg.OperationalError as error:
            reason = str(error).strip().splitlines()[-1]
            missing = f"not reachable for {seconds:.0f} s ({reason}). Start Postgres, or correct DATABASE_URL."
        if missing is None:
            return
        if time.monotonic() >= deadline:
            raise SetupError(f"database: {missing}")
        time.sleep(_PAUSE_S)


def may_prepare(database_url: str) -> bool:
    """Tell whether this role may make schemas, as the owner and a superuser may."""
    with connect(database_url) as connection:
        return connection.execute("select has_database_privilege(current_database(), 'CREATE')").fetchone() == (True,)


def same_role(owner_url: str, gateway_url: str) -> bool:
    """Tell whether both addresses name one role."""
    return conninfo_to_dict(owner_url).get("user") == conninfo_to_dict(gateway_url).get("user")


def prepare_database(owner_url: str, gateway_url: str | None) -> list[str]:
    """Bring roles, both schemas and the gateway's privileges up to date.

    Args:
        owner_url: address with the role that owns the database.
        gateway_url: address with the gateway's role; None when that is the owner's.

    Returns:
        A line for each thing that was done.

    Raises:
        SetupError: a step failed.
    """
    role = str(conninfo_to_dict(gateway_url).get("user", "")) if gateway_url else None
    done: list[str] = []
    try:
        if gateway_url and role:
            with connect(owner_url) as connection:
                schema.lock(connection)
                done += roles.ensure_role(connection, gateway_url)
                roles.set_default_privileges(connection, role)
        applied = litellm_schema.apply_litellm_migrations(owner_url)
        with connect(owner_url) as connection:
            applied += schema.apply_pending(connection)
            if role:
                done += roles.grant(connection, role)
    except psycopg.Error as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
        raise SetupError(f"database: {reason}. Correct that and prepare it again.") from error
    return [*done, f"database: {applied} migrations applied"] if applied else done


def pending_in(connection: Connection, shipped: Sequence[litellm_schema.Migration]) -> str | None:
    """Name what `prepare_database` still has to do before this role can work; None when nothing.

    Args:
        shipped: LiteLLM's migrations.

    Raises:
        SetupError: the database is newer than this gateway.
    """
    try:
        pending = [migration.name for migration in litellm_schema.pending_migrations(connection, shipped)]
        pending += schema.pending_migrations(connection)
    except psycopg.errors.InsufficientPrivilege:
        return "what its role may do there"
    return f"migration {pending[0]}" if pending else None


def has_capsules(owner_url: str) -> bool:
    """Tell whether this database holds any sealed capsule."""
    with connect(owner_url) as connection:
        return connection.execute("select exists (select from gatehouse.capsules)").fetchone() == (True,)
