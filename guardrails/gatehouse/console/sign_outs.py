"""Sessions of the console that were ended before their time, for all gateways on one database."""

from __future__ import annotations

from gatehouse.storage.connection import Connection


async def end(connection: Connection, nonce: str, expires_at_s: int) -> None:
    """End a session, and forget sessions that are over by themselves.

    Args:
        expires_at_s: Unix time at which it would have ended.
    """
    await connection.execute("delete from gatehouse.console_sign_outs where expires_at < now()")
    await connection.execute(
        """insert into gatehouse.console_sign_outs (nonce, expires_at) values (%s, to_timestamp(%s))
           on conflict do nothing""",
        (nonce, expires_at_s),
    )


async def ended(connection: Connection, nonce: str) -> bool:
    """Say whether a session was ended."""
    cursor = await connection.execute("select 1 from gatehouse.console_sign_outs where nonce = %s", (nonce,))
    return await cursor.fetchone() is not None
