"""`python -m bench first_byte` measures from the model's first text to the client's, and tells whether it is soon."""

from __future__ import annotations

import httpx
import pytest

from bench.first_byte import PLAIN, SAID, Model, ask, text
from bench.gateways import OURS
from tests.support.process import free_port, wait_until


@pytest.mark.parametrize("language", SAID)
def test_the_time_ends_with_the_first_text_that_is_read(language: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.first_byte.PAUSE_S", 0.0)
    model = Model(free_port())
    model.start()
    with httpx.Client(base_url=f"http://127.0.0.1:{model.port}") as client:
        wait_until(lambda: _answers(client, model, language), "the model answers")
        assert ask(client, model, language) >= 0
    assert model.written == {}


def _answers(client: httpx.Client, model: Model, language: str) -> bool:
    try:
        ask(client, model, language)
    except httpx.ConnectError:
        return False
    return True


def test_an_answer_that_is_not_what_the_model_said_ends_the_run() -> None:
    def refuse(request: httpx.Request) -> httpx.Response:
        return httpx.Response(403, text='data: {"error": {}}\n\n')

    with (
        httpx.Client(transport=httpx.MockTransport(refuse), base_url="http://gateway") as client,
        pytest.raises(SystemExit, match="403"),
    ):
        ask(client, Model(0), "Thai")


def test_the_report_compares_medians_and_names_what_misses_the_goal() -> None:
    times = {
        OURS: {language: [10.0, 70.0, 90.0] for language in SAID},
        PLAIN: {language: [10.0, 20.0, 30.0] for language in SAID},
    }
    times[OURS]["Thai"] = [71.0, 70.0, 10.0]
    lines = {line.split()[0]: line for line in text(times).splitlines() if line}
    assert lines["English"].split()[-4:] == ["70.0", "20.0", "50.0", "met"]
    assert lines["Thai"].split()[-4:] == ["70.0", "20.0", "50.0", "met"]
    times[PLAIN]["Thai"] = [1.0]
    lines = {line.split()[0]: line for line in text(times).splitlines() if line}
    assert lines["Thai"].split()[-2:] == ["69.0", "missed"]
