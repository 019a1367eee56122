"""Decides whether a call may be made: by the breaker, the gateway's decision, and a reviewer's.

It fails closed on every doubt but one: an unreachable endpoint, when the governor has fail_open=True. A call that needs
approval is never made without it, whatever happens to the endpoint meanwhile.
"""

from __future__ import annotations

import logging

from gatehouse_adapter._internal import clock
from gatehouse_adapter._internal.breaker import Breaker
from gatehouse_adapter.errors import ApprovalRequired, GatehouseError, GovernanceUnavailable
from gatehouse_adapter.litellm.endpoint import Away, Decision, Endpoint
from gatehouse_adapter.litellm.errors import ApprovalTimeout, refusal
from gatehouse_adapter.litellm.options import GovernorConfig
from gatehouse_adapter.litellm.requests import Request

log = logging.getLogger("gatehouse_adapter.litellm")

_MAX_HOLD_S = 86_400.0  # the gateway's limit


class Decider:
    """Make decisions on the background loop."""

    def __init__(self, options: GovernorConfig, endpoint: Endpoint) -> None:
        self._options = options
        self._endpoint = endpoint
        self.breaker = Breaker(options.breaker_failure_threshold, options.breaker_recovery_seconds)

    async def decide(self, request: Request) -> Decision | None:
        """Return the decision; None to call the model without one.

        Raises:
            PolicyDeniedError, ApprovalRejected, ApprovalTimeout: the call is refused.
            GovernanceUnavailable: there is no decision, and fail_open is False.
        """
        try:
            return await self._guarded(request)
        except Away as away:
            if not self._options.fail_open:
                raise away.error from None
            log.warning("fail_open: a call goes to its model without a decision. %s", away.error.message)
            return None
        except ApprovalRequired as required:
            if not self._options.enable_hitl_polling or required.approval is None:
                raise refusal(required) from None
            return await self._approved(request, required)
        except GatehouseError as error:
            raise refusal(error) from None

    async def _guarded(self, request: Request) -> Decision:
        permit = self.breaker.enter(clock.monotonic())
        if permit is None:
            raise Away(
                GovernanceUnavailable(
                    f"{self._options.endpoint} failed {self._options.breaker_failure_threshold} times in a row and is "
                    f"not asked for up to {self._options.breaker_recovery_seconds:g} s. Check that the gateway runs."
                )
            )
        try:
            decision = await self._endpoint.decide(request, seconds=self._options.call_timeout_seconds)
        except Away:
            if self.breaker.failed(permit, clock.monotonic()):
                log.warning("the breaker of %s is open", self._options.endpoint)
            raise
        except GatehouseError:
            self.breaker.succeeded(permit)
            raise
        except BaseException:
            self.breaker.left(permit)
            raise
        self.breaker.succeeded(permit)
        return decision

    async def _approved(self, request: Request, required: ApprovalRequired) -> Decision:
        """Return the decision after the reviewers': the gateway holds the call as long as it can, then poll."""
        assert required.approval is not None
        approval_id, options = required.approval.id, self._options
        give_up = clock.monotonic() + options.approval_max_wait_seconds
        hold = True
        while (left := give_up - clock.monotonic()) > 0:
            try:
                if not hold:
                    await clock.sleep(min(options.approval_poll_interval_seconds, left))
                    state = await self._endpoint.approval_state(approval_id, seconds=options.call_timeout_seconds)
                    if state == "requested":
                        continue
                wait = min(left, _MAX_HOLD_S) if hold else 0.0
                seconds = wait + options.call_timeout_seconds
                return await self._endpoint.decide(request, seconds=seconds, approval_id=approval_id, wait_seconds=wait)
            except ApprovalRequired:
                hold = False
            except Away as away:
                # Only asked again, and never given up for fail_open, because the call is known to need approval.
                log.info("waiting for approval %s: %s", approval_id, away.error.message)
                hold = False
            except GatehouseError as error:
                raise refusal(error) from None
        raise ApprovalTimeout(
            f"No reviewer decided on the call within {options.approval_max_wait_seconds:g} s. "
            "Make the same call again later: it finds the decision.",
            status=required.status,
            call_id=required.call_id,
            policies=required.policies,
            approval=required.approval,
        )
