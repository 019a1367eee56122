"""A proof file convinces whoever holds the public key, and only of what is true."""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from dataclasses import replace
from hashlib import sha3_256
from typing import Any

import pytest
from gatehouse.capsule.canonical import canonical, encode
from gatehouse.capsule.checkpoint import Checkpoint, Verifier, sign_checkpoint
from gatehouse.capsule.merkle import Frontier, inclusion_proof
from gatehouse.capsule.proof import CapsuleProof, Flaw, InvalidProofFile, Part, check_proof
from hypothesis import given, settings
from hypothesis import strategies as st
from nacl.signing import SigningKey

SIZE = 21
OLD_KEY, KEY, STRANGER = (SigningKey(bytes([number]) * 32) for number in (1, 2, 3))


def named(key: SigningKey, chain: str = "default") -> Verifier:
    return Verifier(f"gatehouse/{chain}", bytes(key.verify_key))


LEDGER = [named(OLD_KEY), named(KEY)]


def capsule(sequence: int, domain: str = "default") -> dict[str, Any]:
    return {
        "id": f"01990000-0000-7000-8000-{sequence:012x}",
        "type": "chat",
        "domain": domain,
        "parent_id": None,
        "sequence": sequence,
        "previous_hash": "0" * 64 if sequence else None,
        "spec_version": "1.0",
        "trigger": {
            "type": "user_request",
            "source": "key",
            "timestamp": "2026-01-02T03:04:05+00:00",
            "request": "",
            "correlation_id": None,
            "user_id": None,
        },
        "context": {"agent_id": "agent", "session_id": None, "environment": {}},
        "reasoning": {
            "analysis": "",
            "options": [],
            "options_considered": [],
            "selected_option": "",
            "reasoning": "",
            "confidence": 1.0,
            "model": "gpt-4o",
            "prompt_hash": None,
        },
        "authority": {
            "type": "policy",
            "approver": None,
            "policy_reference": None,
            "chain": [],
            "escalation_reason": None,
        },
        "execution": {"tool_calls": [], "duration_ms": 812, "resources_used": {}},
        "outcome": {
            "status": "success",
            "result": None,
            "summary": "",
            "error": None,
            "side_effects": [],
            "metrics": {},
        },
    }


def digest(data: bytes) -> bytes:
    return sha3_256(data).digest()


CAPSULES = [canonical(capsule(sequence)) for sequence in range(SIZE)]
FRONTIER, STORE = Frontier().append(digest(data) for data in CAPSULES)


def note(
    size: int = SIZE, root: bytes = FRONTIER.root(), key: SigningKey = KEY, origin: str = "gatehouse/default"
) -> bytes:
    checkpoint = Checkpoint(origin, size, root)
    return sign_checkpoint(checkpoint, bytes(key.verify_key), lambda message: key.sign(message).signature)


def sealed(proof: CapsuleProof, data: bytes, key: SigningKey) -> CapsuleProof:
    """Return the proof with another capsule in it, hashed and signed correctly."""
    value = digest(data).hex()
    return replace(
        proof,
        canonical=data,
        hash=value,
        signature=key.sign(value.encode()).signature.hex(),
        signed_by=sha3_256(bytes(key.verify_key)).hexdigest(),
    )


def prove(sequence: int, key: SigningKey = OLD_KEY) -> CapsuleProof:
    path = tuple(inclusion_proof(sequence, SIZE, STORE))
    return sealed(CapsuleProof(b"", "", "", "", sequence, path, note()), CAPSULES[sequence], key)


PROOF = prove(13)
FILE = PROOF.to_bytes()


def found(proof: CapsuleProof | bytes, verifiers: list[Verifier] = LEDGER) -> tuple[Part, str]:
    finding = check_proof(proof if isinstance(proof, bytes) else proof.to_bytes(), verifiers)
    assert isinstance(finding, Flaw)
    assert str(finding) == f"{finding.part}: {finding.reason}"
    assert "\n" not in str(finding)
    return finding.part, finding.reason


@pytest.mark.parametrize("sequence", range(SIZE))
def test_every_capsule_of_a_tree_has_a_proof(sequence: int) -> None:
    data = prove(sequence).to_bytes()
    assert check_proof(data, LEDGER) is None
    assert CapsuleProof.parse(data) == prove(sequence)


def test_public_keys_are_all_it_needs() -> None:
    assert check_proof(FILE, [Verifier.parse(str(verifier)) for verifier in LEDGER]) is None


def test_the_file_is_json_that_shows_the_capsule_and_the_note_as_they_are() -> None:
    document = json.loads(FILE)
    assert b64decode(document["capsule"]["canonical"]) == CAPSULES[13]
    assert document["capsule"]["hash"] == digest(CAPSULES[13]).hex()
    assert document["checkpoint"].encode() == note()
    assert document["inclusion"]["index"] == 13
    compact = json.dumps(document, sort_keys=True).encode()
    assert check_proof(compact, LEDGER) is None


def test_a_key_that_is_not_given_convinces_nobody() -> None:
    for verifiers in ([], [named(STRANGER)], [named(KEY)], [named(OLD_KEY, "other"), named(KEY, "other")]):
        part, reason = found(PROOF, verifiers)
        assert part is Part.SIGNATURE
        assert "is not among the given keys of gatehouse/default" in reason
    assert found(PROOF, [named(OLD_KEY)]) == (Part.CHECKPOINT, "the note has no signature of a trusted key")


def test_a_witness_among_the_keys_cannot_sign_for_the_ledger() -> None:
    witness = Verifier("witness.example", bytes(STRANGER.verify_key))
    verifiers = [*LEDGER, witness]
    assert check_proof(FILE, verifiers) is None
    assert found(sealed(PROOF, CAPSULES[13], STRANGER), verifiers)[0] is Part.SIGNATURE
    assert found(replace(PROOF, checkpoint=note(key=STRANGER)), verifiers)[0] is Part.CHECKPOINT


def test_a_capsule_that_was_changed_is_found() -> None:
    document = capsule(13)
    document["reasoning"]["model"] = "gpt-4o-mini"
    forged = canonical(document)
    assert found(replace(PROOF, canonical=forged)) == (
        Part.CAPSULE,
        "its bytes do not have the hash that stands beside them",
    )
    assert found(replace(PROOF, canonical=forged, hash=digest(forged).hex())) == (
        Part.SIGNATURE,
        f"key {PROOF.signed_by} did not sign this hash",
    )
    assert found(sealed(PROOF, forged, STRANGER))[0] is Part.SIGNATURE
    # Even the ledger's own key cannot put a capsule into a tree that is signed already.
    part, reason = found(sealed(PROOF, forged, OLD_KEY))
    assert part is Part.INCLUSION
    assert reason.startswith("the path of leaf 13 leads to root ")


def test_bytes_that_are_no_capsule_are_found_though_signed() -> None:
    for data in (b"{}", b"[]", b"\xff", CAPSULES[13] + b" ", encode({**capsule(13), "sequence": "13"})):
        assert found(sealed(PROOF, data, OLD_KEY))[0] is Part.CAPSULE


def test_another_capsules_path_is_found() -> None:
    part, reason = found(replace(prove(12), index=13))
    assert (part, reason) == (Part.INCLUSION, "it is for leaf 13, the capsule has sequence 12")
    assert found(replace(PROOF, path=prove(12).path))[0] is Part.INCLUSION
    assert found(replace(PROOF, path=PROOF.path[:-1]))[0] is Part.INCLUSION
    assert found(replace(PROOF, path=(*PROOF.path, bytes(32))))[0] is Part.INCLUSION


def test_another_chains_tree_proves_nothing() -> None:
    both = [*LEDGER, named(OLD_KEY, "other"), named(KEY, "other")]
    foreign = replace(PROOF, checkpoint=note(origin="gatehouse/other"))
    assert found(foreign, both)[0] is Part.CHECKPOINT
    assert found(sealed(PROOF, canonical(capsule(13, "other")), OLD_KEY), both)[0] is Part.CHECKPOINT


def test_a_checkpoint_that_does_not_hold_the_capsule_is_found() -> None:
    smaller = Frontier.load(13, STORE)
    assert found(replace(PROOF, checkpoint=note(13, smaller.root()))) == (
        Part.INCLUSION,
        "a tree of 13 leaves has no leaf 13",
    )
    assert found(replace(PROOF, checkpoint=note(root=bytes(32))))[0] is Part.INCLUSION
    forged = note().replace(b"\n21\n", b"\n22\n")
    assert found(replace(PROOF, checkpoint=forged))[0] is Part.CHECKPOINT
    assert found(replace(PROOF, checkpoint=b"nothing\n")) == (
        Part.CHECKPOINT,
        "the note does not end in an empty line and whole signature lines",
    )


def edited(*path: str, value: Any) -> bytes:
    document = json.loads(FILE)
    place = document
    for key in path[:-1]:
        place = place[key]
    if value is ...:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    return json.dumps(document, ensure_ascii=False).encode()


HASH = PROOF.hash
CANONICAL = b64encode(PROOF.canonical).decode()
MALFORMED = {
    "nothing": b"",
    "not JSON": FILE[:-3],
    "something after it": FILE + b"{}",
    "a byte order mark": b"\xef\xbb\xbf" + FILE,
    "UTF-16": FILE.decode().encode("utf-16"),
    "not UTF-8": FILE.replace(b"gatehouse-capsule", b"gatehouse\xff"),
    "a list": b"[" + FILE + b"]",
    "deep": b"[" * 100_000,
    "a number too long": FILE.replace(b'"index": 13', b'"index": ' + b"1" * 5000),
    "a key twice": FILE.replace(b'"index": 13', b'"index": 13, "index": 13'),
    "another format": edited("format", value="gatehouse-capsule-proof-v2"),
    "no format": edited("format", value=...),
    "an unknown key": edited("comment", value="x"),
    "an unknown key of the capsule": edited("capsule", "signed_at", value="2026-01-01"),
    "no signature": edited("capsule", "signature", value=...),
    "no signature, but null": edited("capsule", "signature", value=None),
    "a capsule that is a list": edited("capsule", value=[]),
    "a checkpoint that is a list": edited("checkpoint", value=[]),
    "a lone surrogate": FILE.replace(b'"checkpoint": "', b'"checkpoint": "\\ud800'),
    "an index that is true": edited("inclusion", "index", value=True),
    "an index that is a float": edited("inclusion", "index", value=13.0),
    "an index that is text": edited("inclusion", "index", value="13"),
    "hashes that are text": edited("inclusion", "hashes", value=HASH),
    "a hash that is a number": edited("inclusion", "hashes", value=[1]),
    "a hash that is short": edited("inclusion", "hashes", value=[HASH[:-2]]),
    "a hash in capitals": edited("capsule", "hash", value=HASH.upper()),
    "a hash with a space": edited("capsule", "hash", value=HASH[:-1] + " "),
    "a hash with a newline": edited("capsule", "hash", value=HASH + "\n"),
    "a signature that is short": edited("capsule", "signature", value=PROOF.signature[:-2]),
    "a signer by a short name": edited("capsule", "signed_by", value="qp_key_ab12"),
    "base64 without padding": edited("capsule", "canonical", value=CANONICAL.rstrip("=") + "\n"),
    "base64 with a newline": edited("capsule", "canonical", value=CANONICAL[:4] + "\n" + CANONICAL[4:]),
    "no base64": edited("capsule", "canonical", value=""),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_a_malformed_file_is_refused(name: str) -> None:
    assert found(MALFORMED[name])[0] is Part.FILE


def test_the_reason_names_the_field() -> None:
    assert found(MALFORMED["an index that is true"])[1] == "index of inclusion is not an integer"
    assert found(MALFORMED["a key twice"])[1] == "a key is there twice"
    assert found(MALFORMED["no signature"])[1] == (
        "capsule is not an object with canonical, hash, signature, signed_by and nothing else"
    )
    assert found(MALFORMED["no base64"])[1] == "capsule.canonical: '' is not canonical base64"
    assert found(MALFORMED["UTF-16"])[1] == "it is not JSON in UTF-8"


@settings(max_examples=400)
@given(st.data())
def test_any_changed_byte_is_found_or_says_the_same(data: st.DataObject) -> None:
    at, mask = data.draw(st.integers(0, len(FILE) - 1)), data.draw(st.integers(1, 255))
    changed = FILE[:at] + bytes([FILE[at] ^ mask]) + FILE[at + 1 :]
    if check_proof(changed, LEDGER) is None:  # white space between the tokens of JSON
        assert CapsuleProof.parse(changed) == PROOF


@given(st.sampled_from(["canonical", "hash", "signature", "signed_by", "checkpoint", "path"]), st.data())
def test_any_changed_byte_of_any_field_is_found(field: str, data: st.DataObject) -> None:
    value = getattr(PROOF, field)
    if field == "path":
        at = data.draw(st.integers(0, len(value) - 1))
        value = (*value[:at], flipped(value[at], data), *value[at + 1 :])
    elif isinstance(value, str):
        value = flipped(bytes.fromhex(value), data).hex()
    else:
        try:
            (value := flipped(value, data)).decode()
        except UnicodeDecodeError:
            return  # no file can hold it
    assert found(replace(PROOF, **{field: value}))


@given(st.binary(max_size=200))
def test_no_input_gets_anything_but_a_finding(data: bytes) -> None:
    assert found(data)[0] is Part.FILE
    with pytest.raises(InvalidProofFile):
        CapsuleProof.parse(data)


def flipped(value: bytes, data: st.DataObject) -> bytes:
    at, mask = data.draw(st.integers(0, len(value) - 1)), data.draw(st.integers(1, 255))
    return value[:at] + bytes([value[at] ^ mask]) + value[at + 1 :]
