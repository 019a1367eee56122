"""Keeps conversations in memory, in the place of the database: under an id and its owner."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from gatehouse.core.errors import GovernanceUnavailable
from gatehouse.dialects.conversations import StoredId
from gatehouse.pipeline.conversations import Remembered, StoredCall


class Conversations:
    """Remembers the newest of what is kept under an id.

    Attributes:
        kept: what is kept, by owner and id.
        away: nothing can be kept or looked up.
    """

    def __init__(self) -> None:
        self.kept: dict[tuple[str, StoredId], Remembered] = {}
        self.away = False

    async def recall(self, owner: str | None, ids: Collection[StoredId]) -> Remembered | None:
        if self.away and ids:
            raise GovernanceUnavailable("The gateway cannot look up this stored conversation now.")
        found = [self.kept[owner, each] for each in ids if owner is not None and (owner, each) in self.kept]
        return found[-1] if found else None

    async def find(self, owner: str | None, id_: StoredId) -> Remembered | None:
        return await self.recall(owner, [id_])

    async def keep(self, call: StoredCall, ids: Sequence[StoredId], known: Remembered) -> bool:
        if self.away:
            return False
        call.row = 1
        self.kept.update({(call.owner, each): known for each in (*ids, call.conversation) if each is not None})
        return True

    async def forget(self, owner: str, id_: StoredId) -> None:
        self.kept.pop((owner, id_), None)
