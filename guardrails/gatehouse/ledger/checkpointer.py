"""Signs checkpoints of every chain on a schedule, from any number of gateways, and lays them out for witnesses.

Promises: a checkpoint is signed only over a tree that continues every checkpoint known from the table and from the
folder, so a database that was rolled back or rewritten is never signed for; the folder catches up with the table.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import psycopg

from gatehouse.capsule.checkpoint import Checkpoint, InvalidNote, Verifier, open_checkpoint, origin_of, sign_checkpoint
from gatehouse.capsule.keyring import Keyring
from gatehouse.capsule.keys import KeyFolder
from gatehouse.capsule.merkle import Frontier, frontier_nodes
from gatehouse.core import metrics
from gatehouse.core.clock import monotonic
from gatehouse.core.errors import SetupError
from gatehouse.ledger.store import capsules, checkpoints
from gatehouse.ledger.store.capsules import Connection
from gatehouse.ledger.store.checkpoints import ChainState
from gatehouse.ledger.witness_folder import WitnessFolder
from gatehouse.storage.connection import OPTIONS

log = logging.getLogger("gatehouse.audit")

EVERY_CAPSULES = 1000
EVERY_S = 60.0
TICK_S = 1.0

_NEXT_STEP = "Nothing is signed for it until somebody has looked: run `gatehouse audit verify`."


class Inconsistent(Exception):
    """The database does not continue what was signed before; the message names chain, sizes and next step."""


@dataclass(frozen=True, slots=True)
class _Signed:
    """A checkpoint that a new one must continue; `source` says which, for a person."""

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
            self._keys.current()  # without keys nothing can be done for any chain
            if self._connection is None:
                self._connection = connect(self._url)
            for state in checkpoints.chain_states(self._connection):
                self._look(self._connection, state)
            self._said.pop("", None)
        except psycopg.OperationalError as error:
            # Not counted: that the database is away, others tell.
            self._disconnect()
            self._say("", f"checkpoints: the database is away ({type(error).__name__}); it is asked every second.")
        except Exception as error:  # a schedule that ended would never sign again, and nobody would know
            self._disconnect()
            metrics.checkpoint_errors.inc()
            self._say("", f"checkpoints: {error if isinstance(error, SetupError) else repr(error)}")

    def _look(self, connection: Connection, state: ChainState) -> None:
        try:
            self._folder.publish(state.chain, self._keys.current().keyring)
            if self._due(state):
                sign(connection, self._keys, self._folder, state.chain)
                self._growing.pop(state.chain, None)
            else:
                catch_up(connection, self._keys, self._folder, state)
            self._said.pop(state.chain, None)
        except psycopg.Error:
            raise
        except Exception as error:  # one chain's trouble, of whatever kind, must not keep the others from being signed
            metrics.checkpoint_errors.inc()
            self._say(state.chain, _sentence(state.chain, error))

    def _due(self, state: ChainState) -> bool:
        # Less than was signed is what a database looks like that was rolled back: `sign` says so.
        if state.size < state.signed_size or self._folder.size(state.chain) > state.signed_size:
            return True
        if state.size == state.signed_size:
            self._growing.pop(state.chain, None)
            return False
        since = self._growing.setdefault(state.chain, monotonic())
        return state.size - state.signed_size >= EVERY_CAPSULES or monotonic() - since >= EVERY_S

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
    return psycopg.connect(database_url, autocommit=True, **OPTIONS | {"application_name": "gatehouse checkpoints"})


def sign_now(connection: Connection, keys: KeyFolder, directory: Path, chain: str) -> bytes:
    """The note over all of a chain's capsules, signed now unless there is one.

    Raises:
        SetupError: there is no such chain, nothing in it, or the key or the folder cannot be used.
        Inconsistent: it does not continue what was signed before.
    """
    folder = WitnessFolder(directory)
    states = checkpoints.chain_states(connection, chain)
    if not states or not (states[0].size or states[0].signed_size):
        raise SetupError(
            f"chain {chain!r}: there is no capsule in it to sign for. Make a call through the gateway first."
        )
    try:
        folder.publish(chain, keys.current().keyring)
        return sign(connection, keys, folder, chain)
    except OSError as error:
        raise SetupError(_sentence(chain, error)) from None


def sign(connection: Connection, keys: KeyFolder, folder: WitnessFolder, chain: str) -> bytes:
    """Check that the tree continues what was signed, sign it, store it, lay it out.

    Raises:
        Inconsistent: it does not.
    """
    # Before the database is read: what another gateway lays out is stored already, so this is never ahead of that.
    latest = folder.latest(chain)
    states = checkpoints.chain_states(connection, chain)
    if not states:
        raise Inconsistent(f"chain {chain!r}: it is gone from gatehouse.chains. {_NEXT_STEP}")
    state = states[0]
    held = keys.current()  # after what was read, for another gateway may have signed that with a key just made
    known: list[_Signed] = []
    if state.note is not None:
        known.append(_opened(chain, held.keyring, state.note, "the table's last checkpoint", state.signed_size))
    if latest is not None:
        known.append(_opened(chain, held.keyring, latest, "the folder's last checkpoint"))
    frontier = _checked(connection, state, known)
    note = state.note
    if note is None or state.signed_size < state.size:
        signed = Checkpoint(origin_of(chain), state.size, frontier.root())
        note = sign_checkpoint(signed, held.keyring.active.public_key, held.signer.sign)
        if checkpoints.add(connection, chain, state.size, note):
            metrics.checkpoints_signed.inc()
    catch_up(connection, keys, folder, replace(state, signed_size=state.size))
    return note


def catch_up(connection: Connection, keys: KeyFolder, folder: WitnessFolder, state: ChainState) -> None:
    """Lay out the checkpoints of the table that the folder lacks: their writer died before, or writes elsewhere.

    Raises:
        Inconsistent: one is not what a gateway signed.
    """
    laid_out = folder.size(state.chain)
    if laid_out < state.signed_size:
        for size, note in checkpoints.checkpoints_after(connection, state.chain, laid_out):
            _opened(state.chain, keys.current().keyring, note, f"the table's checkpoint of {size}", size)
            folder.write(state.chain, size, note)


def _opened(chain: str, keyring: Keyring, note: bytes, source: str, size: int | None = None) -> _Signed:
    """A checkpoint of that chain and, when given, that size, signed by a key of the ledger."""
    origin = origin_of(chain)
    try:
        checkpoint = open_checkpoint(note, [Verifier(origin, epoch.public_key) for epoch in keyring.epochs])
    except InvalidNote as error:
        raise Inconsistent(f"chain {chain!r}: {source}: {error}. {_NEXT_STEP}") from None
    if size not in (None, checkpoint.size):
        raise Inconsistent(f"chain {chain!r}: {source} is over {checkpoint.size} capsules, not {size}. {_NEXT_STEP}")
    return _Signed(checkpoint, source)


def _checked(connection: Connection, state: ChainState, known: Sequence[_Signed]) -> Frontier:
    """The tree's edge, from the records themselves, after comparing it with the head and with what was signed."""
    chain, size = f"chain {state.chain!r}", state.size
    if size < 0:
        raise Inconsistent(f"{chain}: its head speaks of {size} capsules. {_NEXT_STEP}")
    for signed in known:
        if size < signed.checkpoint.size:
            raise Inconsistent(
                f"{chain}: {signed.source} is over {signed.checkpoint.size} capsules, "
                f"the database has {size}: it was rolled back or cut. {_NEXT_STEP}"
            )
    sizes = {size, *(signed.checkpoint.size for signed in known)}
    nodes = capsules.tree_nodes(connection, state.chain, {node for each in sizes for node in frontier_nodes(each)})
    try:
        trees = {each: Frontier.load(each, nodes) for each in sizes}
    except KeyError as error:
        raise Inconsistent(
            f"{chain}: of its {size} capsules the one that holds tree node {error.args[0]} "
            f"is missing or changed. {_NEXT_STEP}"
        ) from None
    if trees[size].to_bytes() != state.frontier:
        raise Inconsistent(f"{chain}: its head is not what its {size} capsules make. {_NEXT_STEP}")
    for signed in known:
        if trees[signed.checkpoint.size].root() != signed.checkpoint.root:
            raise Inconsistent(
                f"{chain}: its first {signed.checkpoint.size} capsules are not those that {signed.source} "
                f"was signed over. {_NEXT_STEP}"
            )
    return trees[size]


def _sentence(chain: str, error: Exception) -> str:
    if isinstance(error, Inconsistent):
        return str(error)
    if isinstance(error, OSError):
        # The folder: a draft's name is another one each second, and the log would say each.
        where = Path(error.filename).parent if error.filename else "the checkpoints' folder"
        return f"chain {chain!r}: {where}: {error.strerror}. Let the gateway's user write there."
    return f"chain {chain!r}: {type(error).__name__}: {error}. {_NEXT_STEP}"
