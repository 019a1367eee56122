"""Makes and reads `.env`, which holds the settings and secrets of Docker and embedded mode alike.

Promises: only `change` changes a value that is set; the file has mode 0600 from its first byte; it is replaced as a
whole or not at all. It imports the standard library only: setup.sh runs it before anything is installed.
"""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from gatehouse.core.errors import SetupError
from gatehouse.core.files import write_whole

GENERATED: Mapping[str, Callable[[], str]] = {
    # 32 bytes are 43 characters of base64url, as strong as the AES-256 and SHA-256 keys that come from them.
    "LITELLM_MASTER_KEY": lambda: "sk-gatehouse-" + secrets.token_urlsafe(32),
    "LITELLM_SALT_KEY": lambda: secrets.token_urlsafe(32),
    "GATEHOUSE_SECRET": lambda: secrets.token_urlsafe(32),
    "UI_PASSWORD": lambda: secrets.token_urlsafe(18),
    "POSTGRES_PASSWORD": lambda: secrets.token_urlsafe(32),
    "GATEHOUSE_DB_PASSWORD": lambda: secrets.token_urlsafe(32),
    "REDIS_PASSWORD": lambda: secrets.token_urlsafe(32),
    "GATEHOUSE_METRICS_TOKEN": lambda: secrets.token_urlsafe(32),
    # The owner of the files that the container writes; never root, because the container does not run as root.
    "GATEHOUSE_UID": lambda: str(os.getuid() or 1000),
    "GATEHOUSE_GID": lambda: str(os.getgid() or 1000),
}


@dataclass(frozen=True)
class EnvFile:
    """Report what `ensure` found or made. `new_master_key` is set only if this call made the key."""

    path: Path
    created: bool
    added: tuple[str, ...]
    tightened: bool
    new_master_key: str | None

    def notes(self) -> list[str]:
        """Return lines for a person: the changes, and once a new master key in full."""
        lines = []
        if self.created:
            lines.append(f"Made {self.path} with new secrets. Only you can read it.")
        elif self.added:
            lines.append(f"Added to {self.path}: {', '.join(self.added)}.")
        if self.tightened:
            lines.append(f"Others could read {self.path}; now only you can.")
        if self.new_master_key:
            lines.append(f"New master key, shown only now and stored in .env: {self.new_master_key}")
        return lines


def assignment(line: str) -> tuple[str, str] | None:
    """Read one line as Docker Compose does: drop quotes, end a bare value at ` #`. Return None for any other line."""
    key, separator, value = line.strip().removeprefix("export ").partition("=")
    key, value = key.strip(), value.strip()
    if not separator or not key.isidentifier():
        return None
    if value[:1] in ("'", '"'):
        end = value.find(value[0], 1)
        return (key, value[1:end]) if end > 0 else (key, value[1:])
    if value.startswith("#"):
        return key, ""
    return key, value.partition(" #")[0].rstrip()


def parse(text: str) -> dict[str, str]:
    """Return the assignments of an env file; of a repeated key the last one counts."""
    return dict(pair for line in text.splitlines() if (pair := assignment(line)))


def complete(existing: str | None, template: str) -> tuple[str, dict[str, str]]:
    """Return the text that `.env` should have, and the keys that were filled in or added, with their values.

    Lines of `existing` stay as they are, except that an empty secret is filled in (as in a copied `.env.example`). A
    key of the template that `existing` lacks is appended with the comment above it.
    """
    base = template if existing is None else existing
    values = parse(base)
    added = {key: make() for key, make in GENERATED.items() if values.get(key) == ""}

    def filled(line: str) -> str:
        key, value = assignment(line) or ("", "")
        return f"{key}={added[key]}" if key in added and not value else line

    lines = [filled(line) for line in base.splitlines()]
    comment: list[str] = []
    for line in template.splitlines():
        pair = assignment(line)
        if pair is None:
            comment = [*comment, line] if line.strip() else []
            continue
        key, value = pair
        if key not in values:
            added[key] = value or GENERATED.get(key, str)()
            lines += ["", *comment, f"{key}={added[key]}"]
        comment = []
    return "\n".join(lines) + "\n", added


def ensure(home: Path) -> EnvFile:
    """Make `home/.env` from `home/.env.example`, or add what a newer version needs.

    Raises `SetupError` when the template is missing or the folder cannot be written.
    """
    path = home / ".env"
    try:
        template = (home / ".env.example").read_text(encoding="utf-8")
    except OSError as error:
        raise SetupError(f"{home / '.env.example'}: {error.strerror}. Restore it from the repository.") from error
    try:
        return _ensure(path.resolve(), template)
    except OSError as error:
        raise SetupError(
            f"{path}: {error.strerror}. Make the folder and the file writable for this user, then run it again."
        ) from error


def _ensure(path: Path, template: str) -> EnvFile:
    existing = path.read_text(encoding="utf-8") if path.exists() else None
    text, values = complete(existing, template)
    added, master_key = tuple(values), values.get("LITELLM_MASTER_KEY")
    if existing is None:
        try:
            _write_new(path, text)
        except FileExistsError:  # another setup was faster: its file counts
            return _ensure(path, template)
        return EnvFile(path, created=True, added=added, tightened=False, new_master_key=master_key)
    found = path.stat()
    tightened = bool(stat.S_IMODE(found.st_mode) & 0o077)
    if added:
        # Root that adds a key must not take the file away from its owner.
        write_whole(path, [text.encode()], owner=found)
    elif tightened:
        path.chmod(0o600)
    return EnvFile(path, created=False, added=added, tightened=tightened, new_master_key=master_key)


def change(home: Path, key: str, value: str) -> Path:
    """Set a key that `home/.env` has, and change no other byte; return the file.

    Raises:
        SetupError: the file is missing or cannot be written, or lacks the key.
    """
    path = home / ".env"
    try:
        target = path.resolve(strict=True)
        lines = target.read_bytes().decode("utf-8").splitlines(keepends=True)
        at = [index for index, line in enumerate(lines) if (assignment(line) or ("",))[0] == key]
        if not at:
            raise SetupError(f"{path}: {key} is not in it. Run ./setup.sh or `gatehouse init`, which adds it.")
        # The last assignment counts.
        ending = lines[at[-1]][len(lines[at[-1]].rstrip("\r\n")) :]
        lines[at[-1]] = f"{key}={value}{ending}"
        write_whole(target, ["".join(lines).encode()], owner=target.stat())
    except OSError as error:
        raise SetupError(f"{path}: {error.strerror}. Run this as the user who owns the file and its folder.") from error
    return path


def _write_new(path: Path, text: str) -> None:
    temporary = path.with_name(f".env.{secrets.token_hex(8)}.tmp")
    write_whole(temporary, [text.encode()])
    try:
        os.link(temporary, path)  # unlike a rename, a link never replaces an existing file
    finally:
        temporary.unlink()


def load(home: Path) -> dict[str, str]:
    """Return the settings in `home/.env`. Raises `SetupError` when it is missing or unreadable."""
    try:
        return parse((home / ".env").read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise SetupError(f"{home / '.env'}: it does not exist. Run `gatehouse init`.") from error
    except OSError as error:
        raise SetupError(f"{home / '.env'}: {error.strerror}. Run this as the user who owns it.") from error
