"""Chains as JSON files: what `capsule verify` of qp-capsule accepts, written and read in constant memory.

The signed bytes go into the file as they are, one record a line, so that an auditor's hash is over the same characters.
"""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterable, Iterator
from datetime import datetime
from enum import StrEnum
from typing import Any, BinaryIO, Final

from gatehouse.capsule.canonical import NotCanonical, encode
from gatehouse.capsule.seal import BrokenChain, Fault, SealedCapsule
from gatehouse.core.strict_json import unique

# Section 3.4: beside the content, outside the hash.
_SEAL_FIELDS: Final = ("hash", "signature", "signature_pq", "signed_at", "signed_by")
_CHUNK: Final = 65536
# A record holds names and numbers, at most one prompt and one answer. More is an attempt to fill the memory.
_LONGEST_RECORD: Final = 64 * 1024 * 1024


class ExportFormat(StrEnum):
    """Name the formats of an export: one JSON array, or one record a line."""

    JSON = "json"
    JSONL = "jsonl"


def exported(rows: Iterable[SealedCapsule], form: ExportFormat) -> Iterator[bytes]:
    """Return sealed capsules in a format, in pieces."""
    return export_json(rows) if form is ExportFormat.JSON else (export_line(row) + b"\n" for row in rows)


def export_json(rows: Iterable[SealedCapsule]) -> Iterator[bytes]:
    """A JSON array of sealed capsules, in pieces."""
    before = b"[\n"
    for row in rows:
        yield before + export_line(row)
        before = b",\n"
    yield b"[]\n" if before == b"[\n" else b"\n]\n"


def export_line(row: SealedCapsule) -> bytes:
    """One sealed capsule as a JSON object on one line, without the line's end."""
    seal = {
        "hash": row.hash,
        "signature": row.signature,
        "signature_pq": "",
        "signed_at": row.signed_at.isoformat(),
        "signed_by": row.signed_by,
    }
    return row.canonical[:-1] + b"," + encode(seal)[1:]


def read_json(file: BinaryIO) -> Iterator[SealedCapsule]:
    """Sealed capsules from a JSON array, from JSON lines or from a single object, of ours or of qp-capsule.

    Raises:
        BrokenChain: MALFORMED, at the first record that cannot be read.
    """
    for number, document in enumerate(_objects(file)):
        yield _row(document, number)


def _row(document: Any, number: int) -> SealedCapsule:
    try:
        seal = {name: document.pop(name) for name in _SEAL_FIELDS if name in document}
        if seal.get("signature_pq"):
            raise NotCanonical("it carries a post-quantum signature, which cannot be checked here")
        texts = (document["id"], seal["hash"], seal["signature"], seal["signed_by"], seal["signed_at"])
        signed_at = datetime.fromisoformat(seal["signed_at"])
        if not all(type(text) is str for text in texts) or signed_at.isoformat() != seal["signed_at"]:
            raise NotCanonical("a field of its seal is not written as it should be")
        return SealedCapsule(
            id=document["id"],
            sequence=document["sequence"],
            previous_hash=document["previous_hash"],
            canonical=encode(document),
            hash=seal["hash"],
            signature=seal["signature"],
            signed_by=seal["signed_by"],
            signed_at=signed_at,
        )
    except KeyError as error:
        raise BrokenChain(Fault.MALFORMED, number, None, f"{error.args[0]} is missing") from None
    except (ValueError, TypeError, AttributeError) as error:
        raise BrokenChain(Fault.MALFORMED, number, None, str(error)) from None


def _objects(file: BinaryIO) -> Iterator[Any]:
    """Each object in the file. A key that is there twice is refused: two readers could see two records in it."""
    decoder = json.JSONDecoder(object_pairs_hook=unique)
    text, number, is_array, closed = _Window(file), 0, False, False
    if text.skip_space() == "[":
        is_array = True
        text.drop(1)
    while (character := text.skip_space()) and not closed:
        if is_array and (character == "]" or (number and character == ",")):
            text.drop(1)
            closed = character == "]"
            continue
        try:
            if character != "{":
                raise NotCanonical(f"{character!r} where a record should begin")
            document = text.decode(decoder)
        except (ValueError, RecursionError) as error:
            raise BrokenChain(Fault.MALFORMED, number, None, str(error)) from None
        yield document
        number += 1
    if closed != is_array or text.skip_space() or not (number or is_array):
        raise BrokenChain(Fault.MALFORMED, number, None, "the file does not end where its records do")


class _Window:
    """The part of a file's text that is being looked at."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        # What is not UTF-8 becomes a lone surrogate, which no record may hold.
        self._utf8 = codecs.getincrementaldecoder("utf-8")("surrogateescape")
        self._text = ""
        self._at = 0

    def skip_space(self) -> str:
        """The next character that is not white space; empty at the end."""
        while True:
            while self._at < len(self._text) and self._text[self._at] in " \t\r\n":
                self._at += 1
            if self._at < len(self._text) or not self._more(_CHUNK):
                return self._text[self._at : self._at + 1]

    def drop(self, count: int) -> None:
        self._at += count

    def decode(self, decoder: json.JSONDecoder) -> Any:
        """The JSON value that begins here; reads on, twice as much each time, until it is whole."""
        while True:
            try:
                value, self._at = decoder.raw_decode(self._text, self._at)
                return value
            except json.JSONDecodeError:
                held = len(self._text) - self._at
                if held > _LONGEST_RECORD or not self._more(max(_CHUNK, held)):
                    raise

    def _more(self, size: int) -> bool:
        data = self._file.read(size)
        self._text = self._text[self._at :] + self._utf8.decode(data, final=not data)
        self._at = 0
        return bool(data)
