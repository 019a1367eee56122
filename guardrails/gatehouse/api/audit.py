"""/governance/v1/audit: the ledger over HTTP, for administrators and auditors. What it answers can be verified offline.

Reading blocks a worker thread with a connection of its own, never the event loop that carries the calls. A shared
one would not do: an export holds its own for as long as its reader takes, and the approvals of calls wait for those.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Iterable, Iterator
from typing import Annotated
from uuid import UUID

import psutil
from fastapi import APIRouter, Depends, Query, Response
from fastapi.responses import StreamingResponse

from gatehouse.api.access import GovernanceRoute, auditor
from gatehouse.capsule.document import DEFAULT_CHAIN
from gatehouse.capsule.export import ExportFormat, export_line, exported
from gatehouse.capsule.keyring import read_keyring
from gatehouse.capsule.keys import KEYRING_NAME
from gatehouse.capsule.stored import LAST
from gatehouse.core.errors import Conflict, GovernanceUnavailable, NotFound
from gatehouse.core.settings import Settings
from gatehouse.ledger.inspection import knows
from gatehouse.ledger.prover import NotCovered, NotInLedger, find, prove
from gatehouse.ledger.store import capsules as db
from gatehouse.ledger.store import checkpoints
from gatehouse.proxy.parts import part

# Each piece of a stream costs a change of threads.
_PIECE = 65536
# In a process of its own, that verifying does not hold the interpreter that answers calls.
_VERIFY = (sys.executable, "-P", "-c", "from gatehouse.cli import main; main()", "audit", "verify", "--json")
# Calls come first.
_NICENESS = 10

# One at a time.
_VERIFYING = asyncio.Lock()

_NAME = {"min_length": 1, "max_length": 1000, "pattern": r"^[^\x00]+$"}
Chain = Annotated[str, Query(description="The chain; with policy.yaml's chain: team, calls/<team>.", **_NAME)]


Configured = Annotated[Settings, part("settings")]

router = APIRouter(
    prefix="/governance/v1/audit",
    tags=["governance"],
    dependencies=[Depends(auditor)],
    route_class=GovernanceRoute,
)


@router.get("/capsules/{call_id}", summary="The sealed capsule of a call")
def capsule(call_id: UUID, settings: Configured) -> Response:
    with db.reading(settings.database_url) as connection:
        try:
            return _json(export_line(find(connection, call_id).sealed))
        except NotInLedger as error:
            raise NotFound(str(error)) from None


@router.get("/capsules", summary="Sealed capsules of a chain, a page at a time")
def capsules(
    settings: Configured,
    chain: Chain = DEFAULT_CHAIN,
    after: Annotated[int, Query(ge=-1, le=LAST - 1, description="The last sequence you have.")] = -1,
    limit: Annotated[int, Query(ge=1, le=db.BATCH)] = 100,
) -> Response:
    with db.reading(settings.database_url) as connection:
        _check_chain(connection, chain)
        page = list(db.capsules(connection, chain, after + 1, after + limit))
    lines = b",\n".join(export_line(row.sealed) for row in page)
    name = json.dumps(chain, ensure_ascii=False)
    following = json.dumps(page[-1].sealed.sequence if len(page) == limit else None)
    return _json(b'{"chain": %b, "next": %b, "capsules": [\n%b\n]}' % (name.encode(), following.encode(), lines))


@router.get("/export", summary="A whole chain, as a stream")
def export(
    settings: Configured,
    chain: Chain = DEFAULT_CHAIN,
    form: Annotated[ExportFormat, Query(alias="format")] = ExportFormat.JSONL,
    first: Annotated[int, Query(alias="from", ge=0, le=LAST)] = 0,
    last: Annotated[int, Query(alias="to", ge=0, le=LAST)] = LAST,
) -> StreamingResponse:
    def rows() -> Iterator[bytes]:
        with db.reading(settings.database_url) as connection:
            sealed = (stored.sealed for stored in db.capsules(connection, chain, first, last))
            yield from exported(sealed, form)

    with db.reading(settings.database_url) as connection:
        _check_chain(connection, chain)
    kind = "application/json" if form is ExportFormat.JSON else "application/jsonl"
    return StreamingResponse(_pieces(rows()), media_type=kind)


@router.get("/proofs/{call_id}", summary="The proof file of a call")
def proof(call_id: UUID, settings: Configured) -> Response:
    with db.reading(settings.database_url) as connection:
        try:
            return _json(prove(connection, read_keyring(settings.key_dir / KEYRING_NAME), call_id).to_bytes())
        except NotInLedger as error:
            raise NotFound(str(error)) from None
        except NotCovered as error:
            raise Conflict(str(error)) from None


@router.get("/checkpoints/latest", summary="The latest signed checkpoint, for witnesses")
def latest_checkpoint(settings: Configured, chain: Chain = DEFAULT_CHAIN) -> Response:
    with db.reading(settings.database_url) as connection:
        note = checkpoints.latest_checkpoint(connection, chain)
    if note is None:
        raise NotFound(f"chain {chain!r}: it has no checkpoint yet. `gatehouse audit checkpoint` signs one now.")
    return Response(note, media_type="text/plain; charset=utf-8")


@router.get("/keyring", summary="The ledger's public keys")
def keyring(settings: Configured) -> Response:
    return _json(read_keyring(settings.key_dir / KEYRING_NAME).to_json().encode())


@router.get("/verify", summary="Verify the ledger; takes a while")
async def verify(
    settings: Configured,
    chain: Annotated[str | None, Query(description="Only this chain.", **_NAME)] = None,
) -> Response:
    if _VERIFYING.locked():
        raise Conflict("A verification is running. Ask again when it has ended.")
    if chain is not None and not await asyncio.to_thread(knows, settings.database_url, settings.checkpoint_dir, chain):
        raise NotFound(f"chain {chain!r}: the ledger has no such chain.")
    async with _VERIFYING:
        return _json(await _run([*_VERIFY, *([] if chain is None else [f"--chain={chain}"])]))


async def _run(command: list[str]) -> bytes:
    """Return what the command prints, whether it verified or not.

    Raises:
        GovernanceUnavailable: it could not verify.
    """
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        psutil.Process(process.pid).nice(_NICENESS)
        said, error = await process.communicate()
    finally:
        if process.returncode is None:
            process.terminate()
    if process.returncode in (0, 1) and said.startswith(b"{"):
        return said
    reason = error.decode(errors="replace").strip().removeprefix("error: ").splitlines()
    raise GovernanceUnavailable(reason[-1] if reason else "The verification was ended. Ask again.")


def _check_chain(connection: db.Connection, chain: str) -> None:
    if db.head_of(connection, chain) is None:
        raise NotFound(f"chain {chain!r}: the ledger has no such chain.")


def _pieces(lines: Iterable[bytes]) -> Iterator[bytes]:
    held = bytearray()
    for line in lines:
        held += line
        if len(held) >= _PIECE:
            yield bytes(held)
            held.clear()
    yield bytes(held)


def _json(data: bytes) -> Response:
    return Response(data, media_type="application/json")
