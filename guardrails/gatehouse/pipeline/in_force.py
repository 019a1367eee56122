"""The policy in force with everything that carries it out: its rules, its scanner's processes, its screens for answers.

One value, replaced as a whole when policy.yaml changes, so that a call that began under one policy ends under it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from dataclasses import dataclass, replace

from gatehouse.core import metrics
from gatehouse.core.errors import SetupError
from gatehouse.guards.pii.config import Mode, PiiConfig
from gatehouse.guards.scan import ScanConfig
from gatehouse.guards.screens.config import ScreenConfig
from gatehouse.guards.screens.engine import ScreenEngine
from gatehouse.guards.worker_pool import Scanner
from gatehouse.policy.holder import PolicyHolder
from gatehouse.policy.load import LoadedPolicy
from gatehouse.policy.model import Policy
from gatehouse.policy.pii_section import pii_config
from gatehouse.policy.screens_section import screen_config

log = logging.getLogger("gatehouse.policy")

_LOOK_EVERY_S = 1.0
# How long a scanner that is no longer in force goes on for the calls that began under it: longer than any scan.
_RETIRE_AFTER_S = 60.0


@dataclass(frozen=True, slots=True)
class PolicyInForce:
    """What a call is decided by.

    Attributes:
        pii: how personal data is treated; None where policy.yaml does not say.
        masking: the same, with what is only observed masked too: for a rule's obligation `mask`.
        redaction: the same, with all of it masked: for `audit.content: redacted`.
        scanner: None where there is nothing to look for.
        answers: looks at what models say; None where policy.yaml has no screens.
        ready: false until its scanner has started; nothing is decided before.
    """

    loaded: LoadedPolicy
    pii: PiiConfig | None = None
    masking: PiiConfig | None = None
    redaction: PiiConfig | None = None
    scanner: Scanner | None = None
    answers: ScreenEngine | None = None
    ready: bool = True

    @property
    def policy(self) -> Policy:
        return self.loaded.policy

    @property
    def version(self) -> str:
        return self.loaded.version


class PolicyInForceHolder:
    """The governance in force, while policy.yaml changes underneath."""

    def __init__(self, policies: PolicyHolder, *, workers: int) -> None:
        """Args:
        workers: processes of the scanner.
        """
        self._policies = policies
        self._workers = workers
        self._fixed = policies.current.policy.audit, policies.current.policy.notifications
        self.current = PolicyInForce(policies.current, ready=False)
        self._scan_config = ScanConfig()
        self._refused: str | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._retiring: set[Scanner] = set()

    @property
    def error(self) -> str | None:
        """Why the file as it stands now is not in force; None while it is."""
        return self._policies.error or self._refused

    async def start(self) -> None:
        """Put the policy in force and go on looking at its file.

        Raises:
            SetupError: what the policy asks for cannot be done here.
        """
        await self._enforce(self._policies.current)
        self._spawn(self._watch())

    async def stop(self) -> None:
        """End the scanner's processes."""
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for scanner in (*self._retiring, self.current.scanner):
            if scanner is not None:
                await scanner.close()

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(_LOOK_EVERY_S)
            known = self._policies.error
            try:
                if await asyncio.to_thread(self._policies.refresh):
                    await self.adopt(self._policies.current)
            except Exception:
                log.exception("policy.yaml could not be looked at; the policy before stays in force")
            if self._policies.error and self._policies.error != known:
                log.error("%s", self._policies.error)

    async def adopt(self, loaded: LoadedPolicy) -> bool:
        """Put another policy in force; the one before stays where that cannot be done."""
        try:
            if (loaded.policy.audit, loaded.policy.notifications) != self._fixed:
                raise SetupError("`audit` or `notifications` changed, which takes a restart.")
            await self._enforce(loaded)
        except (SetupError, OSError) as error:
            self._refused = f"policy.yaml: {error} The policy before stays in force."
            log.error("%s", self._refused)
            metrics.policy_loads.labels(result="bad").inc()
            metrics.policy_good.set(0)
            return False
        self._refused = None
        log.info("policy.yaml: version %s is in force", loaded.version)
        metrics.policy_loads.labels(result="good").inc()
        return True

    async def _enforce(self, loaded: LoadedPolicy) -> None:
        pii, screens = _configs(loaded.policy)
        engine = None if screens is None else ScreenEngine(screens)  # before a process runs that would have to end
        scan_config = ScanConfig(pii, screens)
        scanner, old = self.current.scanner, None
        if scan_config != self._scan_config:
            old, scanner = scanner, None
            if scan_config.wanted:
                scanner = Scanner(scan_config, workers=self._workers)
                await scanner.start()
        self._scan_config = scan_config
        self.current = PolicyInForce(
            loaded,
            pii,
            pii and _masked(pii, Mode.OBSERVE),
            pii and _masked(pii, Mode.OBSERVE, Mode.BLOCK),
            scanner,
            engine,
        )
        metrics.policy_good.set(1)
        if old is not None:
            self._retiring.add(old)
            self._spawn(self._retire(old))

    async def _retire(self, scanner: Scanner) -> None:
        """End a scanner when the calls that began under it are over; `stop` ends it sooner."""
        await asyncio.sleep(_RETIRE_AFTER_S)
        with contextlib.suppress(Exception):
            await scanner.close()
        self._retiring.discard(scanner)

    def _spawn(self, work: object) -> None:
        task: asyncio.Task[None] = asyncio.create_task(work)  # type: ignore[arg-type]
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _configs(policy: Policy) -> tuple[PiiConfig | None, ScreenConfig | None]:
    pii = policy.pii and pii_config(policy.pii)
    screens = policy.screens and screen_config(policy.screens)
    return pii if pii and pii.wanted else None, screens if screens and screens.wanted else None


def _masked(pii: PiiConfig, *modes: Mode) -> PiiConfig:
    """The configuration with these modes made `mask`."""
    entities = {name: Mode.MASK if (mode := pii.mode_of(name)) in modes else mode for name in pii.wanted}
    return replace(pii, entities=entities)
