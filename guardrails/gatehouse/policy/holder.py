"""Holds the policy in force while its file changes: a valid file replaces it, an invalid one changes nothing.

It has no thread and no timer: the gateway calls `refresh` about once a second.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

from gatehouse.core.clock import now
from gatehouse.core.errors import SetupError
from gatehouse.policy.load import LoadedPolicy, load_policy

# A file that changed so recently may change again within the same tick of the file system's clock.
_RACY_S = 2.0


class PolicyHolder:
    """Hold one policy file's last valid content.

    Attributes:
        current: the policy in force.
        error: why the newest file is not in force; None while it is.
    """

    def __init__(self, path: Path, on_load: Callable[[bool], None] = lambda good: None) -> None:
        """Load the file. It must be valid, because there is no earlier policy.

        Args:
            on_load: called after each load of a changed file, with whether it is now in force; for a metric.

        Raises:
            SetupError: it names the file, the line and what was expected.
        """
        self._path = path
        self._on_load = on_load
        self._seen: object = self._signature()
        self.current: LoadedPolicy = load_policy(path)
        self.error: str | None = None
        self._read = self.current.version

    def refresh(self) -> bool:
        """Load the file if it has changed. Return True when another policy is in force now.

        It costs one `stat` while nothing changes, follows symbolic links, and notices a file that was replaced.
        """
        signature = self._signature()
        if signature is not None and signature == self._seen:
            return False
        self._seen = signature
        try:
            raw = self._path.read_bytes()
        except OSError as error:
            return self._keep("", f"{self._path}: {error.strerror}. The earlier policy stays in force.")
        version = hashlib.sha256(raw).hexdigest()
        if version == self._read:
            return False
        if version == self.current.version:
            self._read, self.error = version, None
            self._on_load(True)
            return False
        try:
            loaded = load_policy(self._path, raw)
        except SetupError as error:
            return self._keep(version, f"{error} The earlier policy stays in force.")
        self.current, self._read, self.error = loaded, version, None
        self._on_load(True)
        return True

    def _keep(self, version: str, error: str) -> bool:
        if (self._read, self.error) != (version, error):
            self._read, self.error = version, error
            self._on_load(False)
        return False

    def _signature(self) -> object:
        """Return what changes with the file; None where that is unreliable, so that its bytes are compared."""
        try:
            stat = os.stat(self._path)
        except OSError:
            return None
        if abs(now().timestamp() - stat.st_ctime) < _RACY_S:
            return None
        return stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns
