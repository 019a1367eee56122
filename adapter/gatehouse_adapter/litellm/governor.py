"""Governor: LiteLLM's completion and acompletion. A gateway decides on each call and receives a report on it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from concurrent.futures import Future
from functools import partial
from typing import Any

import litellm
from litellm import acompletion as _acompletion
from litellm import completion as _completion
from litellm.integrations.custom_logger import CustomLogger

from gatehouse_adapter._internal.background import Background, background
from gatehouse_adapter.errors import ConfigurationError
from gatehouse_adapter.litellm import facts
from gatehouse_adapter.litellm.deciding import Decider
from gatehouse_adapter.litellm.endpoint import Decision, Endpoint
from gatehouse_adapter.litellm.errors import withheld
from gatehouse_adapter.litellm.observing import Observing, observe
from gatehouse_adapter.litellm.options import GovernorConfig, checked
from gatehouse_adapter.litellm.reporting import Facts, Report, Reporter, Send, Telling, Verdict
from gatehouse_adapter.litellm.requests import attempts, prepare
from gatehouse_adapter.litellm.streams import AsyncGovernedStream, GovernedStream
from gatehouse_adapter.litellm.unmasking import Replacements, copied


class _Link:
    """Hold a governor's parts on the background loop."""

    def __init__(self, options: GovernorConfig, home: Background) -> None:
        self.options = options
        self.home = home
        self.endpoint = Endpoint(options)
        self.decider = Decider(options, self.endpoint)
        self.reporter = Reporter(options, self.endpoint, home)

    def report(self, call_id: str) -> Report:
        """Return the report on a call that was decided on here."""

        def tell(told: Mapping[str, Any], found: Facts) -> Future[Verdict | None] | None:
            return self.send(f"call {call_id}", Telling(self.options, self.endpoint, told, found))

        return Report(call_id, tell)

    def send(self, what: str, send: Send) -> Future[Verdict | None] | None:
        """Send from any thread; return None where the loop has ended with the interpreter."""
        taking = self.reporter.take(what, send)
        try:
            return self.home.submit(taking)
        except RuntimeError:
            taking.close()
            return None

    async def farewell(self) -> None:
        await self.reporter.farewell()
        await self.endpoint.close()


class Governor(CustomLogger):  # type: ignore[misc]  # LiteLLM ships no types
    """Govern the LiteLLM calls of one agent. One per process is enough; any thread and any event loop may use it.

    As `litellm.callbacks = [governor]` it reports calls that were made without it, afterwards.

    Args:
        endpoint: a GovernorConfig, or the gateway's address with the other attributes of GovernorConfig by name or, in
            their order, by place.

    Raises:
        ConfigurationError: an argument cannot be used.
    """

    def __init__(self, endpoint: str | GovernorConfig, *values: Any, **named: Any) -> None:
        super().__init__()
        self._options = checked(_config(endpoint, values, named))

    def completion(self, *args: Any, **options: Any) -> Any:
        """Do as `litellm.completion`, which it calls with what the gateway admitted.

        `user_token` is the call's end user for the gateway; no provider receives it.

        Returns:
            LiteLLM's result; for a stream, an iterator of its chunks.

        Raises:
            PolicyDeniedError, ApprovalRejected, ApprovalTimeout: the call was not made.
            GovernanceUnavailable: there is no decision, so the call was not made; only with fail_open=False.
            BadRequest: it cannot be sent to the gateway.
            Exception: LiteLLM's own.
        """
        failed: Exception | None = None
        for given in attempts("completion", args, options):
            request = prepare(given, self._options)
            link = self._link()
            asking = link.home.submit(link.decider.decide(request))
            try:
                decision = asking.result()
            finally:
                asking.cancel()
            if decision is None:
                try:
                    return _completion(**request.undecided())
                except Exception as exc:
                    failed = exc
                    continue
            arguments = request.decided(decision.body, decision.call_id)
            report = link.report(decision.call_id)
            try:
                answer = _completion(**arguments)
            except Exception as exc:
                report.failure(exc)
                failed = exc
                continue
            except BaseException:
                report.partial()
                raise
            if isinstance(answer, litellm.ModelResponse):
                said = report.success(partial(_same, facts.snapshot(answer)))
                _let_through(said.result() if said else None, decision)
                return _shown(answer, decision)
            return GovernedStream(answer, decision.replacements, report, arguments.get("messages"))
        assert failed is not None
        raise failed

    async def acompletion(self, *args: Any, **options: Any) -> Any:
        """Do as `litellm.acompletion`; otherwise as `completion`."""
        failed: Exception | None = None
        for given in attempts("acompletion", args, options):
            request = prepare(given, self._options)
            link = self._link()
            decision = await asyncio.wrap_future(link.home.submit(link.decider.decide(request)))
            if decision is None:
                try:
                    return await _acompletion(**request.undecided())
                except Exception as exc:
                    failed = exc
                    continue
            arguments = request.decided(decision.body, decision.call_id)
            report = link.report(decision.call_id)
            try:
                answer = await _acompletion(**arguments)
            except Exception as exc:
                report.failure(exc)
                failed = exc
                continue
            except BaseException:
                report.partial()
                raise
            if isinstance(answer, litellm.ModelResponse):
                said = report.success(partial(_same, facts.snapshot(answer)))
                _let_through(await asyncio.wrap_future(said) if said else None, decision)
                return _shown(answer, decision)
            return AsyncGovernedStream(answer, decision.replacements, report, arguments.get("messages"))
        assert failed is not None
        raise failed

    # LiteLLM looks for hooks in a callback's own class, so they are all here.
    def log_success_event(self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any) -> None:
        """Report a call that `litellm.completion` made without the governor."""
        self._observe(kwargs, response_obj, start_time, end_time, failed=False)

    def log_failure_event(self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any) -> None:
        """Report one that failed."""
        self._observe(kwargs, response_obj, start_time, end_time, failed=True)

    async def async_log_success_event(self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any) -> None:
        """Report one that `litellm.acompletion` made."""
        self._observe(kwargs, response_obj, start_time, end_time, failed=False)

    async def async_log_failure_event(self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any) -> None:
        """Report one that failed."""
        self._observe(kwargs, response_obj, start_time, end_time, failed=True)

    def _observe(self, kwargs: Any, answer: Any, start: Any, end: Any, *, failed: bool) -> None:
        link = self._link()
        seen = observe(kwargs, answer, start, end, failed=failed, options=self._options)
        if seen is not None:
            link.send("a call made without the governor", Observing(self._options, link.endpoint, seen))

    def flush(self, timeout: float = 5.0) -> bool:
        """Wait until all is reported, at most so many seconds; return whether it is. A process also waits at exit."""
        link = self._link()
        return link.home.submit(link.reporter.settled(timeout)).result()

    def _link(self) -> _Link:
        return background().part(self, partial(_Link, self._options))


def _config(endpoint: str | GovernorConfig, values: tuple[Any, ...], named: Mapping[str, Any]) -> GovernorConfig:
    if not isinstance(endpoint, GovernorConfig):
        return GovernorConfig(endpoint, *values, **named)
    if values or named:
        raise ConfigurationError("A GovernorConfig was given together with other arguments. Put them into it.")
    return endpoint


def _same(told: Mapping[str, Any]) -> Mapping[str, Any]:
    return told


def _let_through(verdict: Verdict | None, decision: Decision) -> None:
    if verdict is not None:
        raise withheld(verdict, decision.call_id)


def _shown(answer: Any, decision: Decision) -> Any:
    """Return the answer as its caller may see it."""
    replacements = Replacements(decision.replacements)
    if not replacements:
        return answer
    shown = copied(answer)
    for choice in shown.choices:
        replacements.restore(choice.message)
    return shown
