"""The ledger's private keys stay private, and its public keys stay available."""

from __future__ import annotations

import hashlib
import json
import os
import stat
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import qp_capsule
from gatehouse.capsule import keys
from gatehouse.capsule.keyring import Keyring, fingerprint, read_keyring
from gatehouse.core.errors import SetupError

from tests.support.capsules import AT


def sign(held: keys.Keys, message: bytes = b"m") -> bool:
    epoch = held.keyring.find(held.signer.signed_by)
    return epoch is not None and epoch.verifies(message, held.signer.sign(message))


def private_keys(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("*.key"))


def test_a_private_key_is_made_for_its_owner_alone(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        made = keys.create(tmp_path / "new" / "keys", AT)
    finally:
        os.umask(old)
    folder = tmp_path / "new" / "keys"
    assert stat.S_IMODE((folder / "epoch-0.key").stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    loaded = keys.load(folder)
    assert loaded.keyring == made.keyring
    assert loaded.signer.signed_by == made.signer.signed_by
    assert sign(loaded)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o602, 0o620, 0o601])
def test_a_private_key_that_others_may_touch_is_refused(tmp_path: Path, mode: int) -> None:
    keys.create(tmp_path, AT)
    (tmp_path / "epoch-0.key").chmod(mode)
    with pytest.raises(SetupError, match=r"epoch-0.key: others .*chmod 600"):
        keys.load(tmp_path)


def test_no_key_is_ever_overwritten(tmp_path: Path) -> None:
    keys.create(tmp_path, AT)
    before = (tmp_path / "epoch-0.key").read_bytes()
    with pytest.raises(SetupError, match="keys rotate"):
        keys.create(tmp_path, AT)
    (tmp_path / keys.KEYRING_NAME).unlink()
    keys.create(tmp_path, AT)  # as after a set-up that died before the keyring was there
    assert (tmp_path / "epoch-0.key").read_bytes() == before
    keys.rotate(tmp_path, {}, AT)
    (tmp_path / keys.KEYRING_NAME).unlink()
    with pytest.raises(SetupError, match=r"epoch-1.key but no keyring.json"):
        keys.create(tmp_path, AT)


def test_a_missing_key_is_made_once_however_many_ask_for_it(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: keys.create_missing(tmp_path / "keys", AT), range(32)))
    assert made.count(True) == 1
    assert private_keys(tmp_path / "keys") == ["epoch-0.key"]
    (tmp_path / "file").touch()
    with pytest.raises(SetupError, match="file"):
        keys.create_missing(tmp_path / "file", AT)


def test_rotation_keeps_old_public_keys_and_removes_old_private_ones(tmp_path: Path) -> None:
    rings = [keys.create(tmp_path, AT)]
    signatures = [rings[0].signer.sign(b"m")]
    for number in (1, 2):
        rings.append(keys.rotate(tmp_path, {"gatehouse": 10 * number}, AT + timedelta(days=number)))
        signatures.append(rings[-1].signer.sign(b"m"))
    assert private_keys(tmp_path) == ["epoch-2.key"]
    now = keys.load(tmp_path)
    for held, signature in zip(rings, signatures, strict=True):
        epoch = now.keyring.find(held.signer.signed_by)
        assert epoch is not None
        assert epoch.verifies(b"m", signature)
    assert [epoch.retired_at is None for epoch in now.keyring.epochs] == [False, False, True]
    assert len({epoch.public_key for epoch in now.keyring.epochs}) == 3


def test_each_key_may_sign_in_its_own_epoch_only(tmp_path: Path) -> None:
    keys.create(tmp_path, AT)
    keys.rotate(tmp_path, {"calls": 10}, AT)
    ring = keys.rotate(tmp_path, {"calls": 20, "finance": 3}, AT).keyring
    allowed = {
        (chain, number): [sequence for sequence in range(25) if ring.allows(ring.epochs[number], chain, sequence)]
        for chain in ("calls", "finance", "later")
        for number in range(3)
    }
    assert allowed == {
        ("calls", 0): list(range(10)),
        ("calls", 1): list(range(10, 20)),
        ("calls", 2): list(range(20, 25)),
        ("finance", 0): [],
        ("finance", 1): [0, 1, 2],
        ("finance", 2): list(range(3, 25)),
        ("later", 0): [],
        ("later", 1): [],
        ("later", 2): list(range(25)),
    }


def test_a_rotation_that_dies_before_the_keyring_is_there_changed_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = keys.create(tmp_path, AT).signer.signed_by

    def die(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(keys, "_publish", die)
        with pytest.raises(KeyboardInterrupt):
            keys.rotate(tmp_path, {}, AT)
    assert keys.load(tmp_path).signer.signed_by == before
    after = keys.rotate(tmp_path, {}, AT)
    assert after.signer.signed_by != before
    assert private_keys(tmp_path) == ["epoch-1.key"]
    assert sign(keys.load(tmp_path))


def test_a_fingerprint_is_the_whole_digest_of_the_public_key(tmp_path: Path) -> None:
    made = keys.create(tmp_path, AT)
    public_key = made.keyring.active.public_key
    assert made.signer.signed_by == fingerprint(public_key) == hashlib.sha3_256(public_key).hexdigest()
    assert made.keyring.find(public_key.hex()[:16]) is None
    assert made.keyring.find(f"qp_key_{public_key.hex()[:4]}") is None


def test_the_keyring_holds_no_secret(tmp_path: Path) -> None:
    keys.create(tmp_path, AT)
    secret = (tmp_path / "epoch-0.key").read_text().strip()
    assert secret not in (tmp_path / keys.KEYRING_NAME).read_text()
    assert stat.S_IMODE((tmp_path / keys.KEYRING_NAME).stat().st_mode) & 0o444


@pytest.mark.parametrize("text", ["", "canary" * 20, "0" * 63, "0" * 64 + "00"])
def test_a_broken_private_key_is_named_and_not_printed(tmp_path: Path, text: str) -> None:
    keys.create(tmp_path, AT)
    (tmp_path / "epoch-0.key").write_text(text)
    with pytest.raises(SetupError, match=r"epoch-0.key: it does not hold an Ed25519 key") as error:
        keys.load(tmp_path)
    assert not text or text not in str(error.value)


def test_keys_that_do_not_belong_together_are_refused(tmp_path: Path) -> None:
    keys.create(tmp_path / "a", AT)
    keys.create(tmp_path / "b", AT)
    (tmp_path / "a" / "epoch-0.key").replace(tmp_path / "b" / "epoch-0.key")
    with pytest.raises(SetupError, match="not the key that"):
        keys.load(tmp_path / "b")
    with pytest.raises(SetupError, match="private key is not there"):
        keys.load(tmp_path / "a")
    with pytest.raises(SetupError, match="there is no keyring"):
        keys.load(tmp_path)


def _ring(folder: Path) -> dict[str, Any]:
    keys.create(folder, AT)
    keys.rotate(folder, {"gatehouse": 3}, AT)
    return json.loads((folder / keys.KEYRING_NAME).read_bytes())  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    "change",
    [
        lambda ring: ring.update(version=2),
        lambda ring: ring.update(epochs=[]),
        lambda ring: ring.update(active_epoch=0),
        lambda ring: ring["epochs"].append(dict(ring["epochs"][0])),
        lambda ring: ring["epochs"][0].update(rotated_at=None),
        lambda ring: ring["epochs"][0].update(fingerprint=ring["epochs"][1]["fingerprint"]),
        lambda ring: ring["epochs"][0].update(public_key_hex=ring["epochs"][1]["public_key_hex"]),
        lambda ring: ring["epochs"][0].update(public_key_hex="00"),
        lambda ring: ring["epochs"][0].update(public_key_hex="00", fingerprint=fingerprint(b"\0")),
        lambda ring: ring["epochs"][0].update(algorithm="none"),
        lambda ring: ring["epochs"][0].update(epoch=1),
        lambda ring: ring["epochs"][1].update(starts={"gatehouse": -1}),
        lambda ring: ring["epochs"][1].update(starts=[]),
        lambda ring: ring["epochs"][1].pop("created_at"),
    ],
)
def test_a_keyring_that_contradicts_itself_is_refused(tmp_path: Path, change: Any) -> None:
    ring = _ring(tmp_path)
    change(ring)
    path = tmp_path / keys.KEYRING_NAME
    path.write_text(json.dumps(ring))
    with pytest.raises(SetupError, match="is not a keyring"):
        read_keyring(path)


@pytest.mark.parametrize("text", ["", "[]", "null", "{}", "\0", '{"version": 1, "epochs": [1]}'])
def test_what_is_no_keyring_is_refused_in_a_sentence(tmp_path: Path, text: str) -> None:
    path = tmp_path / keys.KEYRING_NAME
    path.write_text(text)
    with pytest.raises(SetupError, match="is not a keyring"):
        read_keyring(path)


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SetupError, match="file"):
        keys.create(tmp_path / "file" / "keys", AT)


def test_both_implementations_read_one_keyring(tmp_path: Path) -> None:
    _ring(tmp_path)
    ours: Keyring = read_keyring(tmp_path / keys.KEYRING_NAME)
    theirs = qp_capsule.Keyring(tmp_path / keys.KEYRING_NAME, tmp_path / "none")
    assert [theirs.lookup_public_key(epoch.name) for epoch in ours.epochs] == [
        epoch.public_key.hex() for epoch in ours.epochs
    ]
    assert theirs.active_epoch == ours.active.number


def test_a_keyring_of_the_reference_is_read(tmp_path: Path) -> None:
    theirs = qp_capsule.Keyring(tmp_path / "keyring.json", tmp_path / "key")
    qp_capsule.Seal(tmp_path / "key", enable_pq=False, keyring=theirs).get_public_key()
    theirs.rotate()
    ours = read_keyring(tmp_path / "keyring.json")
    assert [epoch.public_key.hex() for epoch in ours.epochs] == [epoch.public_key_hex for epoch in theirs.epochs]
    assert ours.find(ours.active.public_key.hex()[:16]) is ours.active
