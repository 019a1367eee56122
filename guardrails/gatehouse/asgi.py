"""Puts the gateway together: LiteLLM's app with our routers, inside our middleware.

The gateway starts the audit log and the ledger's writer first, then LiteLLM with its configuration. Then it checks
whether LiteLLM runs our plugin; if not, the gateway serves nothing. Shutdown runs in the opposite order and settles
every call.
"""

from __future__ import annotations

import asyncio
import gc
import os
from functools import partial
from types import SimpleNamespace

import litellm
from litellm.proxy import proxy_server
from litellm.proxy.proxy_server import app as litellm_app

from gatehouse.api import approvals, audit, count_tokens, decide, estimate, health
from gatehouse.approvals.audit_entries import AuditEntries
from gatehouse.approvals.desk import Desk
from gatehouse.approvals.gate import Gate
from gatehouse.capsule.keys import KeyFolder
from gatehouse.console import inbox, records
from gatehouse.console import router as console
from gatehouse.console.access import SessionAuthenticator
from gatehouse.core import metrics
from gatehouse.core.call import AuditLine, Payer
from gatehouse.core.errors import SetupError
from gatehouse.core.http import Message, Receive, Scope, Send
from gatehouse.core.keys import Purpose
from gatehouse.core.settings import load_settings
from gatehouse.gateway.edge import Edge
from gatehouse.gateway.forwarded import with_caller
from gatehouse.gateway.gc_guard import guard_contexts
from gatehouse.gateway.health import watch
from gatehouse.gateway.hooks import ANSWERS_CACHED, governance
from gatehouse.gateway.labels import labels
from gatehouse.gateway.log_filter import keep_content_out
from gatehouse.gateway.middleware import GovernanceMiddleware
from gatehouse.gateway.notification_senders import addresses
from gatehouse.gateway.prescan import Prescan
from gatehouse.gateway.provider_answers import watch_answers
from gatehouse.gateway.request_body import BodyReader
from gatehouse.gateway.stored_streams import stream_stored_responses
from gatehouse.gateway.ways_out import watch_ways_out
from gatehouse.ledger.audit_log import AuditLog
from gatehouse.ledger.checkpointer import Checkpointer
from gatehouse.ledger.reconciliation import Reconciler
from gatehouse.ledger.recorder import Recorder
from gatehouse.ledger.store import budgets
from gatehouse.ledger.store.sessions import stopped
from gatehouse.notifications.dispatcher import Dispatcher
from gatehouse.pipeline.conversations import Conversations
from gatehouse.pipeline.in_force import PolicyInForce, PolicyInForceHolder
from gatehouse.pipeline.library_mode import Library
from gatehouse.pipeline.pipeline import Pipeline
from gatehouse.pipeline.recorded_names import RecordedNames
from gatehouse.pipeline.scope import current_scope
from gatehouse.pipeline.sessions import StoppedSessions
from gatehouse.policy.holder import PolicyHolder
from gatehouse.pricing.estimate import Prices
from gatehouse.providers import PluginError, initialize_plugins
from gatehouse.providers.plugins import changes_after
from gatehouse.proxy import configured, enterprise, listings, litellm_budgets, redis_breaker
from gatehouse.proxy.catalog import Deployments
from gatehouse.proxy.configured import (
    believes_forwarded_addresses,
    caller_bounds,
    configured_headers,
    configured_tags,
    made_up_model,
)
from gatehouse.proxy.control_fields import control_fields, other_release
from gatehouse.proxy.model_access import hash_may_use
from gatehouse.proxy.parallel_slots import SlotLeases
from gatehouse.proxy.redis_counters import RedisCounters
from gatehouse.proxy.stored_ids import read_id
from gatehouse.proxy.tokenizer import Detokenizer, TokenCounter
from gatehouse.storage.connection import shared

# LiteLLM's app at rest holds about a million objects that are never freed: the garbage collector skips them and runs
# less often (docs/performance.md says what this saves).
_GC_THRESHOLDS = (50_000, 20, 50)

_NOT_LOADED = (
    "config.yaml: LiteLLM did not load the governance plugin. "
    "Keep `gatehouse.plugin.governance` under litellm_settings.callbacks."
)

_OTHER_RELEASE = (
    "litellm: {} is installed, but this release of Gatehouse knows the request fields of {}. "
    "Install that release; uv.lock and the image name it."
)

_TOO_LATE = (
    "config.yaml: {} may change a request after Gatehouse has decided on it. "
    "Name it before `gatehouse.plugin.governance` under litellm_settings.callbacks."
)

_HIDDEN = (
    "policy.yaml: audit.content keeps answers, but config.yaml's turn_off_message_logging hides them from callbacks. "
    "Set it to false there (LiteLLM's other callbacks then see prompts and answers too), or set content: hash."
)

_NO_PROXY = (
    "config.yaml: general_settings.use_x_forwarded_for makes LiteLLM believe X-Forwarded-For from anyone. "
    "Name your reverse proxies in FORWARDED_ALLOW_IPS in .env, or remove the setting."
)

_POLLED = (
    "config.yaml: litellm_settings.responses.background_mode.polling_via_cache keeps unmasked requests and answers in "
    "Redis. Remove it."
)


class Gateway:
    """Serve HTTP as an ASGI application.

    Attributes:
        start_error: one sentence that says why the gateway did not start.
    """

    def __init__(self) -> None:
        self._settings = load_settings()
        self._governance = PolicyInForceHolder(
            PolicyHolder(self._settings.policy_path, _policy_loaded), workers=self._settings.scanners
        )
        deployments, counter = Deployments(), TokenCounter()
        self._prices = Prices(deployments, counter)
        told = addresses(self._governance.current.policy.notifications, os.environ)
        self._dispatcher = Dispatcher(self._settings.database_url, told)
        entries = AuditEntries(self._write_down)
        self._pool = shared(self._settings.database_url)
        self._gate = Gate(self._settings.database_url, self._pool, self._dispatcher.names, entries)
        self._sessions = StoppedSessions(self._stopped_sessions)
        self.start_error: str | None = None
        self._recorder: Recorder | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._stopped = False
        self._warming: asyncio.Task[None] | None = None
        slots = SlotLeases()
        self._counters = RedisCounters(slots)
        names = RecordedNames(self._settings.keys.key(Purpose.RECORDS), self._in_force, configured_tags)
        governance.names = names
        self._middleware = GovernanceMiddleware(
            litellm_app,
            armed=lambda: governance.armed,
            metrics_token=self._settings.metrics_token,
            named_routes=lambda: self._governance.current.policy.ungoverned_routes,
            grace_s=self._settings.settle_grace_s,
            edge=Edge(
                BodyReader(self._settings.max_body_bytes),
                control_fields(),
                caller_bounds,
                configured_headers,
                names,
                made_up_model,
                Detokenizer(deployments, counter),
            ),
            prescan=Prescan(lambda: self._governance.current.scanner),
            slots=slots.open,
            shown=labels(),
            spend_set=partial(budgets.forget, self._pool),
        )
        self._reconciler = Reconciler(
            self._pool, lambda: bool(self._governance.current.policy.ungoverned_routes), configured.logs_spend
        )
        self._app = with_caller(self._middleware, self._settings.trusted_proxies)
        watch_answers(self._settings.max_answer_bytes)
        watch_ways_out()
        stream_stored_responses()
        keep_content_out()
        guard_contexts()
        listings.close_to_keys()
        enterprise.stand_in()
        litellm_budgets.entrust(_payers, partial(budgets.spend_of, self._pool))
        redis_breaker.keep_asking()
        # The routes take these parts by name (`proxy/parts.py`).
        self._parts = litellm_app.state.gatehouse = SimpleNamespace(
            settings=self._settings,
            governed=self._governance,
            prices=self._prices,
            desk=Desk(self._settings.database_url, self._pool, self._settings.keys, entries, hash_may_use),
            sessions=SessionAuthenticator(self._settings, self._pool),
            look=watch(self._settings, self._governance, lambda: self._recorder),
            names=names,
            library=None,
        )
        for each in (health, audit, estimate, approvals, decide, console, inbox, records):
            litellm_app.include_router(each.router)
        count_tokens.replace_route(litellm_app)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan":
            await self._app(scope, receive, send)
            return
        try:
            await self._start()
        except Exception as error:
            self.start_error = f"gateway: {error}"
            await send({"type": "lifespan.startup.failed", "message": self.start_error})
            return
        try:
            await litellm_app(scope, receive, self._checked(send))
        finally:
            await self._stop()

    def begin_to_stop(self) -> None:
        """Be ready for no more calls; those that come all the same are served until the server stops."""
        self._middleware.stopping = True

    def _write_down(self, line: AuditLine) -> None:
        if self._recorder is not None:
            self._recorder.log_only(line)

    async def _stopped_sessions(self) -> frozenset[tuple[str, str]]:
        async with self._pool.connection() as connection:
            return await stopped(connection)

    def _in_force(self) -> PolicyInForce:
        return self._governance.current

    async def _start(self) -> None:
        # Providers come before LiteLLM reads config.yaml, because its models may name an installed provider.
        initialize_plugins(strict=True)
        settings, audit = self._settings, self._governance.current.policy.audit
        log = AuditLog(settings.log_dir, max_bytes=settings.log_max_bytes, keep=settings.log_keep)
        keys = KeyFolder(settings.key_dir)
        keys.current()
        self._recorder = Recorder(
            settings.database_url,
            log,
            keys,
            settings.spool_dir,
            spooling=audit.on_error == "spool",
            by_team=audit.chain == "team",
            died=self._reconciler.look,
        )
        await self._recorder.start()
        checkpointer = Checkpointer(settings.database_url, keys, settings.checkpoint_dir)
        self._tasks.append(asyncio.create_task(checkpointer.run(), name="gatehouse-checkpoints"))
        # The scanner's processes warm up while LiteLLM starts.
        self._warming = asyncio.create_task(self._governance.start(), name="gatehouse-scanners")
        await self._dispatcher.start()
        await self._pool.open()
        await self._gate.start()
        await self._sessions.load()
        self._tasks.append(asyncio.create_task(self._sessions.run(), name="gatehouse-sessions"))
        conversations = Conversations(self._pool, settings.keys, read_id)
        self._tasks.append(asyncio.create_task(conversations.run(), name="gatehouse-conversations"))
        self._tasks.append(asyncio.create_task(self._reconciler.run(), name="gatehouse-reconciliation"))
        pipeline = Pipeline(
            self._recorder,
            self._in_force,
            self._gate,
            self._prices,
            settings.keys,
            conversations,
            control_fields().obeys,
            self._sessions,
            settings.report_within_s,
            partial(budgets.reserve_more, self._pool),
        )
        self._parts.library = Library(pipeline, self._recorder, self._pool)
        governance.pipeline = self._middleware.settler = pipeline

    async def _stop(self) -> None:
        if self._stopped:
            return
        self._stopped = True
        for task in self._tasks:
            task.cancel()
        self._counters.stop()
        await self._gate.stop()
        await self._dispatcher.stop()
        self._middleware.conclude_all()
        await self._pool.close()
        if self._recorder is not None:
            await self._recorder.stop()
        if self._warming is not None:
            await asyncio.wait([self._warming])
        await self._governance.stop()

    def _checked(self, send: Send) -> Send:
        """Check LiteLLM before the server hears that start-up is complete: LiteLLM only logs a failed callback.

        The server hears that the shutdown is complete when ours is too, because it ends the process then.
        """

        async def checked(message: Message) -> None:
            if message["type"] == "lifespan.startup.complete":
                self.start_error = self._mistake() or await self._warm()
                if self.start_error:
                    message = {"type": "lifespan.startup.failed", "message": self.start_error}
                else:
                    self._counters.start()
                    gc.collect()
                    gc.freeze()
                    gc.set_threshold(*_GC_THRESHOLDS)
            elif message["type"].startswith("lifespan.shutdown."):
                await self._stop()
            await send(message)

        return checked

    async def _warm(self) -> str | None:
        """Wait for the scanner; return why it cannot start, or None."""
        assert self._warming is not None
        try:
            await self._warming
        except (SetupError, OSError) as error:
            return str(error)
        return None

    def _mistake(self) -> str | None:
        """Return the first thing in LiteLLM's configuration that Gatehouse cannot work with, or None."""
        if (release := other_release()) is not None:
            return _OTHER_RELEASE.format(release, control_fields().release)
        if not governance.armed:
            return _NOT_LOADED
        if governance.answers_cached:
            return ANSWERS_CACHED
        if proxy_server.polling_via_cache_enabled:
            return _POLLED
        if believes_forwarded_addresses() and not self._settings.trusted_proxies.networks:
            return _NO_PROXY
        try:  # a second time, because LiteLLM replaces all providers with those of config.yaml
            initialize_plugins(strict=True)
        except PluginError as error:
            return str(error)
        if missing := enterprise.unmet(proxy_server.proxy_config.config):
            return missing
        if late := changes_after(governance):
            return _TOO_LATE.format(late)
        if self._governance.current.policy.audit.content != "hash" and litellm.turn_off_message_logging:
            return _HIDDEN
        return None


def _payers() -> tuple[Payer, ...] | None:
    """Return who pays for the running call; None where it is not governed."""
    scope = current_scope.get()
    return None if scope is None or scope.exempt else scope.payers


def _policy_loaded(good: bool) -> None:
    metrics.policy_good.set(good)
    if not good:
        metrics.policy_loads.labels(result="bad").inc()


app = Gateway()
