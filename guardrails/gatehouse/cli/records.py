"""`gatehouse audit export | show | tail`: shows the records themselves, to programs and to people."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Annotated, Any
from uuid import UUID

import typer

from gatehouse.capsule.canonical import NotCanonical, parse
from gatehouse.capsule.document import DEFAULT_CHAIN
from gatehouse.capsule.export import ExportFormat, export_line, exported
from gatehouse.capsule.keyring import read_keyring
from gatehouse.capsule.keys import KEYRING_NAME
from gatehouse.capsule.seal import BrokenChain, Head, SealedCapsule, verify_next
from gatehouse.capsule.stored import LAST
from gatehouse.cli.audit import ChainOption, OutputOption, audit
from gatehouse.cli.output import write
from gatehouse.cli.where import gateway_settings
from gatehouse.core.errors import SetupError
from gatehouse.core.keys import Purpose
from gatehouse.core.names import hidden, is_plain
from gatehouse.core.text import printable
from gatehouse.dialects.prompt import commitment, text_of
from gatehouse.ledger.prover import find
from gatehouse.ledger.store import capsules as db
from gatehouse.ledger.store import salts

_POLL_S = 0.5


@audit.command()
def export(
    chain: ChainOption = DEFAULT_CHAIN,
    form: Annotated[
        ExportFormat, typer.Option("--format", help="One JSON array, or one record a line.")
    ] = ExportFormat.JSON,
    first: Annotated[int, typer.Option("--from", min=0, help="First sequence.")] = 0,
    last: Annotated[int, typer.Option("--to", min=0, help="Last sequence.")] = LAST,
    output: OutputOption = None,
) -> None:
    """Write a chain's records as they were signed, for `gatehouse audit verify --file` and `capsule verify`."""
    with db.reading(gateway_settings().database_url) as connection:
        _check_chain(connection, chain)
        rows = (stored.sealed for stored in db.capsules(connection, chain, first, last))
        write(exported(rows, form), output)


@audit.command()
def show(
    call_id: Annotated[UUID, typer.Argument(help="The response header x-gatehouse-call-id.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print the sealed capsule as JSON.")] = False,
) -> None:
    """Show the ledger's record of one call."""
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
    call_id: Annotated[UUID, typer.Argument(help="The response header x-gatehouse-call-id.")],
    request: Annotated[
        typer.FileText | None, typer.Argument(help="A request's JSON body to compare; `-` is standard input.")
    ] = None,
    erase_salt: Annotated[bool, typer.Option("--erase-salt", help="Erase the salt; comparing ends.")] = False,
) -> None:
    """Compare a request with the sealed hash of a call's prompt, or show hash and salt. Exit code 1: they differ."""
    database_url = gateway_settings().database_url
    with db.reading(database_url) as connection:
        sealed = (_document(find(connection, call_id).sealed).get("reasoning") or {}).get("prompt_hash")
        salt = salts.salt_of(connection, call_id)
    if erase_salt:
        erased = salts.erase_salt(database_url, call_id)
        typer.echo("the salt is erased; the record still verifies" if erased else "there is no salt")
        return
    if sealed is None:
        raise SetupError("prompt: the call had no text, so its record holds no hash of one. It cannot be compared.")
    if salt is None:
        raise SetupError("prompt: its salt was erased, or its record is older than salts. It cannot be compared.")
    if request is None:
        for line in _table({"prompt_hash": sealed, "salt": salt.hex()}):
            typer.echo(line)
        return
    same = commitment(_prompt_of(request), salt) == sealed
    typer.echo("the same: the call had this prompt" if same else "another: the call had a different prompt")
    if not same:
        raise typer.Exit(1)


@audit.command("name")
def recorded_name(
    name: Annotated[str, typer.Argument(help="A caller's name for an end user, an agent, a session, a tag or a tool.")],
) -> None:
    """Show the hash that replaces a name in records and in LiteLLM's tables, unless it is a plain name."""
    if is_plain(name):
        typer.echo(f"{printable(name)}  (a plain name; records show it unless the scanner finds personal data in it)")
    for key in gateway_settings().keys.keys(Purpose.RECORDS):
        typer.echo(hidden(name, key))


def _prompt_of(request: typer.FileText) -> str:
    try:
        body = json.load(request)
    except ValueError:
        raise SetupError("request: not JSON. Give the body of the request as it was sent.") from None
    text = text_of(body) if isinstance(body, dict) else None
    if text is None:
        raise SetupError("request: it holds no prompt. Give the request's body, with its messages, input or prompt.")
    return text


@audit.command()
def tail(
    chain: ChainOption = DEFAULT_CHAIN,
    count: Annotated[int, typer.Option("--lines", "-n", min=0, help="How many of the last records to show.")] = 10,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Show new records as they come; Ctrl-C ends.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the sealed capsules, one per line.")] = False,
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
                connection.rollback()  # a transaction sees one moment: begin the next one
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
        words = ["not a capsule; run `gatehouse audit verify` for the reason"]
    at = sealed.signed_at.isoformat(timespec="seconds")
    typer.echo("  ".join([at, str(sealed.sequence), sealed.id, *(printable(word) for word in words)]))


def _document(sealed: SealedCapsule) -> dict[str, Any]:
    try:
        return parse(sealed.canonical)
    except NotCanonical:
        return {"canonical": sealed.canonical.decode("utf-8", "backslashreplace")}


def _table(document: dict[str, Any], indent: int = 0) -> Iterator[str]:
    """Yield names and values, without empty ones; sections are indented below their names."""
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
