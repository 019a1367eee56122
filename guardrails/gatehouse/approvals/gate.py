"""The stage that lets a call through once named people have approved exactly that call.

A held connection waits for them within the rule's `hold`; otherwise its caller is told to come back with the approval's
id. Whoever comes back with the same request finds the same approval, on any gateway and after any restart.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, Final, TypeVar
from uuid import UUID

import psycopg

from gatehouse.approvals import queries, store
from gatehouse.approvals.audit_entries import AuditEntries, Change
from gatehouse.approvals.binding import Bound, Unbindable, bind, edited_digest
from gatehouse.approvals.caller_options import CallerOptions
from gatehouse.approvals.lifecycle import made_by
from gatehouse.approvals.model import Approval, Edit, NewApproval, State
from gatehouse.approvals.notices import tell_requested
from gatehouse.approvals.review_copy import seal
from gatehouse.approvals.waiting import Waiting
from gatehouse.core import metrics
from gatehouse.core.clock import monotonic
from gatehouse.core.errors import (
    ApprovalMismatch,
    ApprovalRequired,
    Cancelled,
    ContentBlocked,
    GovernanceError,
    GovernanceUnavailable,
)
from gatehouse.core.keys import InstallationKeys, Purpose
from gatehouse.policy.model import ApproversPolicy
from gatehouse.storage import people
from gatehouse.storage.connection import Connection, Pool

# In which a request must be decided on and used: a reviewer's working day, and the caller who comes back for it.
EXPIRES_IN_S: Final = 8 * 3600.0
_OVERDUE_EVERY_S: Final = 30.0

log = logging.getLogger("gatehouse.approvals")

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class ApprovalRequest:
    """A call that people must approve.

    Attributes:
        body: as it would go upstream.
        values: what each placeholder in it stands for.
        keys: what these are bound and kept with.
        most_open: how many approvals of one key may be open at once.
        rules: ids of the rules that want it, and `approvers` what each says of who may.
        approval_id: the one that the caller names, as they wrote it.
        options: what else the caller wants.
        left: set when the client is gone.
        edit: does to the body what an approver made of the request, once the policy allows that under the rules that
            were approved; without it what was edited is refused.
    """

    caller: Mapping[str, str]
    route: str
    model: str | None
    policy_version: str
    rules: tuple[str, ...]
    reason: str | None
    approvers: Sequence[ApproversPolicy | None]
    body: Mapping[str, Any] = field(repr=False)
    summary: Mapping[str, Any] = field(repr=False)
    keys: InstallationKeys
    most_open: int
    values: Mapping[str, str] = field(default_factory=dict, repr=False)
    approval_id: str | None = None
    options: CallerOptions = field(default_factory=CallerOptions)
    left: asyncio.Event = field(default_factory=asyncio.Event)
    edit: Callable[[Edit, tuple[str, ...]], Awaitable[None]] | None = field(default=None, repr=False)


class Gate:
    """One gateway process's.

    Args:
        addresses: who is told of requests, by name.
        entries: writes down what this gateway asked and ended.
    """

    def __init__(
        self, database_url: str, pool: Pool, addresses: Sequence[str] = (), entries: AuditEntries | None = None
    ) -> None:
        self._addresses = tuple(addresses)
        self._entries = entries or AuditEntries()
        self._waiting = Waiting(database_url, pool)
        self._pool = pool
        self._overdue: asyncio.Task[None] | None = None
        self._leaving: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Begin to hear of votes, and to write down what nobody decided in time."""
        await self._waiting.start()
        self._overdue = asyncio.create_task(self._expire(), name="gatehouse-approvals-expire")

    async def stop(self) -> None:
        """Stop; calls that are held are told to come back."""
        if self._overdue is not None:
            self._overdue.cancel()
        await self._waiting.stop()

    async def admit(self, asked: ApprovalRequest) -> Approval:
        """Return once the call is approved, with its body as it was; its approval is used up then.

        Raises:
            PolicyDenied, LimitExceeded: what an approver made of the request may not be sent.
            ApprovalRequired, ApprovalRejected, ApprovalExpired, ApprovalMismatch: not now, or not at all.
            Cancelled: the client left; so did the request for approval.
            TooManyRequests: the key has as many open as it may.
            GovernanceUnavailable: the database is away.
        """
        whole = _bound(asked)
        bound = whole.digest
        who, hold_s = _approvers(asked.approvers)
        approval_id = await self._named_or_new(asked, whole, who)
        if asked.options.only_ask:
            raise await self._why_not(approval_id, bound, asked)
        if asked.options.hold_s is not None:
            hold_s = min(hold_s, asked.options.hold_s)
        if hold_s > 0:
            approval_id = await self._hold(approval_id, bound, asked, hold_s)
        used = await self._use(approval_id, bound, asked) or await self._use_edited(approval_id, bound, asked)
        if used is None:
            raise await self._why_not(approval_id, bound, asked)
        metrics.approvals.labels("used").inc()
        return used

    async def give_back(self, used: Approval) -> bool:
        """Make an approval good again whose call will not be sent after all; whether that could be done."""
        try:
            returned = await self._database(lambda connection: store.give_back(connection, used.id))
        except GovernanceUnavailable:
            returned = False
        if returned:
            metrics.approvals.labels("returned").inc()
        else:
            log.warning("approval %s stays used although its call was not sent", used.id)
        return returned

    async def _use(self, approval_id: UUID, bound: str, asked: ApprovalRequest) -> Approval | None:
        return await self._database(lambda connection: store.consume(connection, approval_id, bound, asked.caller))

    async def _use_edited(self, approval_id: UUID, bound: str, asked: ApprovalRequest) -> Approval | None:
        """Use the approval that an approver's edit made of this one; None where there is none that is approved."""
        found = await self._database(lambda connection: queries.latest(connection, approval_id))
        approval = found[0] if found else None
        if approval is None or approval.edit is None or approval.state is not State.APPROVED or asked.edit is None:
            return None
        if (approval.asked, approval.key_hash) != (bound, asked.caller.get("key_hash")):
            return None
        await asked.edit(approval.edit, approval.rule_ids)
        return await self._use(approval.id, edited_digest(bound, approval.edit), asked)

    async def _why_not(self, approval_id: UUID, bound: str, asked: ApprovalRequest) -> GovernanceError:
        refusal = await self._database(lambda connection: store.why_not(connection, approval_id, bound, asked.caller))
        if isinstance(refusal, ApprovalRequired):
            metrics.approvals.labels("required").inc()
        return refusal

    async def _named_or_new(self, asked: ApprovalRequest, bound: Bound, who: Mapping[str, Any]) -> UUID:
        if asked.approval_id is not None:
            try:
                return UUID(asked.approval_id)
            except ValueError:
                raise ApprovalMismatch("You have no approval by that id. Ask again without one.") from None
        new = NewApproval(
            digest=bound.digest,
            requested_by=asked.caller,
            route=asked.route,
            model=asked.model,
            rule_ids=asked.rules,
            reason=asked.reason,
            policy_version=asked.policy_version,
            approvers=who,
            expires_in_s=EXPIRES_IN_S,
            summary=asked.summary,
            most_open=asked.most_open,
            copy=await asyncio.to_thread(seal, asked.keys, bound, asked.values),
        )
        opened = await self._database(lambda connection: self._open(connection, new))
        if opened.id == new.id:
            metrics.approvals.labels("requested").inc()
        return opened.id

    async def _open(self, connection: Connection, new: NewApproval) -> Approval:
        changes: list[Change] = []
        if not new.requested_by.get("user"):
            maker = await people.maker_of(connection, new.requested_by.get("key_hash"))
            new = replace(new, requested_by=made_by(new.requested_by, maker))
        async with connection.transaction():
            opened = await store.open_request(connection, new, changes)
            if opened.id == new.id and self._addresses:
                await tell_requested(connection, opened, self._addresses)
        self._entries.note(changes)
        return opened

    async def _abandon(self, connection: Connection, approval_id: UUID, bound: str, asked: ApprovalRequest) -> None:
        changes: list[Change] = []
        await store.abandon(connection, approval_id, bound, asked.caller, changes)
        self._entries.note(changes)

    async def _expire_due(self, connection: Connection) -> None:
        changes: list[Change] = []
        await store.expire_due(connection, changes)
        self._entries.note(changes)

    async def _hold(self, approval_id: UUID, bound: str, asked: ApprovalRequest, hold_s: float) -> UUID:
        """Until it is decided, or the time is over, or the client has left; returns what an edit made of it, if any."""
        if asked.approval_id is not None:  # theirs, and for this request? Nobody waits for what is not
            refusal = await self._database(
                lambda connection: store.why_not(connection, approval_id, bound, asked.caller)
            )
            if not isinstance(refusal, ApprovalRequired):
                raise refusal
        until = monotonic() + hold_s
        while (left_s := until - monotonic()) > 0:
            approval = await self._decided(approval_id, bound, asked, left_s)
            if approval.replaced_by is None:
                break
            approval_id = approval.replaced_by
        return approval_id

    async def _decided(self, approval_id: UUID, bound: str, asked: ApprovalRequest, hold_s: float) -> Approval:
        decided = asyncio.create_task(self._waiting.decided(approval_id, hold_s))
        gone = asyncio.create_task(asked.left.wait())
        leaving: asyncio.Task[None] | None = None
        try:
            with metrics.held.track_inprogress():
                await asyncio.wait({decided, gone}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            # In a task of its own, and before anything is awaited: LiteLLM cancels this one when the client of a stream
            # that it has kept alive leaves.
            if asked.left.is_set():
                leaving = asyncio.create_task(self._leave(approval_id, bound, asked), name="gatehouse-approvals-leave")
                self._leaving.add(leaving)
                leaving.add_done_callback(self._leaving.discard)
            for task in (decided, gone):
                task.cancel()
            await asyncio.gather(decided, gone, return_exceptions=True)
        if leaving is None:
            return decided.result()
        await asyncio.shield(leaving)
        raise Cancelled("The client left before the request was approved.")

    async def _leave(self, approval_id: UUID, bound: str, asked: ApprovalRequest) -> None:
        """Take back what was asked for, if it is undecided; where that fails its time will end it."""
        with suppress(GovernanceUnavailable):
            await self._database(lambda connection: self._abandon(connection, approval_id, bound, asked))

    async def _expire(self) -> None:
        while True:
            await asyncio.sleep(_OVERDUE_EVERY_S)
            with suppress(GovernanceUnavailable):
                await self._database(self._expire_due)

    async def _database(self, work: Callable[[Connection], Awaitable[_T]]) -> _T:
        try:
            async with self._pool.connection() as connection:
                return await work(connection)
        except (psycopg.OperationalError, OSError):
            raise GovernanceUnavailable("Approvals cannot be looked up now. Try again soon.") from None


def _bound(asked: ApprovalRequest) -> Bound:
    """What the call's approval is bound to.

    Raises:
        ContentBlocked: it cannot be bound.
    """
    try:
        return bind(
            caller=asked.caller,
            route=asked.route,
            body=asked.body,
            policy_version=asked.policy_version,
            values=asked.values,
            key=asked.keys.key(Purpose.APPROVALS),
        )
    except Unbindable as unbindable:
        raise ContentBlocked(
            f"The request cannot be put up for approval: {unbindable}.", policies=asked.rules
        ) from None


def _approvers(wanted: Sequence[ApproversPolicy | None]) -> tuple[dict[str, Any], float]:
    """Who may approve for all the rules that want it, and how long the connection waits.

    Rules that name the same people are of one mind; where they differ, only an administrator speaks for all of them.
    """
    named = [each or ApproversPolicy() for each in wanted]
    who = {
        (frozenset(each.roles), frozenset(each.users), frozenset(each.teams)): {
            "roles": list(each.roles),
            "users": list(each.users),
            "teams": list(each.teams),
        }
        for each in named
    }
    people = next(iter(who.values())) if len(who) == 1 else {}
    return {**people, "count": max((each.count for each in named), default=1)}, max(
        (each.hold for each in named), default=0.0
    )
