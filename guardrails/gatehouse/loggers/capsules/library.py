"""Writes capsules through `Capsules` of qp-capsule, the protocol's own library: its chain, its key and its storage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from gatehouse.core.errors import SetupError
from gatehouse.loggers.capsules.store import Unavailable
from gatehouse.providers import background


class LibraryStore:
    """Append to the chain of one `Capsules`, on an event loop of Gatehouse's own.

    The storage stays open for its owner, who closes it with `await capsules.close()`.

    Args:
        capsules: an object of qp-capsule's class `Capsules`.

    Raises:
        SetupError: its storage cannot be read, so that every record would be lost.
    """

    def __init__(self, capsules: Any) -> None:
        from qp_capsule import Capsule  # installed, because `capsules` is an object of it

        self._capsules = capsules
        self._capsule = Capsule
        try:
            background.loop().run(capsules.chain.storage.get_latest())
        except Exception as error:
            raise SetupError(
                f"capsules: qp-capsule cannot read its storage ({type(error).__name__}: {error}). Its extras `storage` "
                "and `postgres` bring the drivers: pip install 'qp-capsule[storage]'."
            ) from None
        self._stored: set[str] = set()

    def append(self, documents: Sequence[Mapping[str, Any]], at: datetime) -> None:
        """Seal and store each document behind the one before; one that an earlier attempt stored is left out.

        Raises:
            Unavailable: the library could not store one now.
        """
        background.loop().run(self._append(documents))
        self._stored.clear()

    async def _append(self, documents: Sequence[Mapping[str, Any]]) -> None:
        for document in documents:
            if document["id"] in self._stored:
                continue
            capsule = self._capsule.from_dict(dict(document))
            try:
                await self._capsules.chain.seal_and_store(capsule, seal=self._capsules.seal)
            except Exception as error:
                raise Unavailable(f"qp-capsule raised {type(error).__name__}") from None
            self._stored.add(document["id"])

    def close(self) -> None:
        """Leave the storage open, because it is its owner's."""
