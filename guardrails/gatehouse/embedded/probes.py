"""Asks each part, as its clients do, whether it works: a part that runs may not answer yet."""

from __future__ import annotations

import http.client
import urllib.error
import urllib.request

from gatehouse.embedded.settings import LOCAL, StackSettings

# The environment's proxies are for other hosts, never for this machine.
_direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def _http(url: str, timeout: float) -> bool:
    try:
        with _direct.open(url, timeout=timeout) as answer:
            return bool(answer.status == 200)
    except (OSError, http.client.HTTPException):
        return False


def _postgres(settings: StackSettings, timeout: float) -> bool:
    import psycopg

    try:
        psycopg.connect(settings.database_url, connect_timeout=max(1, int(timeout))).close()
    except psycopg.OperationalError:
        return False
    return True


def _redis(settings: StackSettings, timeout: float) -> bool:
    import redis

    client = redis.Redis(
        LOCAL,
        settings.redis_port,
        password=settings.redis_password,
        socket_timeout=timeout,
        socket_connect_timeout=timeout,
    )
    try:
        return bool(client.ping())
    except redis.RedisError:
        return False
    finally:
        client.close()


def answers(part: str, settings: StackSettings, timeout: float = 2.0) -> bool:
    """Tell whether that part answers within `timeout` seconds. The gateway's answer includes its database."""
    if part == "postgres":
        return _postgres(settings, timeout)
    if part == "redis":
        return _redis(settings, timeout)
    if part == "prometheus":
        return _http(settings.address("prometheus") + "/-/ready", timeout)
    return _http(f"{settings.gateway_url}/health/readiness", timeout)
