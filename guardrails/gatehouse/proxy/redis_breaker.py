"""Makes LiteLLM ask a Redis that failed again, each second, whatever became of the call that asked before.

LiteLLM leaves a failed Redis alone for a while, and then lets one call ask it. Where that call ends without an answer
of Redis, because its client left or because Redis answered with an error of another kind, LiteLLM waits for it forever,
and refuses every call with a budget or a rate limit until the gateway restarts.
"""

from __future__ import annotations

import time

from litellm.caching.redis_cache import RedisCircuitBreaker


def keep_asking() -> None:
    """Give the turn to ask a failed Redis to another call each time that LiteLLM's recovery timeout has passed."""
    RedisCircuitBreaker.is_open = _is_open


def _is_open(breaker: RedisCircuitBreaker) -> bool:
    """Tell whether a call has to do without Redis. Where Redis failed and it has not, its turn to ask begins."""
    if not breaker.enabled or breaker._state == breaker.CLOSED:
        return False
    # LiteLLM notes the time of the wall clock, which may be set back.
    if 0 <= (time.time() - (breaker._opened_at or 0)) < breaker.recovery_timeout:
        return True
    breaker._opened_at = time.time()
    breaker._set_state(breaker.HALF_OPEN)
    return False
