"""`gatehouse audit export | show | tail`: the records themselves, for programs and for people."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from enum import StrEnum
from typing import Annotated, Any
from uuid import UUID

import typer

from gatehouse.capsule.canonical import NotCanonical, parse
from gatehouse.capsule.document import DEFAULT_CHAIN
from gatehouse.capsule.export import export_json, export_line
from gatehouse.capsule.keyring import read_keyring
from gatehouse.capsule.keys import KEYRING_NAME
from gatehouse.capsule.seal import BrokenChain, Head, SealedCapsule, verify_next
from gatehouse.cli.audit import ChainOption, OutputOption, audit
from gatehouse.cli.output import printable, write
from gatehouse.cli.where import gateway_settings
from gatehouse.core.errors import SetupError
from gatehouse.core.keys import Purpose
from gatehouse.core.names import hidden, is_plain
from gatehouse.dialects.prompt import commitment, text_of
from gatehouse.ledger.prover import find
from gatehouse.ledger.store import capsules as db
from gatehouse.ledger.store import salts

_POLL_S = 0.5


class Format(StrEnum):
    """Of an export."""

    JSON = "json"
    JSONL = "jsonl"


@audit.command()
def export(
    chain: ChainOption = DEFAULT_CHAIN,
    form: Annotated[Format, typer.Option("--format", help="One JSON array, or one record a line.")] = Format.JSON,
    first: Annotated[int, typer.Option("--from", min=0, help="First sequence.")] = 0,
    last: Annotated[int, typer.Option("--to", min=0, help="Last sequence.")] = db.LAST,
    output: OutputOption = None,
) -> None:
    """Write a chain's records as they were signed, for `gatehouse audit verify --file` and `capsule verify`."""
    with db.reading(gateway_settings().database_url) as connection:
        _check_chain(connection, chain)
        rows = (stored.sealed for stored in db.capsules(connection, chain, first, last))
        write(export_json(rows) if form is Format.JSON else (export_line(row) + b"\n" for row in rows), output)


@audit.command()
def show(
    call_id: Annotated[UUID, typer.Argument(help="As in the response header x-gatehouse-call-id.")],
    as_json: Annotated[bool, typer.Option("--json", help="The sealed capsule as JSON.")] = False,
) -> None:
    """Show what the ledger holds of one call."""
    settings = gateway_settings()
    with db.reading(settings.database_url) as connection:
        stored = find(connection, call_id)
    sealed = stored.sealed
    if as_json:
        write([export_line(sealed), b"\n"], None)
        return
    epoch = None
    try:
        keyring = read_keyring(settings.key_dir / KEYRING_NAME)
        epoch = keyring.find(sealed.signed_by)
        verify_next(sealed, keyring, Head(sealed.sequence - 1, sealed.previous_hash), chain=stored.chain)
        seal = "verifies"
    except SetupError as error:
        seal = f"not checked: {error}"
    except BrokenChain as error:
        seal = f"BROKEN: {error.fault}: {error.detail}"
    facts = {
        "chain": stored.chain,
        "sequence": sealed.sequence,
        "hash": sealed.hash,
        "previous_hash": sealed.previous_hash,
        "signed_by": sealed.signed_by + (f" (epoch {epoch.number})" if epoch else ""),
        "signed_at": sealed.signed_at.isoformat(),
        "seal": seal,
    }
    for line in (*_table({"record": facts}), *_table(_document(sealed))):
        typer.echo(line)


@audit.command()
def prompt(
    call_id: Annotated[UUID, typer.Argument(help="As in the response header x-gatehouse-call-id.")],
    request: Annotated[
        typer.FileText | None, typer.Argument(help="A request's JSON body, to be compared; `-` is standard input.")
    ] = None,
    erase_salt: Annotated[bool, typer.Option("--erase-salt", help="So that nothing can be compared any more.")] = False,
) -> None:
    """Compare a request with the sealed hash of a call's prompt, or show hash and salt. Exit code 1: it is another."""
    database_url = gateway_settings().database_url
    with db.reading(database_url) as connection:
        sealed = (_document(find(connection, call_id).sealed).get("reasoning") or {}).get("prompt_hash")
        salt = salts.salt_of(connection, call_id)
    if erase_salt:
        erased = salts.erase_salt(database_url, call_id)
        typer.echo("erased: the record still verifies" if erased else "there is no salt")
        return
    if sealed is None:
        raise SetupError("prompt: no hash of it was sealed, for the call asked nothing in words.")
    if salt is None:
        raise SetupError("prompt: its salt was erased, or it was sealed before there were any. It cannot be compared.")
    if request is None:
        for line in _table({"prompt_hash": sealed, "salt": salt.hex()}):
            typer.echo(line)
        return
    same = commitment(_asked(request), salt) == sealed
    typer.echo("the same: this is what was asked" if same else "another: this is not what was asked")
    if not same:
        raise typer.Exit(1)


@audit.command("name")
def kept_name(
    name: Annotated[str, typer.Argument(help="What a caller says: an end user, an agent, a session, a tag, a tool.")],
) -> None:
    """Show what stands for a name in records, and in LiteLLM's tables, where it is more than a plain name."""
    if is_plain(name):
        typer.echo(f"{printable(name)}  (a plain name; it is kept as it is unless the scanner finds something in it)")
    for key in gateway_settings().keys.keys(Purpose.RECORDS):
        typer.echo(hidden(name, key))


def _asked(request: typer.FileText) -> str:
    try:
        body = json.load(request)
    except ValueError:
        raise SetupError("request: not JSON. Give the body of the request as it was sent.") from None
    text = text_of(body) if isinstance(body, dict) else None
    if text is None:
        raise SetupError("request: it asks nothing. Give the body of the request, with its messages, input or prompt.")
    return text


@audit.command()
def tail(
    chain: ChainOption = DEFAULT_CHAIN,
    count: Annotated[int, typer.Option("--lines", "-n", min=0, help="How many of the last records.")] = 10,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Show new ones as they come; Ctrl-C ends.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="The sealed capsules, one a line.")] = False,
) -> None:
    """Show the chain's last records, one a line."""
    with db.reading(gateway_settings().database_url) as connection:
        if not follow:
            _check_chain(connection, chain)
        shown = -1
        for row in db.last_capsules(connection, chain, count):
            _print(row.sealed, as_json)
        head = db.head_of(connection, chain)
        shown = head.size - 1 if head else -1
        try:
            while follow:
                connection.rollback()  # what this connection sees is one moment: go on to the next
                time.sleep(_POLL_S)
                for row in db.capsules(connection, chain, shown + 1):
                    _print(row.sealed, as_json)
                    shown = row.sealed.sequence
        except KeyboardInterrupt:
            pass


def _check_chain(connection: db.Connection, chain: str) -> None:
    if db.head_of(connection, chain) is None:
        there = ", ".join(db.chain_names(connection)) or "none yet"
        raise SetupError(f"chain {chain!r}: the ledger has no such chain. It has: {there}.")


def _print(sealed: SealedCapsule, as_json: bool) -> None:
    if as_json:
        write([export_line(sealed), b"\n"], None)
        return
    document = _document(sealed)
    try:
        words: list[Any] = [
            document["outcome"]["status"],
            document["reasoning"]["model"] or "-",
            document["trigger"]["source"],
            document["reasoning"]["selected_option"] or "-",
        ]
    except (KeyError, TypeError):
        words = ["not a capsule: `gatehouse audit verify` says what is wrong"]
    at = sealed.signed_at.isoformat(timespec="seconds")
    typer.echo("  ".join([at, str(sealed.sequence), sealed.id, *(printable(word) for word in words)]))


def _document(sealed: SealedCapsule) -> dict[str, Any]:
    try:
        return parse(sealed.canonical)
    except NotCanonical:
        return {"canonical": sealed.canonical.decode("utf-8", "backslashreplace")}


def _table(document: dict[str, Any], indent: int = 0) -> Iterator[str]:
    """Names and values, what is empty left out; sections indented below their names."""
    width = max((len(name) for name, value in document.items() if not isinstance(value, dict)), default=0)
    for name, value in sorted(document.items(), key=lambda pair: isinstance(pair[1], dict)):
        if value in (None, "", [], {}):
            continue
        label = printable(name)
        if isinstance(value, dict):
            yield f"{' ' * indent}{label}"
            yield from _table(value, indent + 2)
        else:
            text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            yield f"{' ' * indent}{label:<{width}}  {printable(text)}"
