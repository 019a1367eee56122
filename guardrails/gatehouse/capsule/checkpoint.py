"""Signed checkpoints of a chain's Merkle tree, as c2sp.org/signed-note and c2sp.org/tlog-checkpoint write them.

Promises: the bytes are what other transparency-log tools read and write; what is malformed is refused, never mended;
nothing of a note is returned before a trusted key's signature over it has been verified.
The note text has newlines and a capsule's signature covers 64 hex characters, so one key can safely sign both.
"""

from __future__ import annotations

import re
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from typing import Final
from urllib.parse import quote

from nacl.exceptions import BadSignatureError
from nacl.signing import VerifyKey

from gatehouse.capsule.merkle import HASH_SIZE

# The signed-note specification asks for a limit, and for room for 16 signatures of nearly 5 kB.
MAX_NOTE_BYTES = 1_000_000
ED25519: Final = b"\x01"

_SIGNATURE_PREFIX = "\N{EM DASH} "
_KEY_ID = re.compile(r"[0-9a-f]{8}")
_SIZE = re.compile(r"0|[1-9][0-9]{0,18}")
_CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f]")


class InvalidNote(ValueError):
    """A note, checkpoint or verifier key that cannot be trusted; the message is one clause that says why."""


@dataclass(frozen=True, slots=True)
class Verifier:
    """A public key that is trusted to sign notes under a name.

    Attributes:
        name: the key's name; for a log it is the log's origin.
        public_key: 32 bytes, Ed25519.
    """

    name: str
    public_key: bytes

    def __post_init__(self) -> None:
        _check_name(self.name)
        if len(self.public_key) != 32:
            raise InvalidNote(f"the public key of {self.name} is not 32 bytes long")

    @property
    def key_id(self) -> bytes:
        """Four bytes that tell the keys of one name apart."""
        return sha256(self.name.encode() + b"\n" + ED25519 + self.public_key).digest()[:4]

    def __str__(self) -> str:
        """The verifier key, `<name>+<hex key id>+<base64>`, as golang.org/x/mod/sumdb/note defines it."""
        return f"{self.name}+{self.key_id.hex()}+{b64encode(ED25519 + self.public_key).decode()}"

    @classmethod
    def parse(cls, text: str) -> Verifier:
        """The inverse of `str`.

        Raises:
            InvalidNote: the text is not the verifier key of an Ed25519 key.
        """
        name, _, rest = text.partition("+")
        key_id, _, encoded = rest.partition("+")
        if not _KEY_ID.fullmatch(key_id):
            raise InvalidNote("the verifier key does not have the form <name>+<hex key id>+<base64>")
        key = decode_base64(encoded)
        if key[:1] != ED25519:
            raise InvalidNote(f"the verifier key of {name!r} is not of type Ed25519")
        verifier = cls(name, key[1:])
        if verifier.key_id.hex() != key_id:
            raise InvalidNote(f"the verifier key of {name!r} does not have the key id {key_id}")
        return verifier


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A tree at one size.

    Attributes:
        origin: names the log.
        size: leaves in the tree.
        root: 32 bytes.
        extensions: further lines, without meaning to us; our own checkpoints have none.
    """

    origin: str
    size: int
    root: bytes
    extensions: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        lines = (self.origin, *self.extensions)
        if not all(lines) or any("\n" in line or _CONTROL.search(line) for line in lines):
            raise InvalidNote("a line of the checkpoint is empty or holds a control character")
        if not 0 <= self.size < 1 << 63:
            raise InvalidNote("the checkpoint's tree size is not a number from 0 to 2^63 - 1")
        if len(self.root) != HASH_SIZE:
            raise InvalidNote("the checkpoint's root hash is not 32 bytes long")

    def text(self) -> str:
        """The note text that is signed."""
        return "\n".join((self.origin, str(self.size), b64encode(self.root).decode(), *self.extensions, ""))

    @classmethod
    def parse(cls, text: str) -> Checkpoint:
        """The inverse of `text`.

        Raises:
            InvalidNote: the text is not that of a checkpoint.
        """
        lines = text.split("\n")
        if len(lines) < 4 or lines.pop():
            raise InvalidNote("the checkpoint has fewer than three whole lines")
        origin, size, root, *extensions = lines
        if not _SIZE.fullmatch(size):
            raise InvalidNote("the checkpoint's tree size is not a decimal number without leading zeros")
        return cls(origin, int(size), decode_base64(root), tuple(extensions))


def origin_of(chain: str) -> str:
    """The origin of a chain's checkpoints: what a key's name cannot hold is percent-encoded, no two chains share it."""
    return "gatehouse/" + quote(chain, safe="")


def sign_note(text: str, verifier: Verifier, sign: Callable[[bytes], bytes]) -> bytes:
    """The text as a note with one signature.

    Args:
        text: ends in a newline.
        verifier: the public half of the key that signs.
        sign: returns the 64 bytes of an Ed25519 signature.

    Raises:
        InvalidNote: the text cannot be a note's, or `sign` does not use the key of `verifier`.
    """
    if not text.endswith("\n"):
        raise InvalidNote("the text of a note does not end in a newline")
    signature = sign(text.encode())
    line = b64encode(verifier.key_id + signature).decode()
    note = f"{text}\n{_SIGNATURE_PREFIX}{verifier.name} {line}\n".encode()
    open_note(note, [verifier])  # a key mixed up in a rotation is found here, not by an auditor
    return note


def open_note(note: bytes, verifiers: Iterable[Verifier]) -> tuple[str, tuple[Verifier, ...]]:
    """A note's text, and who of the verifiers signed it: at least one.

    Signatures of unknown keys are ignored, as the specification demands: they may be a witness's.

    Raises:
        InvalidNote: the note is malformed, no verifier signed it, or a verifier's signature is wrong or there twice.
    """
    known: dict[tuple[str, bytes], Verifier] = {}
    for verifier in verifiers:
        if known.setdefault((verifier.name, verifier.key_id), verifier) != verifier:
            raise InvalidNote(f"two trusted keys of {verifier.name} have the key id {verifier.key_id.hex()}")
    text, signatures = _parse_note(note)
    signers: list[Verifier] = []
    for name, key_id, signature in signatures:
        signer = known.get((name, key_id))
        if signer is None:
            continue
        if signer in signers:
            raise InvalidNote(f"the note has two signatures of key {name}+{key_id.hex()}")
        if not is_signature(signature, text.encode(), signer.public_key):
            raise InvalidNote(f"the note's signature of key {name}+{key_id.hex()} is wrong")
        signers.append(signer)
    if not signers:
        raise InvalidNote("the note has no signature of a trusted key")
    return text, tuple(signers)


def sign_checkpoint(checkpoint: Checkpoint, public_key: bytes, sign: Callable[[bytes], bytes]) -> bytes:
    """The checkpoint as a note, signed under the name of its origin.

    The caller makes sure that it is consistent with every checkpoint signed before.

    Raises:
        InvalidNote: the origin cannot be a key's name, or `sign` does not use the key.
    """
    return sign_note(checkpoint.text(), Verifier(checkpoint.origin, public_key), sign)


def open_checkpoint(note: bytes, verifiers: Iterable[Verifier]) -> Checkpoint:
    """The checkpoint in a note that the log's own key signed: a verifier whose name is the checkpoint's origin.

    Raises:
        InvalidNote: it is not a note, not a checkpoint, or not signed by its log.
    """
    text, signers = open_note(note, verifiers)
    checkpoint = Checkpoint.parse(text)
    if all(signer.name != checkpoint.origin for signer in signers):
        raise InvalidNote(f"the checkpoint of {checkpoint.origin!r} is signed by {signers[0].name} instead")
    return checkpoint


def is_signature(signature: bytes, message: bytes, public_key: bytes) -> bool:
    """Whether the Ed25519 key made the signature over the message."""
    try:
        VerifyKey(public_key).verify(message, signature)
    except (BadSignatureError, ValueError, TypeError):
        return False
    return True


def decode_base64(text: str) -> bytes:
    """Standard base64 (RFC 4648 section 4) in its one canonical form.

    Raises:
        InvalidNote: it is something else, or nothing.
    """
    with suppress(ValueError):
        data = b64decode(text)
        if data and b64encode(data).decode() == text:
            return data
    raise InvalidNote(f"{text[:40]!r} is not canonical base64")


def _parse_note(note: bytes) -> tuple[str, list[tuple[str, bytes, bytes]]]:
    """The text and its signatures, as (key name, key id, signature); nothing is verified yet."""
    if len(note) > MAX_NOTE_BYTES:
        raise InvalidNote(f"the note is longer than {MAX_NOTE_BYTES} bytes")
    try:
        content = note.decode()
    except UnicodeDecodeError:
        raise InvalidNote("the note is not UTF-8") from None
    if _CONTROL.search(content):
        raise InvalidNote("the note holds a control character")
    text, blank_line, lines = content.rpartition("\n\n")
    if not blank_line or not lines.endswith("\n"):
        raise InvalidNote("the note does not end in an empty line and whole signature lines")
    return text + "\n", [_parse_signature(line) for line in lines[:-1].split("\n")]


def _parse_signature(line: str) -> tuple[str, bytes, bytes]:
    name, space, encoded = line.removeprefix(_SIGNATURE_PREFIX).partition(" ")
    if not line.startswith(_SIGNATURE_PREFIX) or not space:
        raise InvalidNote("a signature line of the note does not have the form \N{EM DASH} <key name> <base64>")
    _check_name(name)
    signature = decode_base64(encoded)
    if len(signature) < 5:
        raise InvalidNote(f"the note's signature of {name!r} is shorter than 5 bytes")
    return name, signature[:4], signature[4:]


def _check_name(name: str) -> None:
    if not name or "+" in name or any(character.isspace() or character < " " for character in name):
        raise InvalidNote(f"the key name {name!r} is empty or holds a space, a plus or a control character")
