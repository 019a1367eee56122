"""Whoever changes a chain is found: each tampering is named at the record where it was done."""

from __future__ import annotations

import asyncio
import gc
import io
import itertools
import json
import os
import pickle
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from datetime import timedelta, timezone
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest
import qp_capsule
from gatehouse.capsule import keys, verification
from gatehouse.capsule.canonical import encode, parse
from gatehouse.capsule.document import DEFAULT_CHAIN
from gatehouse.capsule.export import export_json, export_line, read_json
from gatehouse.capsule.keyring import Keyring, read_keyring
from gatehouse.capsule.seal import GENESIS, BrokenChain, Fault, Head, SealedCapsule, head_behind, seal, sha3_256
from gatehouse.capsule.stored import StoredCapsule
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from nacl.signing import SigningKey
from qp_capsule.cli import verify_chain as qp_verify_chain

from tests.support.capsules import AT, capsule, chain, documents, verify_chain

LENGTH = 6


@pytest.fixture(scope="module")
def held(tmp_path_factory: pytest.TempPathFactory) -> keys.Keys:
    return keys.create(tmp_path_factory.mktemp("keys"), AT)


@pytest.fixture(scope="module")
def rows(held: keys.Keys) -> list[SealedCapsule]:
    return chain(held.signer, (capsule(number) for number in range(LENGTH)))


def verify(rows: list[SealedCapsule], keyring: Keyring, **named: Any) -> Head:
    return verify_chain(iter(rows), keyring, chain=DEFAULT_CHAIN, **named)


def finds(rows: list[SealedCapsule], keyring: Keyring, fault: Fault, sequence: int, **named: Any) -> None:
    with pytest.raises(BrokenChain) as broken:
        verify(rows, keyring, **named)
    assert (broken.value.fault, broken.value.sequence) == (fault, sequence), str(broken.value)


def put(rows: list[SealedCapsule], at: int, **changes: Any) -> list[SealedCapsule]:
    return [*rows[:at], replace(rows[at], **changes), *rows[at + 1 :]]


def forge(row: SealedCapsule, signer: keys.Signer, change: Callable[[dict[str, Any]], None]) -> SealedCapsule:
    """Return a record as an attacker changes it who can hash, and sign with the given key."""
    document = json.loads(row.canonical)
    change(document)
    data = encode(document)
    digest = sha3_256(data).hexdigest()
    return SealedCapsule(
        document["id"], document["sequence"], document["previous_hash"], data, digest,
        signer.sign(digest.encode()).hex(), signer.signed_by, row.signed_at,
    )  # fmt: skip


# --- what is sealed verifies


@settings(max_examples=40)
@given(contents=st.lists(documents, max_size=4))
def test_whatever_is_sealed_verifies_here_and_with_the_reference(
    held: keys.Keys, contents: list[dict[str, Any]]
) -> None:
    sealed = chain(held.signer, contents)
    head = verify(sealed, held.keyring)
    assert head.sequence == len(contents) - 1
    assert head.hash == (sealed[-1].hash if sealed else None)
    theirs = [qp_capsule.Capsule.from_sealed_dict(record) for record in json.loads(b"".join(export_json(sealed)))]
    public_key = held.keyring.active.public_key.hex()
    result = qp_verify_chain(theirs, level="signatures", seal=qp_capsule.Seal(Path("/none")), public_key=public_key)
    assert result.valid, result.errors
    assert list(read_json(io.BytesIO(b"".join(export_json(sealed))))) == sealed


def test_a_seal_is_what_the_protocol_says(held: keys.Keys) -> None:
    document = capsule(3)
    before = encode(document)
    row = seal(document, sequence=7, previous_hash="d" * 64, signer=held.signer, at=AT)
    assert encode(document) == before
    assert row.hash == sha3_256(row.canonical).hexdigest() == qp_capsule.compute_hash(parse(row.canonical))
    # Section 3.2: over the 64 characters, not the 32 bytes.
    assert held.keyring.active.verifies(row.hash.encode("ascii"), bytes.fromhex(row.signature))
    assert not held.keyring.active.verifies(bytes.fromhex(row.hash), bytes.fromhex(row.signature))


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A machine whose clock is not set to UTC."""
    monkeypatch.setenv("TZ", "Asia/Kolkata")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.usefixtures("elsewhere")
def test_the_time_of_sealing_is_signed_and_in_utc(held: keys.Keys) -> None:
    there = AT.astimezone(timezone(timedelta(hours=5, minutes=30)))
    row = seal(capsule(), sequence=0, previous_hash=None, signer=held.signer, at=there)
    assert b'"sealed_at":"2026-01-02T03:04:05.678900+00:00"' in row.canonical
    verify([row], held.keyring)


def test_what_is_broken_is_told_in_a_line_also_by_another_process(rows: list[SealedCapsule], held: keys.Keys) -> None:
    with pytest.raises(BrokenChain) as broken:
        verify([rows[0], rows[2]], held.keyring)
    for each in (broken.value, pickle.loads(pickle.dumps(broken.value))):
        assert str(each) == f"record 1 ({rows[2].id}): gap: it is missing; the next record is 2"
        assert (each.fault, each.sequence, each.capsule_id) == (Fault.GAP, 1, rows[2].id)
    assert str(BrokenChain(Fault.MALFORMED, 3, None, "why")) == "record 3 (no id): malformed record: why"


def test_verification_goes_on_from_a_verified_head(rows: list[SealedCapsule], held: keys.Keys) -> None:
    for cut in range(LENGTH + 1):
        head = verify(rows[:cut], held.keyring)
        assert verify(rows[cut:], held.keyring, start=head) == verify(rows, held.keyring)
    finds(rows[3:], held.keyring, Fault.WRONG_PREVIOUS_HASH, 3, start=Head(2, "0" * 64))
    finds(rows[3:], held.keyring, Fault.GAP, 0, start=GENESIS)
    finds(rows[3:], held.keyring, Fault.GAP, 2, start=verify(rows[:2], held.keyring))


def _peaks(folder: Path) -> tuple[int, int]:
    """Return the peak bytes that verifying 250 and 900 records takes."""
    held = keys.create(folder, AT)

    def endless() -> Iterator[SealedCapsule]:
        head = GENESIS
        for number in itertools.count():
            (row,) = chain(held.signer, [capsule(number)], head)
            head = Head(row.sequence, row.hash)
            yield row

    def peak(count: int) -> int:
        gc.collect()
        tracemalloc.start()
        try:
            records = (StoredCapsule(DEFAULT_CHAIN, row) for row in itertools.islice(endless(), count))
            report = verification.verify(records, held.keyring, chain=None, stored_tree=False, workers=0)
            assert report.records == count
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak(10)
    return peak(250), peak(900)


def test_verification_holds_a_few_segments_at_a_time(tmp_path: Path) -> None:
    # In a process of its own, for what threads of other tests allocate meanwhile would be counted too.
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as alone:
        few, many = alone.submit(_peaks, tmp_path / "keys").result(120)
    assert many < few + 40_000


# --- tampering


@settings(max_examples=400, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(data=st.data())
def test_any_changed_byte_of_any_field_is_found(
    rows: list[SealedCapsule], held: keys.Keys, data: st.DataObject
) -> None:
    at = data.draw(st.integers(0, LENGTH - 1))
    row = rows[at]
    name = data.draw(st.sampled_from(["id", "canonical", "hash", "previous_hash", "signature", "signed_by"]))
    value = getattr(row, name) or ""
    raw = bytearray(value if isinstance(value, bytes) else value.encode())
    if raw:
        where = data.draw(st.integers(0, len(raw) - 1))
        raw[where] ^= data.draw(st.integers(1, 255))
    else:
        raw = bytearray(b"0")
    changed: Any = bytes(raw) if name == "canonical" else raw.decode("latin-1")
    expected = {
        "id": Fault.COLUMN_MISMATCH,
        "canonical": Fault.HASH_MISMATCH,
        "hash": Fault.HASH_MISMATCH,
        "previous_hash": Fault.COLUMN_MISMATCH,
        "signature": Fault.BAD_SIGNATURE,
        "signed_by": Fault.UNKNOWN_KEY,
    }
    finds(put(rows, at, **{name: changed}), held.keyring, expected[name], at)


@given(at=st.integers(0, LENGTH - 1), by=st.integers(-(2**63), 2**63).filter(bool))
def test_a_changed_sequence_is_found(rows: list[SealedCapsule], held: keys.Keys, at: int, by: int) -> None:
    finds(put(rows, at, sequence=rows[at].sequence + by), held.keyring, Fault.COLUMN_MISMATCH, at)


@given(at=st.integers(0, LENGTH - 1), by=st.timedeltas(timedelta(days=-9999), timedelta(days=9999)).filter(bool))
def test_a_changed_time_of_sealing_is_found(rows: list[SealedCapsule], held: keys.Keys, at: int, by: timedelta) -> None:
    finds(put(rows, at, signed_at=rows[at].signed_at + by), held.keyring, Fault.COLUMN_MISMATCH, at)


@pytest.mark.parametrize(
    ("column", "value"),
    [("id", "x"), ("sequence", 9), ("previous_hash", "0" * 64), ("signed_at", AT + timedelta(microseconds=1))],
)
def test_a_column_that_the_signed_bytes_contradict_is_named(
    rows: list[SealedCapsule], held: keys.Keys, column: str, value: object
) -> None:
    with pytest.raises(BrokenChain, match=rf": column mismatch: {column} is stored as "):
        verify(put(rows, 2, **{column: value}), held.keyring)


@given(at=st.integers(0, LENGTH - 1), length=st.integers(0, 127))
def test_a_cut_or_respelled_signature_is_found(
    rows: list[SealedCapsule], held: keys.Keys, at: int, length: int
) -> None:
    signature = rows[at].signature
    for other in (signature[:length], signature.upper(), f" {signature}", f"{signature}00"):
        finds(put(rows, at, signature=other), held.keyring, Fault.BAD_SIGNATURE, at)


@given(data=st.data())
def test_a_removed_record_is_found(rows: list[SealedCapsule], held: keys.Keys, data: st.DataObject) -> None:
    # The last one leaves a valid chain: that is what checkpoints are for.
    gone = data.draw(st.sets(st.integers(0, LENGTH - 2), min_size=1))
    finds([row for row in rows if row.sequence not in gone], held.keyring, Fault.GAP, min(gone))


@given(data=st.data())
def test_swapped_records_are_found(rows: list[SealedCapsule], held: keys.Keys, data: st.DataObject) -> None:
    a, b = sorted(data.draw(st.sets(st.integers(0, LENGTH - 1), min_size=2, max_size=2)))
    swapped = list(rows)
    swapped[a], swapped[b] = swapped[b], swapped[a]
    finds(swapped, held.keyring, Fault.SWAPPED, a)


@given(at=st.integers(0, LENGTH - 2))
def test_a_record_written_over_by_the_next_is_found(rows: list[SealedCapsule], held: keys.Keys, at: int) -> None:
    finds([*rows[:at], rows[at + 1], *rows[at + 1 :]], held.keyring, Fault.SWAPPED, at)


@given(at=st.integers(0, LENGTH - 1), to=st.integers(1, LENGTH))
def test_a_duplicated_record_is_found(rows: list[SealedCapsule], held: keys.Keys, at: int, to: int) -> None:
    to = max(to, at + 1)
    finds([*rows[:to], rows[at], *rows[to:]], held.keyring, Fault.DUPLICATE, to)


@given(at=st.integers(1, LENGTH - 1))
def test_an_inserted_record_is_found(rows: list[SealedCapsule], held: keys.Keys, at: int) -> None:
    """An attacker with the key inserts it: the chain forks, and the next old record does not follow."""
    (inserted,) = chain(held.signer, [capsule(99)], Head(at - 1, rows[at - 1].hash))
    finds([*rows[:at], inserted, *rows[at:]], held.keyring, Fault.DUPLICATE, at + 1)
    (unlinked,) = chain(held.signer, [capsule(99)], Head(at - 1, "0" * 64))
    finds([*rows[:at], unlinked, *rows[at:]], held.keyring, Fault.WRONG_PREVIOUS_HASH, at)


@given(at=st.integers(0, LENGTH - 2))
def test_a_record_resealed_with_the_right_key_breaks_the_next(
    rows: list[SealedCapsule], held: keys.Keys, at: int
) -> None:
    forged = forge(rows[at], held.signer, lambda document: document["outcome"].update(status="blocked"))
    finds([*rows[:at], forged, *rows[at + 1 :]], held.keyring, Fault.WRONG_PREVIOUS_HASH, at + 1)


@given(at=st.integers(0, LENGTH - 1))
def test_a_suffix_resealed_with_another_key_is_found(rows: list[SealedCapsule], held: keys.Keys, at: int) -> None:
    thief = keys.Signer(SigningKey.generate())
    head = Head(at - 1, rows[at].previous_hash)
    suffix = chain(thief, (capsule(number) for number in range(at, LENGTH)), head)
    finds([*rows[:at], *suffix], held.keyring, Fault.UNKNOWN_KEY, at)
    renamed = [replace(row, signed_by=held.signer.signed_by) for row in suffix]
    finds([*rows[:at], *renamed], held.keyring, Fault.BAD_SIGNATURE, at)


def test_a_capsule_of_another_chain_is_found(rows: list[SealedCapsule], held: keys.Keys) -> None:
    other = chain(held.signer, [capsule(number, chain="finance") for number in range(2)])
    verify_chain(other, held.keyring, chain="finance")
    finds(other, held.keyring, Fault.WRONG_CHAIN, 0)


@pytest.mark.parametrize(
    "change",
    [
        lambda document: document["reasoning"].update(confidence=1),
        lambda document: document["trigger"].update(timestamp="2026-01-01T00:00:00Z"),
        lambda document: document.pop("authority"),
        lambda document: document.update(id=document["id"].replace("0199", "ABCD")),
    ],
)
def test_what_is_signed_but_not_a_capsule_is_found(
    rows: list[SealedCapsule], held: keys.Keys, change: Callable[[dict[str, Any]], None]
) -> None:
    finds([*rows[:2], forge(rows[2], held.signer, change)], held.keyring, Fault.NOT_CANONICAL, 2)


def test_signed_bytes_that_are_not_canonical_are_found(rows: list[SealedCapsule], held: keys.Keys) -> None:
    data = rows[2].canonical.replace(b'{"authority"', b'{ "authority"')
    digest = sha3_256(data).hexdigest()
    signature = held.signer.sign(digest.encode()).hex()
    finds(put(rows, 2, canonical=data, hash=digest, signature=signature), held.keyring, Fault.NOT_CANONICAL, 2)


# --- epochs


@pytest.fixture
def rotated(tmp_path: Path) -> tuple[list[keys.Keys], list[SealedCapsule]]:
    """Return nine records, three by each of three keys."""
    epochs = [keys.create(tmp_path / "keys", AT)]
    rows: list[SealedCapsule] = []
    for number in range(3):
        if number:
            epochs.append(keys.rotate(tmp_path / "keys", {DEFAULT_CHAIN: 3 * number}, AT))
        head = Head(rows[-1].sequence, rows[-1].hash) if rows else GENESIS
        rows += chain(epochs[-1].signer, (capsule(3 * number + i) for i in range(3)), head)
    return epochs, rows


def test_capsules_stay_verifiable_after_rotations(rotated: tuple[list[keys.Keys], list[SealedCapsule]]) -> None:
    epochs, rows = rotated
    assert verify(rows, epochs[-1].keyring).epoch == 2
    finds(rows, epochs[1].keyring, Fault.UNKNOWN_KEY, 6)


def test_the_head_behind_a_record_is_the_one_that_verification_comes_to(
    rotated: tuple[list[keys.Keys], list[SealedCapsule]],
) -> None:
    epochs, rows = rotated
    for count, row in enumerate(rows, 1):
        assert head_behind(row, epochs[-1].keyring) == verify(rows[:count], epochs[-1].keyring)
    # A keyring without its key does not know the epoch, so every key may follow.
    assert head_behind(rows[8], epochs[0].keyring) == Head(8, rows[8].hash)


@pytest.mark.parametrize("at", range(9))
@pytest.mark.parametrize("number", range(3))
def test_a_key_signs_in_its_epoch_only(
    rotated: tuple[list[keys.Keys], list[SealedCapsule]], at: int, number: int
) -> None:
    """A stolen old key cannot rewrite what came after it, nor can the new one rewrite what came before."""
    epochs, rows = rotated
    head = Head(at - 1, rows[at].previous_hash)
    suffix = chain(epochs[number].signer, (capsule(i) for i in range(at, 9)), head)
    last = 3 * number + 2
    if number != at // 3:
        finds([*rows[:at], *suffix], epochs[-1].keyring, Fault.KEY_OUTSIDE_EPOCH, at)
    elif last < 8:
        finds([*rows[:at], *suffix], epochs[-1].keyring, Fault.KEY_OUTSIDE_EPOCH, last + 1)
    else:
        verify([*rows[:at], *suffix], epochs[-1].keyring)


def test_without_known_starts_an_old_key_still_cannot_follow_a_new_one(
    rotated: tuple[list[keys.Keys], list[SealedCapsule]],
) -> None:
    epochs, rows = rotated
    unknown = Keyring(tuple(replace(epoch, starts=None) for epoch in epochs[-1].keyring.epochs))
    assert verify(rows, unknown).epoch == 2
    (back,) = chain(epochs[0].signer, [capsule(9)], Head(8, rows[-1].hash))
    finds([*rows, back], unknown, Fault.KEY_OUTSIDE_EPOCH, 9)
    finds([back], unknown, Fault.KEY_OUTSIDE_EPOCH, 9, start=verify(rows, unknown))


# --- with the protocol's own implementation


def capsule_command(*arguments: str, home: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(Path(sys.executable).with_name("capsule")), *arguments],
        env={"HOME": str(home), "QUANTUMPIPES_DATA_DIR": str(home), "PATH": os.environ["PATH"]},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def test_the_reference_command_verifies_our_export(rows: list[SealedCapsule], held: keys.Keys, tmp_path: Path) -> None:
    path, public_key = tmp_path / "chain.json", held.keyring.active.public_key.hex()
    path.write_bytes(b"".join(export_json(rows)))
    checked = capsule_command("verify", "--json", "--pubkey", public_key, str(path), home=tmp_path)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert json.loads(checked.stdout)["capsules_verified"] == LENGTH
    path.write_bytes(path.read_bytes().replace(b'"success"', b'"blocked"', 1))
    assert capsule_command("verify", "--pubkey", public_key, str(path), home=tmp_path).returncode == 1


def test_the_reference_command_verifies_rotated_keys_with_our_keyring(
    rotated: tuple[list[keys.Keys], list[SealedCapsule]], tmp_path: Path
) -> None:
    epochs, rows = rotated
    path = tmp_path / "chain.json"
    path.write_bytes(b"".join(export_json(rows)))
    auditor = tmp_path / "auditor"
    auditor.mkdir()
    (auditor / "keyring.json").write_text(epochs[-1].keyring.to_json())
    checked = capsule_command("verify", "--signatures", str(path), home=auditor)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    (auditor / "keyring.json").write_text(epochs[1].keyring.to_json())
    assert capsule_command("verify", "--signatures", str(path), home=auditor).returncode == 1


class Memory:
    """Stores capsules as qp-capsule's chain needs it, and nothing more."""

    def __init__(self) -> None:
        self.capsules: list[qp_capsule.Capsule] = []

    async def get_latest(self, tenant_id: str | None = None) -> qp_capsule.Capsule | None:
        return self.capsules[-1] if self.capsules else None

    async def store(self, capsule: qp_capsule.Capsule, tenant_id: str | None = None) -> qp_capsule.Capsule:
        self.capsules.append(capsule)
        return capsule

    async def get_all_ordered(self, tenant_id: str | None = None) -> list[qp_capsule.Capsule]:
        return self.capsules


async def _reference_chain(folder: Path, rotate: bool) -> list[dict[str, Any]]:
    memory, keyring = Memory(), qp_capsule.Keyring(folder / "keyring.json", folder / "key")
    records = qp_capsule.CapsuleChain(memory)
    for number in range(6):
        if rotate and number == 3:
            keyring.rotate()
        sealer = qp_capsule.Seal(folder / "key", enable_pq=False, keyring=keyring)
        made = qp_capsule.Capsule.create(
            trigger={"source": "grüße ☃", "request": f"task {number}"},
            reasoning={"options_considered": ["a", "b"], "selected_option": "a", "confidence": 0.5},
            outcome={"status": "success", "result": {"cost": 1e-7, "n": number}},
        )
        await records.seal_and_store(made, sealer)
    return [capsule.to_sealed_dict() for capsule in memory.capsules]


@pytest.mark.parametrize("rotate", [False, True])
@pytest.mark.parametrize("form", ["pretty", "compact", "lines"])
def test_chains_of_the_reference_verify_here(tmp_path: Path, rotate: bool, form: str) -> None:
    records = asyncio.run(_reference_chain(tmp_path, rotate))
    text = {
        "pretty": json.dumps(records, indent=2),
        "compact": json.dumps(records, ensure_ascii=False),
        "lines": "\n".join(map(json.dumps, records)),
    }[form]
    keyring = read_keyring(tmp_path / "keyring.json")
    head = verify_chain(read_json(io.BytesIO(text.encode())), keyring)
    assert (head.sequence, head.hash) == (5, records[-1]["hash"])
    records[3]["outcome"]["result"]["n"] = 4
    with pytest.raises(BrokenChain) as broken:
        verify_chain(read_json(io.BytesIO(json.dumps(records).encode())), keyring)
    assert (broken.value.fault, broken.value.sequence) == (Fault.HASH_MISMATCH, 3)


# --- files


def test_an_export_holds_the_signed_bytes_as_they_are(rows: list[SealedCapsule]) -> None:
    lines = b"".join(export_json(rows)).splitlines()
    assert len(lines) == LENGTH + 2
    assert all(line.startswith(row.canonical[:-1]) for line, row in zip(lines[1:], rows, strict=False))
    assert b"".join(export_json([])) == b"[]\n"
    assert list(read_json(io.BytesIO(b"[]\n"))) == []


class Trickle(io.BytesIO):
    """Reads as a file that comes a few bytes at a time."""

    def read(self, size: int | None = -1, /) -> bytes:
        return super().read(7)


def test_an_export_is_read_whatever_pieces_it_comes_in(rows: list[SealedCapsule]) -> None:
    assert list(read_json(Trickle(b"".join(export_json(rows[:2]))))) == rows[:2]


@pytest.mark.parametrize(
    "change",
    [
        lambda data: b"",
        lambda data: data[:-3],
        lambda data: data[: len(data) // 2],
        lambda data: data + b"x",
        lambda data: data.replace(b'"sequence":3,', b"", 1),
        lambda data: data.replace(b'"sequence":3,', b'"sequence":2,"sequence":3,', 1),
        lambda data: data.replace(b'"signed_by"', b'"signer"'),
        lambda data: data.replace(b'"signature_pq":""', b'"signature_pq":"00"'),
        lambda data: data.replace(b'+00:00","signed_by', b'-00:00","signed_by'),
        lambda data: data.replace(b"billing", b"\xff\xfelling"),
        lambda data: b"\xef\xbb\xbf" + data,
        lambda data: b"[1]",
        lambda data: b"[" * 100_000,
        lambda data: b'{"a":' * 100_000,
        lambda data: data.replace(b'"signed_by":"', b'"signed_by":5,"x":"', 1),
        lambda data: data.replace(b"[", b"[,", 1),
    ],
)
def test_a_file_that_is_no_export_is_refused_in_a_sentence(
    rows: list[SealedCapsule], held: keys.Keys, change: Callable[[bytes], bytes]
) -> None:
    data = change(b"".join(export_json(rows)))
    with pytest.raises(BrokenChain, match="malformed"):
        verify_chain(read_json(io.BytesIO(data)), held.keyring)


@settings(max_examples=200)
@given(data=st.data())
def test_any_changed_byte_of_a_file_is_found_or_says_the_same(
    rows: list[SealedCapsule], held: keys.Keys, data: st.DataObject
) -> None:
    raw = bytearray(b"".join(export_json(rows[:3])))
    where = data.draw(st.integers(0, len(raw) - 1))
    raw[where] ^= data.draw(st.integers(1, 255))
    try:
        read = list(read_json(io.BytesIO(bytes(raw))))
        verify(read, held.keyring)
    except BrokenChain:
        return
    assert read == rows[:3]


def test_sealing_signs_once(held: keys.Keys, monkeypatch: pytest.MonkeyPatch) -> None:
    sign, signed = held.signer.sign, list[bytes]()
    monkeypatch.setattr(held.signer, "sign", lambda message: (signed.append(message), sign(message))[1])
    seal(capsule(), sequence=1, previous_hash="0" * 64, signer=held.signer, at=AT)
    assert len(signed) == 1


def test_one_line_is_one_record(rows: list[SealedCapsule]) -> None:
    assert [json.loads(export_line(row))["sequence"] for row in rows] == list(range(LENGTH))
    assert not any(b"\n" in export_line(row) for row in rows)
