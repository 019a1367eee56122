"""Keeps the way back from the placeholders of conversations that a provider stores, and who owns what is stored.

Promises: what is kept is found only with an id and the key that owns it, and read only with the installation secret; a
turn gets back the values of its own conversation and no others; what is over is deleted.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import zlib
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Final, Protocol

import psycopg
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from gatehouse.core import metrics
from gatehouse.core.errors import GovernanceUnavailable, PlaceholdersCollide
from gatehouse.core.keys import DerivedKey, InstallationKeys, Purpose
from gatehouse.core.reasons import Reason
from gatehouse.dialects.conversations import Kind, ReadId, StoredId
from gatehouse.storage.connection import Connection

log = logging.getLogger("gatehouse.conversations")

_NONCE_BYTES: Final = 12  # what AES-GCM is made for (NIST SP 800-38D, 5.2.1.1)
_PURPOSE: Final = b"gatehouse conversation 1 "
_SWEEP_EVERY_S: Final = 3_600.0
# How long an answer waits for the database. Without it the answer is passed on, and later turns keep placeholders.
_PATIENCE_S: Final = 5.0
_AWAY: Final = (psycopg.Error, TimeoutError)


@dataclass(frozen=True, slots=True)
class Remembered:
    """Hold what is kept of a conversation.

    Attributes:
        values: what each placeholder stands for, by its name without brackets.
        hosts: those that its texts named, into whose links values may be put back.
        model: of an answer, the model that was asked, as config.yaml names it.
        routed: of an answer, the id by which LiteLLM finds the deployment that has it.
    """

    values: Mapping[str, str] = field(default_factory=dict, repr=False)
    hosts: frozenset[str] = frozenset()
    model: str = ""
    routed: str = ""


NOTHING: Final = Remembered()


@dataclass(slots=True, eq=False)
class StoredCall:
    """Say of a call whose answer the provider stores what is to be kept of it.

    Attributes:
        owner: the hash of the key that makes it.
        conversation: the id of the conversation that it adds to.
        earlier: what was kept of the turns before it.
        lifetime_s: how long it is kept.
        row: its row, once the answer's id is known.
    """

    owner: str
    conversation: StoredId | None
    earlier: Remembered
    lifetime_s: float
    row: int | None = None


class Connections(Protocol):
    """Hand out connections to the database."""

    def connection(self, timeout: float | None = None) -> AbstractAsyncContextManager[Connection]: ...


class Conversations:
    """Keep conversations in the database.

    Args:
        read_id: reads an id; LiteLLM gives the same thing several.
    """

    def __init__(self, pool: Connections, keys: InstallationKeys, read_id: Callable[[StoredId], ReadId]) -> None:
        self._pool = pool
        self._keys = keys
        self._read_id = read_id

    async def recall(self, owner: str | None, ids: Collection[StoredId]) -> Remembered | None:
        """Return what is kept under some ids; None where this key made none of them, or all are forgotten.

        Raises:
            GovernanceUnavailable: the database is away.
            PlaceholdersCollide: two of their values have one placeholder.
        """
        if owner is None or not ids:
            return None
        # A conversation has a row for each turn with new values; an answer has one, and some providers use ids twice.
        whole = [each for each in ids if each.kind is Kind.CONVERSATION]
        newest = [each for each in ids if each.kind is not Kind.CONVERSATION]
        try:
            async with self._connection() as connection:
                rows = await self._rows(connection, owner, whole, None) if whole else []
                rows += await self._rows(connection, owner, newest, 1) if newest else []
        except _AWAY as error:
            log.warning("a stored conversation could not be looked up: %s", error)
            raise GovernanceUnavailable(
                "The gateway cannot look up this stored conversation now. Try again soon."
            ) from None
        return _merged([opened(self._keys, *row) for row in rows]) if rows else None

    async def find(self, owner: str | None, id_: StoredId) -> Remembered | None:
        """Return what is kept of an answer; None where this key did not make it, or it is forgotten.

        Raises:
            GovernanceUnavailable: the database is away.
        """
        kept = await self.recall(owner, [id_])
        # A caller could write another deployment into the id.
        return kept if kept is not None and kept.routed == self._read_id(id_).routed else None

    async def _rows(
        self, connection: Connection, owner: str, ids: Iterable[StoredId], most: int | None
    ) -> list[tuple[bytes, str, bytes]]:
        cursor = await connection.execute(
            """select kept.ids[1], kept.epoch, kept.sealed
                 from unnest(%s::bytea[]) with ordinality as asked (id, nth)
                cross join lateral (
                      select number, ids, epoch, sealed from gatehouse.conversations
                       where ids @> array[asked.id] and expires_at > now() order by number desc limit %s) kept
                order by asked.nth, kept.number""",
            (self._asked(owner, ids), most),
        )
        return await cursor.fetchall()

    async def keep(self, call: StoredCall, ids: Sequence[StoredId], known: Remembered) -> bool:
        """Keep what is known of a stored call, once its answer's id is known; after that add only the ids of its items.

        Returns:
            whether it was kept.
        """
        try:
            async with self._connection() as connection:
                await self._keep(connection, call, ids, known)
        except _AWAY as error:
            metrics.stage_errors.labels("conversations", Reason.GOVERNANCE_UNAVAILABLE).inc()
            log.error("a stored answer's values could not be kept, so later turns show placeholders: %s", error)
            return False
        return True

    async def _keep(self, connection: Connection, call: StoredCall, ids: Sequence[StoredId], known: Remembered) -> None:
        key = self._keys.key(Purpose.CONVERSATIONS)
        hashed = self._hashed(key, call.owner, ids)
        if call.row is not None:
            await connection.execute(
                "update gatehouse.conversations set ids = ids || %s where number = %s", (hashed, call.row)
            )
            return
        if call.conversation is not None:
            await self._add(connection, key, call, call.conversation, known)
        known = replace(known, routed=self._read_id(ids[0]).routed)
        call.row = await _insert(connection, key, hashed, known, call.lifetime_s)

    async def _add(
        self, connection: Connection, key: DerivedKey, call: StoredCall, conversation: StoredId, known: Remembered
    ) -> None:
        """Add what this turn brought to a conversation, which then lives on."""
        await connection.execute(
            """update gatehouse.conversations set expires_at = greatest(expires_at, now() + make_interval(secs => %s))
                where ids && %s and expires_at > now()""",
            (call.lifetime_s, self._asked(call.owner, [conversation])),
        )
        earlier = call.earlier
        values = {name: value for name, value in known.values.items() if name not in earlier.values}
        new = Remembered(values, known.hosts - earlier.hosts)
        if new != NOTHING:
            await _insert(connection, key, self._hashed(key, call.owner, [conversation]), new, call.lifetime_s)

    async def forget(self, owner: str, id_: StoredId) -> None:
        """Forget what is kept of an answer."""
        try:
            async with self._connection() as connection:
                await connection.execute(
                    "delete from gatehouse.conversations where ids && %s", (self._asked(owner, [id_]),)
                )
        except _AWAY as error:
            log.error("what is kept of a deleted answer could not be deleted; it expires by itself: %s", error)

    async def run(self) -> None:
        """Delete what is over, again and again."""
        while True:
            try:
                async with self._connection() as connection:
                    await connection.execute("delete from gatehouse.conversations where expires_at <= now()")
            except _AWAY as error:
                log.warning("conversations that are over could not be deleted: %s", error)
            await asyncio.sleep(_SWEEP_EVERY_S)

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[Connection]:
        async with asyncio.timeout(_PATIENCE_S), self._pool.connection(_PATIENCE_S) as connection:
            yield connection

    def _asked(self, owner: str, ids: Iterable[StoredId]) -> list[bytes]:
        """Return what the ids may be kept under: each key of the installation may have made it."""
        given = tuple(ids)
        return [id_ for key in self._keys.keys(Purpose.CONVERSATIONS) for id_ in self._hashed(key, owner, given)]

    def _hashed(self, key: DerivedKey, owner: str, ids: Iterable[StoredId]) -> list[bytes]:
        return [key.mac("id", owner, each.kind, self._read_id(each).provider) for each in ids]


async def _insert(
    connection: Connection, key: DerivedKey, ids: list[bytes], known: Remembered, lifetime_s: float
) -> int:
    cursor = await connection.execute(
        """insert into gatehouse.conversations (ids, epoch, sealed, expires_at)
           values (%s, %s, %s, now() + make_interval(secs => %s)) returning number""",
        (ids, key.epoch, sealed(key, ids[0], known), lifetime_s),
    )
    row = await cursor.fetchone()
    assert row is not None
    number: int = row[0]
    return number


def sealed(key: DerivedKey, id_: bytes, known: Remembered) -> bytes:
    """Encrypt what is kept.

    Args:
        id_: the first of its row's ids, which ties the ciphertext to its row.
    """
    said = json.dumps({**asdict(known), "hosts": sorted(known.hosts)}).encode()
    nonce = os.urandom(_NONCE_BYTES)
    return nonce + AESGCM(key.mac("values")).encrypt(nonce, zlib.compress(said), _PURPOSE + id_)


def opened(keys: InstallationKeys, id_: bytes, epoch: str, data: bytes) -> Remembered:
    """Decrypt what is kept; where that cannot be done, nothing is known, and placeholders stay placeholders."""
    key = keys.key_of(Purpose.CONVERSATIONS, epoch)
    try:
        if key is None:
            return NOTHING
        plain = AESGCM(key.mac("values")).decrypt(data[:_NONCE_BYTES], data[_NONCE_BYTES:], _PURPOSE + id_)
        said: dict[str, Any] = json.loads(zlib.decompress(plain))
    except (InvalidTag, ValueError, zlib.error):
        log.warning("the values of a stored conversation cannot be decrypted: they were changed where they are kept")
        return NOTHING
    return Remembered(said["values"], frozenset(said["hosts"]), said["model"], said["routed"])


def _merged(all_: Sequence[Remembered]) -> Remembered:
    if len(all_) == 1:
        return all_[0]
    values: dict[str, str] = {}
    hosts = set[str]()
    for each in all_:
        if any(values.get(name, value) != value for name, value in each.values.items()):
            raise PlaceholdersCollide
        values |= each.values
        hosts |= each.hosts
    return Remembered(values, frozenset(hosts))
