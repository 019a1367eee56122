"""The policy in force while its file changes underneath: a good file replaces it, a bad one changes nothing.

No thread and no timer: whoever runs the gateway calls `refresh` about once a second.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

from gatehouse.core.clock import now
from gatehouse.core.errors import SetupError
from gatehouse.policy.load import LoadedPolicy, load_policy

# A file that changed this short a time ago may change again within the same tick of the file system's clock.
_RACY_S = 2.0


class PolicyHolder:
    """Holds one policy file's last good content.

    Attributes:
        current: the policy in force.
        error: why the file as it stands now is not in force; None while it is.
    """

    def __init__(self, path: Path, on_load: Callable[[bool], None] = lambda good: None) -> None:
        """Load the file; there is no earlier policy to fall back on.

        Args:
            on_load: called after each attempt to load a changed file, with whether it is now in force; for a metric.

        Raises:
            SetupError: with file, line and what was expected.
        """
        self._path = path
        self._on_load = on_load
        self._seen: object = self._signature()
        self.current: LoadedPolicy = load_policy(path)
        self.error: str | None = None
        self._read = self.current.version

    def refresh(self) -> bool:
        """Look at the file, and load it when it changed. True when another policy is in force now.

        Costs one `stat` while nothing changes. Follows symbolic links, and notices a file that was replaced.
        """
        signature = self._signature()
        if signature is not None and signature == self._seen:
            return False
        self._seen = signature
        try:
            raw = self._path.read_bytes()
        except OSError as error:
            return self._keep("", f"{self._path}: {error.strerror}. The policy read before stays in force.")
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
            return self._keep(version, f"{error} The policy read before stays in force.")
        self.current, self._read, self.error = loaded, version, None
        self._on_load(True)
        return True

    def _keep(self, version: str, error: str) -> bool:
        if (self._read, self.error) != (version, error):
            self._read, self.error = version, error
            self._on_load(False)
        return False

    def _signature(self) -> object:
        """What changes when the file does; None where that cannot be told, so that its bytes are compared."""
        try:
            stat = os.stat(self._path)
        except OSError:
            return None
        if abs(now().timestamp() - stat.st_ctime) < _RACY_S:
            return None
        return stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns
