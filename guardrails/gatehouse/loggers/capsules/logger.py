"""`CapsuleLogger`: a sealed, chained record of every call of LiteLLM, in a program that has no gateway in front.

    litellm.callbacks = [CapsuleLogger()]

Promises: one capsule for each call, whichever of its hooks LiteLLM fires and however often, and also for calls of
whose end it tells nothing: streams left early, cancelled calls. Prompts and answers are kept as hashes, unless
`content` asks for their texts.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from os import PathLike
from typing import Any, Final, TypeVar

from litellm.integrations.custom_logger import CustomLogger

from gatehouse.capsule.canonical import TYPES
from gatehouse.capsule.document import ContentMode
from gatehouse.core.call import Status
from gatehouse.core.clock import now
from gatehouse.core.errors import SetupError
from gatehouse.core.text import clean
from gatehouse.loggers.capsules import litellm_queue
from gatehouse.loggers.capsules.opening import open_store
from gatehouse.loggers.capsules.record import (
    Asked,
    StartedCall,
    answer_hash,
    asked,
    document,
    failed,
    prompt_hash,
    prompt_of,
    succeeded,
    unreported,
)
from gatehouse.loggers.capsules.store import CapsuleStore, Unavailable
from gatehouse.loggers.capsules.writer import CapsuleLost, Document, Writer

__all__ = ["CapsuleLogger", "CapsuleLost", "CapsuleStore", "answer_hash", "prompt_hash"]

log = logging.getLogger("gatehouse.capsules")

# LiteLLM gives up a callback after 20 seconds.
_WAIT_S: Final = 15.0
# How many calls that ended are remembered, to know a second report of one.
_REMEMBERED: Final = 10_000
# The entry in LiteLLM's description of a call that goes when the call does.
_ALIVE: Final = "gatehouse_capsule"

_T = TypeVar("_T")
# LiteLLM's id of a call may be the caller's choice; with the time at which it began it is one call's.
_Key = tuple[str, datetime | None]


@dataclass(slots=True)
class _Begun:
    """A call under way: what was asked, and the answer on its way to the caller, when LiteLLM showed it."""

    asked: StartedCall
    answer: tuple[Any, datetime] | None = None


class CapsuleLogger(CustomLogger):  # type: ignore[misc]  # LiteLLM is untyped for us
    """Seals a capsule for each call that LiteLLM makes in this process.

    Args:
        capsules: where they go: None for `capsules.db` in the working directory, the path of an SQLite file, a
            `postgresql://` address, an object with `append` and `close` (`CapsuleStore`), or qp-capsule's `Capsules`.
        agent_id: whose calls these are.
        domain: the chain they are on.
        capsule_type: one of the protocol's: agent, tool, system, kill, workflow, chat, vault, auth.
        swallow_errors: True: a call that could not be recorded is one line in the log `gatehouse.capsules`. False:
            hooks wait until the capsule is committed and raise `CapsuleLost`, which LiteLLM logs and never lets through
            to its caller; `flush` and `close` raise it too, and the store is opened now.
        keys: the folder of the Ed25519 key; `<file>.keys` beside the file, `capsules.keys` with Postgres.
        content: what is kept of the user's last message and the answer: `hash` (hashes alone), `redacted` (their texts,
            personal data masked) or `full` (their texts).

    Raises:
        ValueError: a name, a type or a content that there is not.
        SetupError: an address that is none; with `swallow_errors=False`, also a store or keys that cannot be used.
    """

    def __init__(
        self,
        capsules: CapsuleStore | str | PathLike[str] | None = None,
        agent_id: str = "litellm",
        domain: str = "chat",
        capsule_type: str = "chat",
        swallow_errors: bool = True,
        *,
        keys: str | PathLike[str] | None = None,
        content: str = "hash",
    ) -> None:
        super().__init__()
        kind = str(getattr(capsule_type, "value", capsule_type))  # qp-capsule's CapsuleType too
        if kind not in TYPES:
            raise ValueError(f"capsule_type: {kind!r} is none of {', '.join(sorted(TYPES))}")
        for name, value in (("agent_id", agent_id), ("domain", domain)):
            if not value or clean(value) != value:
                raise ValueError(f"{name}: it is empty, longer than 256 characters, or not UTF-8")
        mode = ContentMode(content)
        self._keep_text = mode is not ContentMode.HASH
        self._capsule = partial(document, agent_id=agent_id, domain=domain, capsule_type=kind, mode=mode)
        if mode is ContentMode.REDACTED:
            from gatehouse.loggers.capsules.redactor import Redactor  # brings the detectors of personal data

            self._capsule = partial(self._capsule, kept=Redactor())
        self._swallow_errors = swallow_errors
        self._lock = threading.Lock()
        self._open: dict[_Key, _Begun] = {}
        self._ended: OrderedDict[_Key, Status] = OrderedDict()
        self._lost_before = 0
        # Held here: a weak reference that is garbage itself, with the call, is cleared before `__del__` runs.
        self._gone = _weakly(self._left)
        store = open_store(capsules, keys)
        if not swallow_errors:
            _try(store)
        self._writer = Writer(
            store,
            before_exit=_weakly(self._process_ends),
            # A thread of LiteLLM's in the middle of an import would hold that lock in the child for ever.
            before_fork=partial(litellm_queue.settle, _WAIT_S),
            in_child=_weakly(self._forked),
        )

    @property
    def written(self) -> int:
        """How many capsules this process has committed."""
        return self._writer.written

    @property
    def lost(self) -> int:
        """How many it could not."""
        return self._writer.lost

    def flush(self, timeout: float = 30.0) -> None:
        """Wait until all calls that returned are recorded. Inside an event loop, `await aflush()`.

        Raises:
            CapsuleLost: with `swallow_errors=False`: some are not, since the last time.
            TimeoutError: it takes longer than `timeout` seconds; nothing is given up.
        """
        if not (litellm_queue.settle(timeout) and self._writer.flush(timeout)):
            raise TimeoutError(f"capsules are not written after {timeout:g} seconds")
        lost, self._lost_before = self._writer.lost - self._lost_before, self._writer.lost
        if lost and not self._swallow_errors:
            raise CapsuleLost(f"{lost} calls have no capsule; the log gatehouse.capsules says why")

    def close(self, timeout: float = 30.0) -> None:
        """`flush`, and let the file or the database go. A later call opens it again."""
        try:
            self.flush(timeout)
        finally:
            self._writer.stop()

    async def aflush(self, timeout: float = 30.0) -> None:  # noqa: ASYNC109
        """As `flush`, and wait for LiteLLM's queue of asynchronous calls too."""
        async with asyncio.timeout(timeout):
            await litellm_queue.asettle()
            await asyncio.to_thread(self.flush, timeout)

    async def aclose(self, timeout: float = 30.0) -> None:  # noqa: ASYNC109
        """As `close`, and wait for LiteLLM's queue of asynchronous calls too."""
        try:
            await self.aflush(timeout)
        finally:
            await asyncio.to_thread(self._writer.stop)

    # What LiteLLM calls. Before a call: it is under way.

    def log_pre_api_call(self, model: Any, messages: Any, kwargs: dict[str, Any]) -> None:
        self._begin(kwargs, again=True)

    async def async_pre_call_deployment_hook(self, kwargs: dict[str, Any], call_type: Any) -> None:
        self._begin(getattr(kwargs.get("litellm_logging_obj"), "model_call_details", None), again=True)

    def log_stream_event(self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any) -> None:
        self._begin(kwargs)

    async def async_log_stream_event(self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any) -> None:
        self._begin(kwargs)

    # An asynchronous call was answered; what LiteLLM tells of it later may be cancelled with the event loop.

    async def async_post_call_success_deployment_hook(
        self, request_data: dict[str, Any], response: Any, call_type: Any
    ) -> None:
        details = getattr(request_data.get("litellm_logging_obj"), "model_call_details", None)
        if details is not None and hasattr(response, "model_dump"):
            with self._lock:
                if (begun := self._open.get(_key(details))) is not None:
                    begun.answer = (response, now())

    # After it: LiteLLM fires the synchronous hook, the asynchronous one, or both.

    def log_success_event(self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any) -> None:
        self._wait(self._end(kwargs, response_obj, end_time, Status.SUCCESS))

    def log_failure_event(self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any) -> None:
        self._wait(self._end(kwargs, response_obj, end_time, Status.FAILURE))

    async def async_log_success_event(self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any) -> None:
        await self._await(self._end(kwargs, response_obj, end_time, Status.SUCCESS))

    async def async_log_failure_event(self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any) -> None:
        await self._await(self._end(kwargs, response_obj, end_time, Status.FAILURE))

    def _begin(self, details: dict[str, Any] | None, *, again: bool = False) -> None:
        """Note that a call is under way, so that it is recorded whether or not LiteLLM tells of its end.

        Args:
            again: a call that failed may be tried again.
        """
        try:
            if details is None:
                return
            key = _key(details)
            with self._lock:
                known = self._open.get(key)
                ended = self._ended.get(key)
            if (known is not None and not again) or not (ended is None or (again and ended is Status.FAILURE)):
                return
            call = asked(details, known.asked.prompt if known is not None else self._prompt(details))
            with self._lock:
                self._open[key] = _Begun(call, known.answer if known is not None else None)
            if known is None and details.get(_ALIVE) is None:
                details[_ALIVE] = _Alive(self._writer, partial(self._gone, key, "not_reported"))
            self._writer.start()
        except Exception as error:
            self._not_recorded(error)

    def _end(self, details: dict[str, Any], response: Any, end_time: Any, status: Status) -> Future[None] | None:
        """Have the capsule written, unless the call has one."""
        try:
            key = _key(details)
            with self._lock:
                if self._ended.get(key) not in (None, Status.FAILURE) or self._ended.get(key) is status:
                    return None
                begun = self._remember(key, status)
            # Described anew, for more is known now; the prompt only as it was before anybody changed it.
            call = asked(details, begun.asked.prompt if begun is not None else self._prompt(details))
            success = status is Status.SUCCESS
            ended = succeeded(call, details, response, end_time) if success else failed(call, details, end_time)
            return self._writer.take(partial(self._capsule, call, ended))
        except Exception as error:
            self._not_recorded(error)
            return None

    def _prompt(self, details: dict[str, Any]) -> Asked:
        return prompt_of(details, keep_text=self._keep_text)

    def _left(self, key: _Key, why: str) -> Document | None:
        """The capsule of a call that is over without LiteLLM telling so, if it is one."""
        with self._lock:
            if key not in self._open:
                return None
            begun = self._remember(key, Status.PARTIAL)
        assert begun is not None
        if begun.answer is not None:
            return self._capsule(begun.asked, succeeded(begun.asked, {}, *begun.answer))
        return self._capsule(begun.asked, unreported(begun.asked, why, now()))

    def _remember(self, key: _Key, status: Status) -> _Begun | None:
        """A call ended; what was noted when it began. The caller holds the lock."""
        self._ended[key] = status
        self._ended.move_to_end(key)
        while len(self._ended) > _REMEMBERED:
            self._ended.popitem(last=False)
        return self._open.pop(key, None)

    def _not_recorded(self, error: Exception) -> None:
        # Not its text: it may quote the call.
        reason = str(error) if isinstance(error, CapsuleLost | SetupError) else type(error).__name__
        if not self._swallow_errors:
            raise CapsuleLost(reason) from None
        log.error("a call was not recorded: %s", reason)

    def _wait(self, written: Future[None] | None) -> None:
        if written is not None and not self._swallow_errors:
            written.result(_WAIT_S)

    async def _await(self, written: Future[None] | None) -> None:
        if written is not None and not self._swallow_errors:
            async with asyncio.timeout(_WAIT_S):
                await asyncio.wrap_future(written)

    def _process_ends(self) -> None:
        litellm_queue.drain()
        litellm_queue.settle(_WAIT_S)
        with self._lock:
            still_open = list(self._open)
        for key in still_open:
            self._writer.take(partial(self._left, key, "process_ended"))

    def _forked(self) -> None:
        """In the child: the calls under way are the parent's."""
        litellm_queue.forget_threads()
        self._lock = threading.Lock()
        self._open.clear()
        self._ended.clear()
        self._lost_before = 0


class _Alive:
    """Lies in LiteLLM's description of a call, and has the call recorded when nothing refers to that any more."""

    __slots__ = ("_gone", "_writer")

    def __init__(self, writer: Writer, gone: partial[Document | None]) -> None:
        self._writer = writer
        self._gone = gone

    def __del__(self) -> None:
        self._writer.later(self._gone)

    def __deepcopy__(self, memo: Any) -> None:
        """A copy of the description is not the call."""

    def __reduce__(self) -> Any:
        return str, ("",)

    def __repr__(self) -> str:
        return "<capsule>"


def _weakly(method: Callable[..., _T]) -> Callable[..., _T | None]:
    """A method that does nothing any more when its object is gone, and does not keep it."""
    weak = weakref.WeakMethod(method)

    def call(*args: Any) -> _T | None:
        still = weak()
        return None if still is None else still(*args)

    return call


def _try(store: CapsuleStore) -> None:
    try:
        store.append([], now())
    except Unavailable as error:
        raise SetupError(f"capsules: {error}. See that it can be written.") from None


def _key(details: dict[str, Any]) -> _Key:
    started = details.get("start_time")
    return str(details.get("litellm_call_id")), started if isinstance(started, datetime) else None
