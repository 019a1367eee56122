"""The folder that an outside witness collects: checkpoints by chain, and the public keys to check them with.

`<chain>/<size>.checkpoint` and `<chain>/latest`; `<chain>/verifier-keys`, one C2SP verifier key a line; `keyring.json`.
Promises: every file is whole, readable by everybody, and on the disk before it counts.
"""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path
from urllib.parse import quote

from gatehouse.capsule.checkpoint import Checkpoint, InvalidNote, Verifier, origin_of
from gatehouse.capsule.keyring import Keyring
from gatehouse.core.files import write_whole

LATEST = "latest"
SUFFIX = ".checkpoint"

# Of a file, in bytes, on every file system that is in use.
_LONGEST_NAME = 255


class WitnessFolder:
    """The folder, with what of it is known to this process."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._sizes: dict[str, int] = {}
        self._published: dict[str, Keyring] = {}

    def folder(self, chain: str) -> Path:
        """Where a chain's checkpoints lie. A chain's name is never `.` or `..`: it begins with a word."""
        name = quote(chain, safe="")
        if len(name) > _LONGEST_NAME:  # `=` is in no quoted name, so this is no other chain's
            name = f"{name[:100]}={sha256(chain.encode()).hexdigest()}"
        return self.path / name

    def publish(self, chain: str, keyring: Keyring) -> None:
        """Lay out the public keys, when they are new or were rotated."""
        if self._published.get(chain) == keyring:
            return
        origin = origin_of(chain)
        keys = "".join(f"{Verifier(origin, epoch.public_key)}\n" for epoch in keyring.epochs)
        _write(self.path / "keyring.json", keyring.to_json().encode())
        _write(self.folder(chain) / "verifier-keys", keys.encode())
        self._published[chain] = keyring

    def latest(self, chain: str) -> bytes | None:
        """The largest checkpoint laid out, unverified."""
        try:
            return (self.folder(chain) / LATEST).read_bytes()
        except FileNotFoundError:
            return None

    def size(self, chain: str) -> int:
        """Leaves under the largest checkpoint laid out; 0 when there is none, or none that can be read."""
        if chain not in self._sizes:
            note = self.latest(chain)
            try:
                self._sizes[chain] = Checkpoint.parse(note.decode().partition("\n\n")[0] + "\n").size if note else 0
            except (InvalidNote, UnicodeDecodeError):
                self._sizes[chain] = 0
        return self._sizes[chain]

    def write(self, chain: str, size: int, note: bytes) -> None:
        """Lay out a checkpoint; `latest` only ever moves forward."""
        path = self.folder(chain) / f"{size:020}{SUFFIX}"
        if not path.exists():
            _write(path, note)
        self._sizes.pop(chain, None)  # another gateway may have written
        if size > self.size(chain):
            _write(self.folder(chain) / LATEST, note)
            self._sizes[chain] = size


def _write(path: Path, data: bytes) -> None:
    """Put a file in place, whole."""
    for folder in (path.parent.parent, path.parent):
        if not folder.exists():
            folder.mkdir(parents=True, exist_ok=True)
            folder.chmod(0o755)
    write_whole(path, [data], 0o644)
