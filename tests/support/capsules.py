"""Makes facts of calls, capsules and chains for tests of the ledger."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from gatehouse.capsule.document import DEFAULT_CHAIN, Content, ContentMode, SealedApproval, call_capsule
from gatehouse.capsule.keyring import Keyring
from gatehouse.capsule.keys import Signer
from gatehouse.capsule.seal import GENESIS, Head, SealedCapsule, seal, verify_next
from gatehouse.core.call import Outcome, Status, ToolCallRecord, Usage
from gatehouse.core.decision import Decision, Verdict
from hypothesis import strategies as st

AT = datetime(2026, 1, 2, 3, 4, 5, 678900, UTC)
REQUEST = {
    "route": "/v1/chat/completions",
    "call_type": "acompletion",
    "model": "gpt-4o",
    "stream": True,
    "caller": {"key_hash": "a" * 64, "key_alias": "billing agent", "user": "u-17", "team": "finance"},
    "agent": {"id": "invoices", "session": "s-1"},
}
ALLOWED = Decision(Verdict.ALLOW, ("night-shift",), "b" * 64, "quiet hours")
ANSWERED = Outcome(Status.SUCCESS, 200, "gpt-4o-2024-08-06", "openai", Usage(120, 44, 164), 0.0000015, False)


def capsule(number: int = 0, **changes: Any) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "call_id": UUID(int=0x01990000_0000_7000_8000_000000000000 + number),
        "started_at": AT,
        "request": REQUEST,
        "decision": ALLOWED,
        "outcome": ANSWERED,
        "duration_ms": 812.4,
    }
    return call_capsule(**(facts | changes))


def chain(signer: Signer, documents: Iterable[dict[str, Any]], head: Head = GENESIS) -> list[SealedCapsule]:
    """Seal documents one after the other."""
    rows: list[SealedCapsule] = []
    sequence, previous = head.sequence, head.hash
    for document in documents:
        sequence += 1
        at = AT + timedelta(seconds=sequence, microseconds=sequence)
        rows.append(seal(document, sequence=sequence, previous_hash=previous, signer=signer, at=at))
        previous = rows[-1].hash
    return rows


def verify_chain(
    rows: Iterable[SealedCapsule], keyring: Keyring, *, chain: str | None = None, start: Head = GENESIS
) -> Head:
    """Verify records in the order they come, holding two at a time; return the head that they lead to.

    Raises:
        BrokenChain: the first record that does not verify, and why.
    """
    head, held = start, None
    for row in rows:
        if held is not None:
            head = verify_next(held, keyring, head, chain=chain, following=row)
        held = row
    return head if held is None else verify_next(held, keyring, head, chain=chain)


# Everything a caller controls: any character, lone surrogates and NUL too.
text = st.text(st.characters() | st.sampled_from("\ud800\udfff\0\x1f\x7f\u2028é☃"), max_size=40)
maybe = st.none() | text
requests = st.fixed_dictionaries(
    {"route": text},
    optional={
        "call_type": maybe,
        "model": maybe,
        "stream": st.booleans(),
        "caller": st.dictionaries(text, maybe, max_size=4) | st.none(),
        "agent": st.fixed_dictionaries({}, optional={"id": maybe, "session": maybe}) | st.none(),
    },
)
decisions = st.none() | st.builds(
    Decision, st.sampled_from(Verdict), st.lists(text, max_size=3).map(tuple), text, maybe
)
outcomes = st.builds(
    Outcome,
    status=st.sampled_from(Status),
    http_status=st.none() | st.integers(100, 599),
    model=maybe,
    provider=maybe,
    usage=st.none() | st.builds(Usage, *[st.integers(0, 10**9)] * 3),
    cost_usd=st.none() | st.floats(),
    cache_hit=st.none() | st.booleans(),
    error=maybe,
    client_gone=st.booleans(),
)
contents = st.just(Content(prompt_hash="c" * 64)) | st.builds(
    Content, st.sampled_from([ContentMode.REDACTED, ContentMode.FULL]), maybe, maybe
)
documents = st.fixed_dictionaries(
    {
        "call_id": st.uuids(),
        "started_at": st.datetimes(datetime(1990, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC)),
        "request": requests,
        "decision": decisions,
        "outcome": outcomes,
        "duration_ms": st.none() | st.floats(0, 1e9),
        "approvals": st.lists(st.builds(SealedApproval, st.uuids(), text, st.just(AT)), max_size=2),
        "tool_calls": st.lists(st.builds(ToolCallRecord, text, maybe), max_size=3),
        "content": contents,
        "chain": st.just(DEFAULT_CHAIN),
    }
).map(lambda facts: call_capsule(**facts))
