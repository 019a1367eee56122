"""Signs checkpoints of every chain on a schedule, from any number of gateways, and lays them out for witnesses.

Promises: a checkpoint is signed only over a tree that continues every checkpoint known from the table and from the
folder, so a database that was rolled back or rewritten is never signed for; the folder catches up with the table.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from dataclasses import dataclass
from pathlib import Path

import psycopg

from gatehouse import metrics
from gatehouse.audit.checkpoint import Checkpoint, InvalidNote, Verifier, open_checkpoint, origin_of, sign_checkpoint
from gatehouse.audit.keyring import Keyring
from gatehouse.audit.keys import KeyFolder, Keys
from gatehouse.audit.merkle import Frontier, frontier_nodes
from gatehouse.audit.witness import WitnessFolder
from gatehouse.clock import monotonic
from gatehouse.db import capsules, checkpoints
from gatehouse.db.capsules import Connection
from gatehouse.db.checkpoints import ChainState
from gatehouse.errors import SetupError

log = logging.getLogger("gatehouse.audit")

EVERY_CAPSULES = 1000
EVERY_S = 60.0
TICK_S = 1.0

_NEXT_STEP = "Nothing is signed for it until somebody has looked: run `gatehouse audit verify`."


class Inconsistent(Exception):
    """The database does not continue what was signed before; the message names chain, sizes and next step."""


@dataclass(frozen=True, slots=True)
class _Signed:
    """The checkpoint that a new one must continue."""

    checkpoint: Checkpoint
    source: str


class Checkpointer:
    """The schedule of one gateway.

    Args:
        directory: what a witness collects.
    """

    def __init__(self, database_url: str, keys: KeyFolder, directory: Path) -> None:
        self._url = database_url
        self._keys = keys
        self._folder = WitnessFolder(directory)
        self._connection: Connection | None = None
        self._growing: dict[str, float] = {}
        self._said: dict[str, str] = {}

    async def run(self) -> None:
        """Look every second, until cancelled."""
        try:
            while True:
                await asyncio.to_thread(self.tick)
                await asyncio.sleep(TICK_S)
        finally:
            self._disconnect()

    def tick(self) -> None:
        """Sign what is due, and bring the folder up to date; trouble is logged once and counted, never raised."""
        try:
            if self._connection is None:
                self._connection = connect(self._url)
            for state in checkpoints.chain_states(self._connection):
                self._look(self._connection, state)
            self._said.pop("", None)
        except (psycopg.Error, OSError, SetupError) as error:
            self._disconnect()
            self._say("", f"checkpoints: {error if isinstance(error, SetupError) else type(error).__name__}")

    def _look(self, connection: Connection, state: ChainState) -> None:
        keys = self._keys.current()
        self._folder.publish(state.chain, keys.keyring)
        grown = state.size - state.signed_size
        if grown == 0:
            self._growing.pop(state.chain, None)
        since = self._growing.setdefault(state.chain, monotonic()) if grown else monotonic()
        due = grown >= EVERY_CAPSULES or (grown > 0 and monotonic() - since >= EVERY_S)
        # A head behind its checkpoint is looked at too, for that is what a rolled back database looks like.
        try:
            if due or grown < 0:
                sign(connection, keys, self._folder, state)
                self._growing.pop(state.chain, None)
                metrics.checkpoints_signed.inc()
            else:
                catch_up(connection, self._folder, state)
            self._said.pop(state.chain, None)
        except Inconsistent as error:
            metrics.checkpoint_errors.inc()
            self._say(state.chain, str(error))

    def _say(self, what: str, message: str) -> None:
        if self._said.get(what) != message:
            self._said[what] = message
            log.error("%s", message)

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(psycopg.Error):
                connection.close()


def connect(database_url: str) -> Connection:
    """A connection on which every statement is its own transaction."""
    return psycopg.connect(database_url, connect_timeout=5, autocommit=True, application_name="gatehouse checkpoints")


def sign_now(connection: Connection, keys: KeyFolder, directory: Path, chain: str) -> bytes:
    """The note over all of a chain's capsules, signed now unless there is one.

    Raises:
        SetupError: there is no such chain, nothing in it, or the key cannot be used.
        Inconsistent: it does not continue what was signed before.
    """
    folder = WitnessFolder(directory)
    states = checkpoints.chain_states(connection, chain)
    if not states or not states[0].size:
        raise SetupError(
            f"chain {chain!r}: there is no capsule in it to sign for. Make a call through the gateway first."
        )
    folder.publish(chain, keys.current().keyring)
    return sign(connection, keys.current(), folder, states[0])


def sign(connection: Connection, keys: Keys, folder: WitnessFolder, state: ChainState) -> bytes:
    """Check that the tree continues what was signed, sign it, store it, lay it out.

    Raises:
        Inconsistent: it does not.
    """
    frontier = _checked(connection, state, _last_signed(state, folder, keys.keyring))
    if state.signed_size == state.size and state.note is not None:
        note = state.note
    else:
        signed = Checkpoint(origin_of(state.chain), state.size, frontier.root())
        note = sign_checkpoint(signed, keys.keyring.active.public_key, keys.signer.sign)
        note = checkpoints.add(connection, state.chain, state.size, note)
    catch_up(connection, folder, state)
    folder.write(state.chain, state.size, note)
    return note


def catch_up(connection: Connection, folder: WitnessFolder, state: ChainState) -> None:
    """Lay out the checkpoints of the table that the folder lacks: their writer died before, or writes elsewhere."""
    while folder.size(state.chain) < state.signed_size:
        missing = checkpoints.checkpoints_after(connection, state.chain, folder.size(state.chain))
        for size, note in missing:
            folder.write(state.chain, size, note)
        if not missing:
            return


def _last_signed(state: ChainState, folder: WitnessFolder, keyring: Keyring) -> _Signed | None:
    """The larger of the table's and the folder's last checkpoint."""
    origin = origin_of(state.chain)
    verifiers = [Verifier(origin, epoch.public_key) for epoch in keyring.epochs]
    found: list[_Signed] = []
    for source, note in (("the table's", state.note), ("the folder's", folder.latest(state.chain))):
        if note is None:
            continue
        try:
            checkpoint = open_checkpoint(note, verifiers)
        except InvalidNote as error:
            raise Inconsistent(f"chain {state.chain!r}: {source} last checkpoint: {error}. {_NEXT_STEP}") from None
        if checkpoint.origin != origin:
            raise Inconsistent(
                f"chain {state.chain!r}: {source} last checkpoint is of {checkpoint.origin}. {_NEXT_STEP}"
            )
        found.append(_Signed(checkpoint, source))
    return max(found, key=lambda signed: signed.checkpoint.size, default=None)


def _checked(connection: Connection, state: ChainState, last: _Signed | None) -> Frontier:
    """The tree's edge, from the records themselves, after comparing it with the head and with what was signed."""
    signed_size = last.checkpoint.size if last else 0
    if state.size < signed_size:
        raise Inconsistent(
            f"chain {state.chain!r}: {last.source if last else ''} last checkpoint is over {signed_size} capsules, "
            f"the database has {state.size}: it was rolled back or cut. {_NEXT_STEP}"
        )
    wanted = {*frontier_nodes(state.size), *frontier_nodes(signed_size)}
    nodes = capsules.tree_nodes(connection, state.chain, wanted)
    try:
        frontier, before = Frontier.load(state.size, nodes), Frontier.load(signed_size, nodes)
    except KeyError as error:
        raise Inconsistent(
            f"chain {state.chain!r}: of its {state.size} capsules the one that holds tree node {error.args[0]} "
            f"is missing or changed. {_NEXT_STEP}"
        ) from None
    if frontier.to_bytes() != state.frontier:
        raise Inconsistent(f"chain {state.chain!r}: its head is not what its {state.size} capsules make. {_NEXT_STEP}")
    if last and before.root() != last.checkpoint.root:
        raise Inconsistent(
            f"chain {state.chain!r}: its first {signed_size} capsules are not those that {last.source} last checkpoint "
            f"was signed over. {_NEXT_STEP}"
        )
    return frontier
