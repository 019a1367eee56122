"""Every form of a placeholder gets the same prompts, and is judged as the gateway would take it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import pytest
from gatehouse.core.errors import SetupError

from evaluation.placeholders import CONTROL, FORMS, TASKS, Prompt, _tolerated, judged, main, prompts
from tests.support.masking import PLACEHOLDERS, mask_one, new_mask
from tests.unit.guards.test_pii_masking import find

MAIL = "jane@example.com"
NAME = PLACEHOLDERS.name("EMAIL_ADDRESS", MAIL)


def test_each_form_gets_the_same_prompts() -> None:
    by_form = {form: [(each.task, each.text.replace(each.written, "")) for each in prompts(form)] for form in FORMS}
    control = by_form.pop(CONTROL)
    first, *others = by_form.values()
    assert len(first) >= 30
    assert all(each == first for each in others)
    assert {*control} == {*first}
    for form in FORMS:
        assert all(prompt.text.count(prompt.written) == 1 for prompt in prompts(form))
    assert {form: next(prompts(form)).written for form in FORMS if form != CONTROL} == {
        form: form for form in FORMS if form != CONTROL
    }


@pytest.mark.parametrize(
    ("answer", "verdict"),
    [
        (f"It is <{NAME}>.", "exact"),
        (f"It is {NAME.lower()}.", "tolerated"),
        (f"It is [{NAME}]", "tolerated"),
        (f"It is {NAME.replace('_', chr(92) + '_')}", "tolerated"),
        (f"It is <{NAME[:-1]}>", "altered"),
        (f"It is {NAME}0", "altered"),
        (f"It is the address {NAME[-8:]}", "altered"),
        ("It is <EMAIL_ADDRESS>", "absent"),
        ("", "absent"),
    ],
)
def test_an_answer_is_kept_where_the_gateway_puts_the_value_back(answer: str, verdict: str) -> None:
    prompt = Prompt("repeat", "", f"<{NAME}>", _tolerated(f"<{NAME}>"))
    assert judged(prompt, answer) == verdict
    mask = new_mask()
    mask_one(mask, MAIL, find(MAIL, MAIL))
    assert (MAIL in mask.unmask(answer)) == (verdict in ("exact", "tolerated"))


@pytest.fixture
def model() -> Iterator[str]:
    """Serve a model that says what it was asked."""

    class Echo(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
            answer = {"choices": [{"message": {"content": asked["messages"][0]["content"].upper()}}]}
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps(answer).encode())

        def log_message(self, *args: object) -> None:
            """Say nothing."""

    server = HTTPServer(("127.0.0.1", 0), Echo)
    thread = Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/v1"
    server.shutdown()
    thread.join()
    server.server_close()


def test_the_command_counts_what_comes_back(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--base-url", model, "--answers"]) == 0
    out, answers = capsys.readouterr()
    count = len([*prompts("EMAIL_ADDRESS_7Q2MKD4P")])
    assert f"| `<EMAIL_ADDRESS_7Q2MKD4P>` | {count} | {count} | 0 | 0 | 0 |" in out
    assert f"| `<email:7q2mkd4p>` | {count} | 0 | {count} | 0 | 0 |" in out
    assert answers.count("\n") == sum(len([*prompts(form)]) for form in FORMS)
    assert all(f" {task} |" in out for task in TASKS)


def test_without_a_model_it_says_what_to_serve() -> None:
    with pytest.raises(SetupError, match="Serve a model"):
        main(["--base-url", "http://127.0.0.1:9/v1"])
