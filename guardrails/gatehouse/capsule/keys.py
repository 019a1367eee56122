"""The folder of the ledger's Ed25519 keys: one private key, and keyring.json with the public keys of every epoch.

Promises: a private key is readable by its owner alone or not used, and never overwritten; rotation keeps the old public
key, so old capsules stay verifiable, and removes the old private key.
"""

from __future__ import annotations

import fcntl
import os
import re
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from nacl.signing import SigningKey

from gatehouse.capsule.keyring import Epoch, Keyring, fingerprint, read_keyring
from gatehouse.core.errors import SetupError
from gatehouse.core.files import write_whole

KEYRING_NAME = "keyring.json"
_SEED = re.compile(r"[0-9a-f]{64}")


class Signer:
    """Signs with the active key."""

    def __init__(self, key: SigningKey) -> None:
        self._key = key
        self.signed_by = fingerprint(bytes(key.verify_key))

    def sign(self, message: bytes) -> bytes:
        """The 64 bytes of an Ed25519 signature."""
        return self._key.sign(message).signature


@dataclass(frozen=True, slots=True)
class Keys:
    """What a gateway needs: every public key, and the private one, out of `folder`."""

    keyring: Keyring
    signer: Signer
    folder: Path


class KeyFolder:
    """The folder's keys as they are now, read again only when keyring.json was replaced."""

    def __init__(self, folder: Path) -> None:
        self.path = folder
        self._stamp: tuple[int, int] | None = None
        self._keys: Keys | None = None

    def current(self) -> Keys:
        """The keys. Cheap when nothing changed.

        Raises:
            SetupError: as `load`.
        """
        try:
            found = (self.path / KEYRING_NAME).stat()
            stamp: tuple[int, int] | None = (found.st_ino, found.st_mtime_ns)
        except OSError:
            stamp = None  # `load` says why
        if self._keys is None or stamp is None or stamp != self._stamp:
            self._keys, self._stamp = load(self.path), stamp
        return self._keys


def create(folder: Path, at: datetime) -> Keys:
    """Make the first key of a ledger.

    A first key without a keyring, left by a set-up that died in between, is taken as it is: no key is ever overwritten.

    Raises:
        SetupError: there are keys already, or the folder cannot be written.
    """
    with _locked(folder):
        if (folder / KEYRING_NAME).exists():
            raise SetupError(
                f"{folder / KEYRING_NAME}: the ledger has its keys. Use `gatehouse keys rotate` to get new ones."
            )
        stray = sorted(path.name for path in folder.glob("epoch-*.key") if path != _key_path(folder, 0))
        if stray:
            raise SetupError(
                f"{folder}: it holds {stray[0]} but no {KEYRING_NAME}. Restore {KEYRING_NAME} from a backup; "
                "without it old capsules cannot be verified."
            )
        first = _key_path(folder, 0)
        key = _read_key(first) if first.exists() else _make_key(first)
        return _publish(folder, Keyring((_epoch(0, key, at, {}),)), key)


def create_missing(folder: Path, at: datetime) -> bool:
    """Make the first key where the folder has none; return whether this process made it.

    Raises:
        SetupError: it cannot be made.
    """
    if (folder / KEYRING_NAME).exists():
        return False
    try:
        create(folder, at)
    except SetupError:
        if (folder / KEYRING_NAME).exists():  # another process was quicker
            return False
        raise
    return True


def load(folder: Path) -> Keys:
    """Read the keys that `create` or `rotate` left.

    Raises:
        SetupError: they are not there, broken, readable by others, or do not belong together.
    """
    keyring = read_keyring(folder / KEYRING_NAME)
    path = _key_path(folder, keyring.active.number)
    key = _read_key(path)
    if bytes(key.verify_key) != keyring.active.public_key:
        raise SetupError(
            f"{path}: it is not the key that {KEYRING_NAME} says is active. Restore both from the same backup."
        )
    return Keys(keyring, Signer(key), folder)


def rotate(folder: Path, starts: Mapping[str, int], at: datetime) -> Keys:
    """Retire the active key and make the next one. The new keyring.json is the moment it counts.

    Hold the head of every chain meanwhile: `starts` gives for each chain that has records its next sequence, and a
    record the old key signs from there on will not verify.

    Raises:
        SetupError: as `load` and `create`.
    """
    with _locked(folder):
        old = load(folder).keyring
        number = old.active.number + 1
        path = _key_path(folder, number)
        # Left by a rotation that died before its keyring was there; that key has never signed.
        path.unlink(missing_ok=True)
        key = _make_key(path)
        epochs = (*old.epochs[:-1], replace(old.active, retired_at=at), _epoch(number, key, at, dict(starts)))
        keys = _publish(folder, Keyring(epochs), key)
        for retired_key in set(folder.glob("epoch-*.key")) - {path}:
            retired_key.unlink()
        return keys


def _epoch(number: int, key: SigningKey, at: datetime, starts: Mapping[str, int]) -> Epoch:
    public_key = bytes(key.verify_key)
    return Epoch(number, public_key, fingerprint(public_key), at, None, starts)


def _key_path(folder: Path, number: int) -> Path:
    return folder / f"epoch-{number}.key"


def _make_key(path: Path) -> SigningKey:
    key = SigningKey.generate()
    write_whole(path, [f"{bytes(key).hex()}\n".encode()])
    return key


def _read_key(path: Path) -> SigningKey:
    try:
        with path.open() as file:
            status = os.fstat(file.fileno())
            if stat.S_IMODE(status.st_mode) & 0o077:
                raise SetupError(
                    f"{path}: others than its owner may read this private key. Run `chmod 600 {path}`, "
                    "and `gatehouse keys rotate` when somebody may have."
                )
            text = file.read(128).strip()
    except FileNotFoundError:
        raise SetupError(f"{path}: the ledger's private key is not there. Restore it from a backup.") from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise SetupError(f"{path}: {reason}. The gateway's user must be able to read it.") from None
    if not _SEED.fullmatch(text):
        raise SetupError(f"{path}: it does not hold an Ed25519 key in hex. Restore it from a backup.")
    return SigningKey(bytes.fromhex(text))


def _publish(folder: Path, keyring: Keyring, key: SigningKey) -> Keys:
    """Put keyring.json in place, whole or not at all."""
    write_whole(folder / KEYRING_NAME, [keyring.to_json().encode()], 0o644)
    return Keys(keyring, Signer(key), folder)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold the folder for this process."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            yield
        finally:
            os.close(fd)
    except OSError as error:
        raise SetupError(f"{error.filename or folder}: {error.strerror}. Let the gateway's user write there.") from None
