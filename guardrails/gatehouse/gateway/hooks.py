"""Turns LiteLLM's hooks into pipeline calls; no other file knows the hooks.

`config.yaml` names `governance` as a callback, by which LiteLLM finds it; `asgi.py` gives it the pipeline. Without a
pipeline, or outside a governed call, nothing goes upstream.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import Any

import litellm
from fastapi import HTTPException
from litellm.integrations.custom_logger import CustomLogger

from gatehouse.core import metrics
from gatehouse.core.call import Attempt, GovernedCall, Outcome, Status, Usage, current_attempt
from gatehouse.core.clock import now
from gatehouse.core.errors import (
    AnswerTooLarge,
    Cancelled,
    EgressMismatch,
    GovernanceError,
    GovernanceUnavailable,
    InvalidRequest,
    Misconfigured,
    ModelNotFound,
    ProviderFailed,
    UngovernedRoute,
    UpstreamFailed,
)
from gatehouse.core.text import clean
from gatehouse.dialects.parts import plain
from gatehouse.dialects.prompt import answer_of, tool_calls_of
from gatehouse.dialects.stored_responses import StoredResponse
from gatehouse.gateway import egress
from gatehouse.gateway.destinations import stop
from gatehouse.gateway.edge import NO_SUCH_MODEL
from gatehouse.gateway.engine_errors import explained, status_of
from gatehouse.guards.offload import OFFLOAD
from gatehouse.pipeline.money import priced
from gatehouse.pipeline.pipeline import Pipeline
from gatehouse.pipeline.recorded_names import RecordedNames, hide_other_names
from gatehouse.pipeline.scope import CallScope, EngineNotes, current_scope
from gatehouse.proxy import spend
from gatehouse.proxy.configured import bound_stored, deployment_params, max_attempts, retries_asked
from gatehouse.proxy.control_fields import control_fields
from gatehouse.proxy.identity import _finite, governed_call
from gatehouse.proxy.key_settings import check_router_settings
from gatehouse.proxy.listings import listed
from gatehouse.proxy.model_access import sends_new_fields, serves
from gatehouse.proxy.spend import Spent
from gatehouse.proxy.stored_ids import deployment_of

log = logging.getLogger("gatehouse.plugin")

ANSWERS_CACHED = (
    "config.yaml: litellm_settings.cache stores answers under keys that a caller can choose, and so answers one team's "
    "calls from another's. Set cache: false; Redis goes on counting with general_settings.coordination_redis. "
    "If it is false already, the setting comes from LiteLLM's database: delete the row of the table "
    '"LiteLLM_CacheConfig" and `cache` in the row litellm_settings of "LiteLLM_Config".'
)


_NOT_DECIDED = (
    "The gateway could not decide on this call, because of a fault in Gatehouse. The same request would fail again. "
    "Tell the operator, who finds the call's id in the log."
)


class LiteLLMHooks(CustomLogger):  # type: ignore[misc]  # LiteLLM ships no types
    """Serve as LiteLLM's callback object."""

    def __init__(self) -> None:
        super().__init__()
        self.pipeline: Pipeline | None = None
        self.names: RecordedNames | None = None

    @property
    def armed(self) -> bool:
        """Tell whether LiteLLM runs these hooks and they have a pipeline."""
        return self.pipeline is not None and self in litellm.callbacks

    @property
    def answers_cached(self) -> bool:
        """Tell whether LiteLLM would answer a call from its cache; a row in its database can turn that on any time."""
        return litellm.cache is not None

    # LiteLLM calls this only where the class itself defines it.
    async def async_pre_call_hook(
        self, user_api_key_dict: Any, cache: Any, data: dict[str, Any], call_type: str
    ) -> None:
        """Admit the call or refuse it, after authentication and before anything is sent."""
        scope = current_scope.get()
        if scope is None or scope.exempt:
            return
        try:
            if scope.refusal is not None:
                raise scope.refusal
            if self.pipeline is None:
                raise GovernanceUnavailable("The gateway is still starting. Try again soon.")
            if self.answers_cached:
                metrics.plugin_errors.labels(stage="answers_cached").inc()
                log.error(ANSWERS_CACHED)
                raise Misconfigured("LiteLLM's cache of answers is on. The log tells the operator why.")
            # Stored with the key or its team, perhaps before stored settings were checked.
            check_router_settings(data.get("router_settings_override"))
            bound_stored(data.get("router_settings_override"))
            charge = partial(_charge, scope, user_api_key_dict)
            # A client that asks again by itself has had the repetitions of one call.
            retries = 0 if scope.incoming.repeated else retries_asked(data)
            scope.engine = EngineNotes(data.get("litellm_call_id"), retries, charge)
            await hide_other_names(self.names, scope, user_api_key_dict, data)
            call = governed_call(scope, user_api_key_dict, data, call_type)
            scope.call = call
            if scope.about is not None:
                await _admit_about(self.pipeline, scope, call, scope.about, data)
                return
            _check(scope, user_api_key_dict, call)
            if replaced := await self.pipeline.admit(scope, call, data):
                _forget(data, replaced)
            request, incoming = scope.considered.request, scope.incoming
            assert request is not None
            admitted = partial(egress.admitted, request, data, incoming.top_level, control_fields().numbers)
            scope.sending.admitted = await OFFLOAD.run(incoming.effort, scope.turns, admitted)
            if incoming.repeated:
                data["num_retries"] = 0
        except GovernanceError as error:
            self._withhold(scope, data)
            raise _refuse(scope, error) from None
        except asyncio.CancelledError:
            if scope.left.is_set() and not scope.intent:
                scope.refusal = Cancelled("The client left before the call was decided on.")
            raise
        except Exception:
            log.exception("the plugin failed on call %s; the call is refused", scope.call_id)
            self._withhold(scope, data)
            metrics.plugin_errors.labels(stage="admit").inc()
            raise _refuse(scope, Misconfigured(_NOT_DECIDED)) from None

    def _withhold(self, scope: CallScope, data: dict[str, Any]) -> None:
        """Remove a refused call's content from what LiteLLM may log, because none of it was masked."""
        if self.names is None or self.names.masking:
            _withhold(data, scope.incoming.top_level, scope.incoming.names.metadata)

    async def async_filter_listed_models(self, user_api_key_dict: Any, model_names: Sequence[str]) -> Sequence[str]:
        """Narrow LiteLLM's lists of models to those that the caller may use."""
        return await listed(user_api_key_dict, model_names)

    async def async_pre_call_deployment_hook(self, kwargs: dict[str, Any], call_type: Any) -> None:
        """Check a call right before its bytes leave: without an intent it is stopped, whichever way it came."""
        scope = current_scope.get()
        if scope is not None and scope.exempt:
            return
        if scope is not None and scope.intent and self.pipeline is not None:
            sending = scope.sending
            if isinstance(sending.provider_failed, AnswerTooLarge):  # a retry would be as large
                raise HTTPException(sending.provider_failed.status, sending.provider_failed.body(str(scope.call_id)))
            sending.provider_failed = None  # LiteLLM tries again, or tries another model
            try:
                if scope.about is not None:
                    _begin_about(scope, kwargs)
                    return
                # LiteLLM may have fallen back to another model than the call was admitted for
                self.pipeline.reconsider(scope, _model_group(kwargs))
                with metrics.stage_seconds.labels("egress").time():
                    check = partial(_check_egress, scope, call_type, kwargs)
                    await OFFLOAD.run(scope.incoming.effort, scope.turns, check)
                await self.pipeline.reserve_again(scope)
                _begin_attempt(scope, call_type, kwargs)
            except ProviderFailed as failed:
                sending.provider_failed = failed
                raise HTTPException(failed.status, failed.body(str(scope.call_id))) from None
            except GovernanceError as refusal:
                raise _refuse(scope, refusal) from None
            return
        metrics.plugin_errors.labels(stage="no_intent").inc()
        error = UngovernedRoute(
            "This route would call a model without governance. Name it in policy.yaml to allow that."
        )
        if scope is None:
            raise HTTPException(error.status, error.body(None))
        raise _refuse(scope, error)

    async def async_log_success_event(
        self, kwargs: dict[str, Any], response_obj: Any, start_time: datetime, end_time: datetime
    ) -> None:
        """Note a complete answer: also from the cache, at a stream's end, and when a client left during it."""
        scope = current_scope.get()
        if scope is None or scope.ending.settled or not scope.intent or self.pipeline is None:
            return
        payload = kwargs.get("standard_logging_object") or {}
        if scope.engine.call_id and kwargs.get("litellm_call_id") not in (None, scope.engine.call_id):
            scope.ending.inner_usd += _finite(payload.get("response_cost")) or 0.0
            return
        outcome = _success(scope, payload, response_obj, keep_text=self.pipeline.keeps_text)
        if not outcome.cost_usd and scope.call is not None and scope.about is None:
            group = payload.get("model_group") or scope.call.model or ""
            used = outcome.usage
            deployment = payload.get("model_id")
            usd = None if used is None else self.pipeline.cost(scope.call.call_type, group, deployment, used)
            outcome = priced(outcome, usd, scope.let_through)
        await self.pipeline.ended(scope, outcome)

    async def async_post_call_failure_hook(
        self,
        request_data: dict[str, Any],
        original_exception: Exception,
        user_api_key_dict: Any,
        traceback_str: str | None = None,
    ) -> None:
        """Note that the request failed for good, because of the provider, a limit, or the gateway."""
        scope = current_scope.get()
        if scope is None or scope.ending.settled or self.pipeline is None:
            return
        unread = scope.call is None
        if scope.call is None:
            await hide_other_names(self.names, scope, user_api_key_dict, request_data)
            call = governed_call(scope, user_api_key_dict, request_data, "none")
            # A model that the caller made up is not recorded.
            scope.call = call if serves(user_api_key_dict, call.model or "") else replace(call, model=None)
            self._withhold(scope, request_data)
        scope.ending.failure = _error_code(original_exception)
        status = status_of(original_exception)
        if status == 401 and not scope.intent:
            return  # an unauthenticated caller: the middleware counts it, and the body is not read
        if unread and scope.about is None:
            note = partial(self.pipeline.note_refused, scope, request_data)
            await OFFLOAD.run(scope.incoming.effort, scope.sender, note)
        if scope.refusal is None and scope.intent:
            if scope.sending.provider_failed is None and scope.sending.error is None:
                scope.sending.provider_failed = explained(original_exception, scope)
            failure, client_gone = scope.ending.failure, scope.ending.client_gone
            outcome = Outcome(Status.FAILURE, http_status=status, error=failure, client_gone=client_gone)
            await self.pipeline.ended(scope, outcome)


def _check(scope: CallScope, key: Any, call: GovernedCall) -> None:
    """Check what matters only after LiteLLM has authenticated the caller.

    Raises:
        GovernanceError: the call is refused before any stage sees it.
    """
    if scope.incoming.fault is not None:
        raise scope.incoming.fault
    if not serves(key, call.model or ""):
        scope.call = replace(call, model=None)  # a model that the caller made up is not recorded
        raise ModelNotFound(NO_SUCH_MODEL, param="model")
    if scope.incoming.new_fields and not sends_new_fields(call.call_type, call.model or ""):
        shown = plain(scope.incoming.new_fields[0]) or "a field"
        raise InvalidRequest(
            f"{shown}: LiteLLM does not send it on to this model's provider. Leave it out.",
            param=plain(scope.incoming.new_fields[0]),
        )


def _refuse(scope: CallScope, error: GovernanceError) -> HTTPException:
    """Store the refusal for the middleware to answer with, and return an error for LiteLLM."""
    scope.refusal = error
    return HTTPException(error.status, error.body(str(scope.call_id)))


def _forget(data: dict[str, Any], replaced: Mapping[str, str]) -> None:
    """Replace masked texts in LiteLLM's own copies of the request, which it may log or store with the spend.

    Args:
        replaced: the masked form of each text.
    """
    for place in ("metadata", "litellm_metadata"):
        if isinstance(notes := data.get(place), dict):
            for name, value in notes.items():
                notes[name] = _with(value, replaced)
    request = data.get("proxy_server_request")
    if isinstance(request, dict):
        request["body"] = {name: data[name] for name in request.get("body") or () if name in data}
    logged = data.get("litellm_logging_obj")
    prompt = data.get("messages") or data.get("input") or data.get("prompt")
    if logged is not None:
        logged.messages = prompt
        for name in ("messages", "input"):
            if name in logged.model_call_details:
                logged.model_call_details[name] = prompt


# The fields that LiteLLM needs to count a refused call; names in them are plain, or hashes, already.
_COUNTED = frozenset(("model", "stream", "user", "tags", "metadata"))
_COUNTED_IN_METADATA = frozenset(("tags", "user_id", "user"))


def _withhold(data: dict[str, Any], top_level: Iterable[str], metadata: Iterable[str]) -> None:
    """Remove a caller's content from a request that is not sent, and from LiteLLM's copies of it.

    Args:
        top_level: names at the top of the body.
        metadata: names in its metadata.
    """
    names = {*top_level, "extra_body"} - _COUNTED
    request = data.get("proxy_server_request")
    copies = (data, request.get("body") if isinstance(request, dict) else None)
    for copy in copies:
        if not isinstance(copy, dict):
            continue
        for name in names:
            copy.pop(name, None)
        for place in ("metadata", "litellm_metadata"):
            notes = copy.get(place)
            if isinstance(notes, dict):
                for name in {*metadata} - _COUNTED_IN_METADATA:
                    notes.pop(name, None)
                notes.pop("requester_metadata", None)
    logged = data.get("litellm_logging_obj")
    if logged is not None:
        logged.messages = None
        for name in ("messages", "input"):
            if name in logged.model_call_details:
                logged.model_call_details[name] = None


def _with(value: Any, replaced: Mapping[str, str]) -> Any:
    """Return a copy with the given texts replaced; a value without texts is returned as it is."""
    if isinstance(value, str):
        return replaced.get(value, value)
    if type(value) is dict:
        return {replaced.get(name, name): _with(inner, replaced) for name, inner in value.items()}
    if type(value) in (list, tuple):
        return type(value)(_with(inner, replaced) for inner in value)
    return value


def _check_egress(scope: CallScope, call_type: Any, kwargs: dict[str, Any]) -> None:
    """Compare what LiteLLM is about to send with what was admitted.

    Raises:
        EgressMismatch: they differ.
        Misconfigured: an earlier attempt used a library that cannot be checked.
    """
    if isinstance(scope.refusal, EgressMismatch | Misconfigured):
        raise scope.refusal
    info = kwargs.get("model_info")
    configured = deployment_params(info.get("id")) if isinstance(info, dict) else None
    name = getattr(call_type, "value", call_type)
    differs = (
        egress.Difference("shape", "body")
        if scope.sending.admitted is None
        else egress.check(scope.sending.admitted, name, kwargs, configured)
    )
    if differs is not None:
        raise stop(scope, differs.place, differs.where)


async def _admit_about(
    pipeline: Pipeline, scope: CallScope, call: GovernedCall, about: StoredResponse, data: dict[str, Any]
) -> None:
    """Admit a request about a stored response, or refuse it."""
    if scope.incoming.fault is not None:
        raise scope.incoming.fault
    scope.sending.response_id = await pipeline.admit_about(scope, call, about)
    scope.sending.beside = egress.steering(data)


def _begin_about(scope: CallScope, kwargs: dict[str, Any]) -> None:
    """Check a request about a stored response, and begin its attempt: it goes to the deployment that has the response.

    Raises:
        EgressMismatch: it would go elsewhere, or is about another response.
    """
    sending = scope.sending
    chosen = deployment_of(sending.response_id)
    differs = egress.deployment(sending.beside, kwargs, deployment_params(chosen))
    if kwargs.get("response_id") != sending.response_id:
        differs = egress.Difference("text", "response_id")
    if differs is not None:
        raise stop(scope, differs.place, differs.where)
    attempt = Attempt((scope.call and scope.call.model) or "", chosen)
    sending.attempts.append(attempt)
    current_attempt.set(attempt)


_TRIED_ENOUGH = "The provider failed at every attempt that one call may make. Try again."


def _begin_attempt(scope: CallScope, call_type: Any, kwargs: dict[str, Any]) -> None:
    """Count the attempts of a call. LiteLLM comes here again when it translates one to another API.

    Raises:
        UpstreamFailed: the call had all of its attempts.
    """
    info = kwargs.get("model_info")
    chosen = info.get("id") if isinstance(info, dict) else None
    word, group = str(getattr(call_type, "value", call_type)), _model_group(kwargs)
    attempt = current_attempt.get()
    if (
        attempt in scope.sending.attempts
        and not attempt.sent
        and chosen in (None, attempt.deployment)
        and word not in attempt.words
    ):
        attempt.words.add(word)
        return
    if chosen is None and attempt in scope.sending.attempts:  # a translated attempt has no notes
        chosen = attempt.deployment
    made = sum(each.group == group for each in scope.sending.attempts)
    if made >= max_attempts(group, scope.engine.retries):
        raise UpstreamFailed(_TRIED_ENOUGH)
    repeats = (deployment_params(chosen) or {}).get("max_retries")
    attempt = Attempt(group, chosen, repeats if isinstance(repeats, int) else 0, {word})
    scope.sending.attempts.append(attempt)
    current_attempt.set(attempt)


def _charge(scope: CallScope, key: Any, usd: float) -> None:
    """Add the cost of unanswered attempts to LiteLLM's spend, which counts them as free."""
    call = scope.call
    spent = Spent(
        usd=usd,
        row_id=f"{scope.call_id}-unanswered",  # LiteLLM may have a row with the call's own id
        call_type=call.call_type if call else None,
        group=call.model if call else None,
        model=call.model if call else None,
        end_user=call.caller.end_user if call else None,
        started=scope.started_at,
        ended=now(),
        status="failure",
    )
    spend.add(key, spent)


def _model_group(kwargs: dict[str, Any]) -> str:
    """Return the model as config.yaml names it, which is the name in rules."""
    for place in ("metadata", "litellm_metadata"):
        group = (kwargs.get(place) or {}).get("model_group")
        if isinstance(group, str):
            return group
    return str(kwargs.get("model") or "")


def _success(scope: CallScope, payload: dict[str, Any], response: Any, *, keep_text: bool) -> Outcome:
    total = payload.get("total_tokens")
    offered = scope.call.prompt.tools if scope.call else frozenset()
    stands = {name: stands for stands, name in scope.hidden.items()}
    # What a stored response tells of usage is of the call that made it. In the background it does not tell that yet.
    known = scope.about is None and getattr(response, "status", None) not in ("queued", "in_progress")
    usage = Usage(int(payload.get("prompt_tokens") or 0), int(payload.get("completion_tokens") or 0), int(total or 0))
    return Outcome(
        Status.SUCCESS if not scope.ending.client_gone else Status.PARTIAL,
        http_status=scope.ending.http_status or 200,
        model=clean(payload.get("model")),
        provider=clean(payload.get("custom_llm_provider")),
        usage=usage if known else None,
        cost_usd=_finite(payload.get("response_cost")),
        cache_hit=bool(payload.get("cache_hit")),
        client_gone=scope.ending.client_gone,
        tool_calls=tuple(
            replace(called, tool=stands.get(called.tool, called.tool))
            for called in tool_calls_of(response, offered, keep_text=keep_text)
        ),
        answer=answer_of(response) if keep_text else None,
    )


def _error_code(error: Exception) -> str:
    """Return a code without content of the request: the error's own type, never its message."""
    kind = getattr(error, "type", None)
    return clean(kind) if isinstance(kind, str) and kind.isidentifier() else type(error).__name__  # type: ignore[return-value]


governance = LiteLLMHooks()
