"""The desk: what people do with approvals, through whatever they come. They look, open, vote, edit, cancel and follow.

Promises: a person learns of no approval that is neither theirs nor theirs to decide on; each change is in the audit log
once, by the gateway that made it, and so is each opening of the values behind placeholders, before they are seen. Every
refusal is a `GovernanceError`; those who call the desk only say it in their own way.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, TypeAlias
from uuid import UUID

import psycopg

from gatehouse.approvals import queries, store
from gatehouse.approvals.audit_entries import AuditEntries, Change
from gatehouse.approvals.event_stream import ApprovalEvent, EventStream, Subscriber
from gatehouse.approvals.lifecycle import NoVote, may_open, may_see, may_vote
from gatehouse.approvals.model import Approval, Edit, State, Voter
from gatehouse.approvals.queries import Happening
from gatehouse.approvals.review_copy import open_request, open_values
from gatehouse.core.errors import AccessDenied, Gone, GovernanceUnavailable, InvalidRequest, NotFound
from gatehouse.core.keys import InstallationKeys
from gatehouse.core.text import clean
from gatehouse.storage import people
from gatehouse.storage.connection import Connection, Pool

MAX_PAGE: Final = 200
"""Approvals on a page."""

MAX_COMMENT_CHARS: Final = 2_000
MAX_MODEL_CHARS: Final = 256

# The desk reads so many approvals for one page of a person who may see few of them.
_MAX_READ: Final = 2_000
_MAX_PENDING: Final = 500


@dataclass(frozen=True, slots=True)
class KeyHolder:
    """The user of a key, which may belong to a team. The desk reads their teams on the connection of their request."""

    user_id: str | None
    role: str | None
    team_id: str | None
    key_hash: str | None

    async def voter(self, connection: Connection) -> Voter:
        """Return this person with the teams that LiteLLM's tables name."""
        teams = await people.teams_of(connection, self.user_id, self.team_id)
        return Voter(self.user_id, self.role, teams, self.key_hash)


Who: TypeAlias = Voter | KeyHolder


@dataclass(frozen=True, slots=True)
class Seen:
    """An approval as one person sees it. `at` is the database's time then."""

    approval: Approval
    by: Voter
    at: datetime

    @property
    def refusal(self) -> NoVote | None:
        """Say why they may not vote on it; None when they may."""
        return may_vote(self.approval, self.by, self.at)


@dataclass(frozen=True, slots=True)
class Opened:
    """A request as its approval binds it.

    Attributes:
        request: caller, route, body, policy_version; SHA-256 of its RFC 8785 form is `approval.asked`.
        values: what each placeholder stands for; None where they were not asked for.
    """

    approval: Approval
    request: Mapping[str, Any] = field(repr=False)
    values: Mapping[str, str] | None = field(default=None, repr=False)


class Desk:
    """One gateway process's.

    Args:
        keys: the reviewers' copies of requests are encrypted under these.
        entries: writes down what is done here.
        may_use: says whether the key with this hash may use this model; every doubt is a no.
    """

    def __init__(
        self,
        database_url: str,
        pool: Pool,
        keys: InstallationKeys,
        entries: AuditEntries,
        may_use: Callable[[str | None, str], Awaitable[bool]],
    ) -> None:
        self._pool = pool
        self._keys = keys
        self._entries = entries
        self._may_use = may_use
        self._events = EventStream(database_url, pool)

    async def see(self, approval_id: UUID, by: Who) -> Seen:
        """Return one approval.

        Raises:
            NotFound: there is none by that id that they may see. The other functions raise it too.
        """
        async with self._database(by) as (connection, voter):
            return await _see(connection, approval_id, voter)

    async def see_all(self, approval_ids: Sequence[UUID], by: Who) -> list[Seen]:
        """Return those of these approvals that they may see, in this order."""
        async with self._database(by) as (connection, voter):
            return await _see_all(connection, approval_ids, voter)

    async def page(
        self, by: Who, state: State | None, limit: int, before: UUID | None
    ) -> tuple[list[Seen], UUID | None]:
        """Return what they may see, newest first, and where the next page begins; a page may be short."""
        async with self._database(by) as (connection, voter):
            found, following = await _page(connection, voter, state, limit, before)
            at = await people.now(connection)
            return [Seen(each, voter, at) for each in found], following

    async def history(self, approval_id: UUID, by: Who) -> tuple[Seen, list[Happening]]:
        """Return one approval and what happened to it, in order."""
        async with self._database(by) as (connection, voter):
            return await _see(connection, approval_id, voter), await queries.history(connection, approval_id)

    async def open(self, approval_id: UUID, by: Who, *, values: bool = False) -> Opened:
        """Open the whole request, with what its placeholders stand for where `values` are asked for.

        Raises:
            AccessDenied: they may not.
            Gone: the approval is over, or there is no copy of its request.
        """
        async with self._database(by) as (connection, voter):
            seen = await _see(connection, approval_id, voter)
            approval = seen.approval
            if (refused := may_open(approval, voter, seen.at, values=values)) is not None:
                raise refused
            kept = await queries.copy_of(connection, approval_id)
        if kept is None:
            raise Gone("The copy of this request is erased, or was never made. Its summary is what is left.")
        request = await asyncio.to_thread(open_request, self._keys, kept, approval.asked)
        if not values:
            return Opened(approval, request)
        found = open_values(self._keys, kept, approval.asked)
        self._entries.opened(approval, voter)
        return Opened(approval, request, found)

    async def vote(
        self, approval_id: UUID, by: Who, *, approve: bool, comment: str | None = None, edit: Edit | None = None
    ) -> Seen:
        """Count a person's vote, as `store.vote` does; return the approval after it.

        Raises:
            AccessDenied: they may not vote on it, or the key that asked may not use the model of the edit.
        """
        if not clean(by.user_id):
            raise NoVote.NOBODY.error
        async with self._database(by) as (connection, voter):
            seen = await _see(connection, approval_id, voter)
            if seen.refusal is not None:  # the store asks again once the approval is locked
                raise seen.refusal.error
            if edit is not None:
                await self._check_model(seen.approval, edit.model)
            with self._written() as changes:
                voted = await store.vote(
                    connection, approval_id, voter, approve=approve, comment=comment, edit=edit, changes=changes
                )
            return Seen(voted, voter, await people.now(connection))

    async def cancel(self, approval_id: UUID, by: Who) -> Seen:
        """Take an open approval back, as `store.cancel` does; return the approval after it."""
        async with self._database(by) as (connection, voter):
            await _see(connection, approval_id, voter)
            with self._written() as changes:
                over = await store.cancel(connection, approval_id, voter, changes)
            return Seen(over, voter, await people.now(connection))

    @asynccontextmanager
    async def follow(self, by: Who) -> AsyncIterator[tuple[list[ApprovalEvent], Subscriber]]:
        """Tell a person of what waits for a decision, oldest first, and of everything that happens from now on."""
        # Those who wait for the event stream hold no connection: the stream needs one to begin.
        async with self._database(by) as (_, voter):
            pass
        async with self._events.subscribe(voter) as subscriber:
            async with self._database(voter) as (connection, _):
                pending = await queries.list_(connection, State.REQUESTED, _MAX_PENDING)
            waiting = [ApprovalEvent(each, State.REQUESTED, each.requested_at) for each in reversed(pending)]
            yield [each for each in waiting if subscriber.is_told(each)], subscriber

    async def _check_model(self, approval: Approval, model: str | None) -> None:
        """Look at a reviewer's choice of a model before it counts."""
        if model is None:
            return
        if len(model) > MAX_MODEL_CHARS:
            raise InvalidRequest(f"edit: a model's name has at most {MAX_MODEL_CHARS} characters. Choose another one.")
        if not await self._may_use(approval.key_hash, model):
            raise AccessDenied("edit: the key that asked may not use this model. Choose one that it may.")

    @contextmanager
    def _written(self) -> Iterator[list[Change]]:
        """Write down the changes that the store has committed, also where it fails after that."""
        changes: list[Change] = []
        try:
            yield changes
        finally:
            self._entries.note(changes)

    @asynccontextmanager
    async def _database(self, by: Who) -> AsyncIterator[tuple[Connection, Voter]]:
        try:
            async with self._pool.connection() as connection:
                yield connection, by if isinstance(by, Voter) else await by.voter(connection)
        except (psycopg.Error, OSError):
            raise GovernanceUnavailable("The database does not answer. Try again soon.") from None


async def _see(connection: Connection, approval_id: UUID, by: Voter) -> Seen:
    seen = await _see_all(connection, [approval_id], by)
    if not seen:
        raise NotFound("There is no approval by that id that you may see. Look at the list of approvals.")
    return seen[0]


async def _see_all(connection: Connection, approval_ids: Sequence[UUID], by: Voter) -> list[Seen]:
    found = {approval.id: Seen(approval, by, at) for approval, at in await queries.get_many(connection, approval_ids)}
    return [found[each] for each in approval_ids if each in found and may_see(found[each].approval, by)]


async def _page(
    connection: Connection, by: Voter, state: State | None, limit: int, cursor: UUID | None
) -> tuple[list[Approval], UUID | None]:
    found: list[Approval] = []
    read, size = 0, limit  # most people who look at pages may see all of them
    while read < _MAX_READ:
        batch = await queries.list_(connection, state, size, cursor)
        for each in batch:
            read, cursor = read + 1, each.id
            if may_see(each, by):
                found.append(each)
                if len(found) == limit:
                    return found, cursor
        if len(batch) < size:
            return found, None
        size = MAX_PAGE
    return found, cursor
