"""The proof file of one capsule: everything that somebody without access to the ledger needs, but the public keys.

It shows that these bytes are the capsule at this place of its chain, that the ledger's key signed them, and that the
tree of a signed checkpoint holds them. Promises: nothing in the file is trusted, and every failure is named.
"""

from __future__ import annotations

import json
import re
from base64 import b64encode
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from hashlib import sha3_256
from typing import Any, Final

from gatehouse.capsule import canonical
from gatehouse.capsule.checkpoint import InvalidNote, Verifier, decode_base64, is_signature, open_checkpoint, origin_of
from gatehouse.capsule.keyring import fingerprint
from gatehouse.capsule.merkle import InvalidProof, verify_inclusion
from gatehouse.core.strict_json import RepeatedName, unique

FORMAT: Final = "gatehouse-capsule-proof-v1"

_HASH = re.compile(r"[0-9a-f]{64}")
_SIGNATURE = re.compile(r"[0-9a-f]{128}")
_KINDS: Final = {str: "a string", int: "an integer", list: "a list", dict: "an object"}


class Part(StrEnum):
    """Name where in a proof something is wrong."""

    FILE = "proof file"
    CAPSULE = "capsule"
    SIGNATURE = "capsule's signature"
    CHECKPOINT = "checkpoint"
    INCLUSION = "inclusion proof"


@dataclass(frozen=True, slots=True)
class Flaw:
    """Report the first thing that is wrong with a proof. As text it is one sentence."""

    part: Part
    reason: str

    def __str__(self) -> str:
        return f"{self.part}: {self.reason}"


class InvalidProofFile(ValueError):
    """The bytes are not a proof file; the message is one clause that says why."""


@dataclass(frozen=True, slots=True)
class CapsuleProof:
    """What a proof file says; nothing of it is verified yet.

    Attributes:
        canonical: the capsule's bytes, as they were hashed.
        hash: SHA3-256 of them, 64 lower-case hex characters; as 32 bytes it is the tree's leaf.
        signature: Ed25519 over the characters of `hash`, 128 lower-case hex characters.
        signed_by: fingerprint of the key that signed.
        index: the leaf's place in the tree, which is the capsule's sequence.
        path: the inclusion proof, 32 bytes each.
        checkpoint: a signed note, over a tree that holds the leaf.
    """

    canonical: bytes
    hash: str
    signature: str
    signed_by: str
    index: int
    path: tuple[bytes, ...]
    checkpoint: bytes

    def to_bytes(self) -> bytes:
        """The proof file, JSON in UTF-8."""
        document = {
            "format": FORMAT,
            "capsule": {
                "canonical": b64encode(self.canonical).decode(),
                "hash": self.hash,
                "signature": self.signature,
                "signed_by": self.signed_by,
            },
            "inclusion": {"index": self.index, "hashes": [value.hex() for value in self.path]},
            "checkpoint": self.checkpoint.decode(),
        }
        return json.dumps(document, indent=2, ensure_ascii=False).encode() + b"\n"

    @classmethod
    def parse(cls, data: bytes) -> CapsuleProof:
        """The inverse of `to_bytes`; only white space and the order of keys may differ.

        Raises:
            InvalidProofFile: a field is missing, unknown, there twice or not written as it should be.
        """
        try:
            document = json.loads(data.decode(), object_pairs_hook=unique)
            text = _fields(document, "the file", format=str, capsule=dict, inclusion=dict, checkpoint=str)
            if text["format"] != FORMAT:
                raise InvalidProofFile(f"its format is not {FORMAT}")
            capsule = _fields(text["capsule"], "capsule", canonical=str, hash=str, signature=str, signed_by=str)
            inclusion = _fields(text["inclusion"], "inclusion", index=int, hashes=list)
            return cls(
                canonical=decode_base64(capsule["canonical"]),
                hash=_hex(_HASH, capsule["hash"], "capsule.hash"),
                signature=_hex(_SIGNATURE, capsule["signature"], "capsule.signature"),
                signed_by=_hex(_HASH, capsule["signed_by"], "capsule.signed_by"),
                index=inclusion["index"],
                path=tuple(bytes.fromhex(_hex(_HASH, value, "inclusion.hashes")) for value in inclusion["hashes"]),
                checkpoint=text["checkpoint"].encode(),
            )
        except InvalidProofFile:
            raise
        except RepeatedName as error:
            raise InvalidProofFile(str(error)) from None
        except InvalidNote as error:
            raise InvalidProofFile(f"capsule.canonical: {error}") from None
        except (ValueError, RecursionError):
            raise InvalidProofFile("it is not JSON in UTF-8") from None


def check_proof(data: bytes, verifiers: Iterable[Verifier]) -> Flaw | None:
    """Whether a proof file proves its capsule to somebody who trusts these keys; None when it does.

    Keys of other names count for nothing, so a witness's or another chain's key can be among them. Which key was to
    sign at which sequence is the keyring's knowledge and not checked here.

    Args:
        data: the file.
        verifiers: public keys of the ledger, under the name of the chain's origin; after a rotation all of them.
    """
    try:
        proof = CapsuleProof.parse(data)
    except InvalidProofFile as error:
        return Flaw(Part.FILE, str(error))
    if sha3_256(proof.canonical).hexdigest() != proof.hash:
        return Flaw(Part.CAPSULE, "its bytes do not have the hash that stands beside them")
    try:
        document = canonical.parse(proof.canonical)
    except canonical.NotCanonical as error:
        return Flaw(Part.CAPSULE, str(error))
    if document["sequence"] != proof.index:
        return Flaw(Part.INCLUSION, f"it is for leaf {proof.index}, the capsule has sequence {document['sequence']}")
    origin = origin_of(document["domain"])
    keys = [verifier for verifier in verifiers if verifier.name == origin]
    return _check_signature(proof, origin, keys) or _check_inclusion(proof, origin, keys)


def _check_signature(proof: CapsuleProof, origin: str, keys: list[Verifier]) -> Flaw | None:
    signer = next((key for key in keys if fingerprint(key.public_key) == proof.signed_by), None)
    if signer is None:
        return Flaw(Part.SIGNATURE, f"it is by key {proof.signed_by}, which is not among the given keys of {origin}")
    if not is_signature(bytes.fromhex(proof.signature), proof.hash.encode(), signer.public_key):
        return Flaw(Part.SIGNATURE, f"key {proof.signed_by} did not sign this hash")
    return None


def _check_inclusion(proof: CapsuleProof, origin: str, keys: list[Verifier]) -> Flaw | None:
    try:
        checkpoint = open_checkpoint(proof.checkpoint, keys)
        verify_inclusion(bytes.fromhex(proof.hash), proof.index, checkpoint.size, proof.path, checkpoint.root)
    except InvalidNote as error:
        return Flaw(Part.CHECKPOINT, str(error))
    except InvalidProof as error:
        return Flaw(Part.INCLUSION, str(error))
    return None


def _fields(document: Any, name: str, **types: type) -> dict[str, Any]:
    if type(document) is not dict or document.keys() != types.keys():
        raise InvalidProofFile(f"{name} is not an object with {', '.join(types)} and nothing else")
    for key, kind in types.items():
        if type(document[key]) is not kind:  # a bool is an int to isinstance
            raise InvalidProofFile(f"{key} of {name} is not {_KINDS[kind]}")
    return document


def _hex(pattern: re.Pattern[str], value: Any, name: str) -> str:
    if type(value) is not str or not pattern.fullmatch(value):
        raise InvalidProofFile(f"{name} is not written in lower-case hex, or not of the right length")
    return value
