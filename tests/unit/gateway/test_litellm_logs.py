"""What LiteLLM logs inside a governed call names the error and the call, and quotes nobody."""

from __future__ import annotations

import logging

import litellm  # noqa: F401  # makes its loggers
import pytest
from gatehouse.core.clock import monotonic, new_call_id, now
from gatehouse.gateway.log_filter import LOGGERS, LogFilter, keep_content_out
from gatehouse.pipeline.scope import CallScope, current_scope


class ProviderError(Exception):
    status_code = 429


@pytest.fixture(autouse=True)
def filters() -> None:
    keep_content_out()
    keep_content_out()
    assert all(
        len([found for found in logging.getLogger(name).filters if isinstance(found, LogFilter)]) == 1
        for name in LOGGERS
    )


@pytest.mark.parametrize("name", LOGGERS)
@pytest.mark.parametrize("exempt", [False, True])
def test_text_is_left_out_inside_a_governed_call_only(
    name: str, exempt: bool, caplog: pytest.LogCaptureFixture
) -> None:
    logger = logging.getLogger(name)
    logger.addHandler(caplog.handler)
    scope = CallScope(new_call_id(), "/v1/chat/completions", now(), monotonic(), exempt=exempt)
    token = current_scope.set(scope)
    try:
        raise ProviderError("you said: canary")
    except ProviderError as error:
        logger.exception("failed: %s", error)
    finally:
        current_scope.reset(token)
        logger.removeHandler(caplog.handler)
    text = caplog.text
    assert ("canary" in text) is exempt
    if not exempt:
        assert f"ProviderError (429) in call {scope.call_id}" in text


def test_what_comes_from_elsewhere_stays_as_it_is(caplog: pytest.LogCaptureFixture) -> None:
    logger = logging.getLogger(LOGGERS[0])
    logger.addHandler(caplog.handler)
    logger.error("the database is slow: %s s", 3)
    logger.removeHandler(caplog.handler)
    assert "the database is slow: 3 s" in caplog.text
