"""`gatehouse policy check`, `test` and `explain` work as a person runs them."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from gatehouse.cli import main

POLICY = """\
version: 1
rules:
  - id: interns-no-frontier
    when: caller.team == "interns" && request.model.startsWith("gpt-4")
    then: deny
    reason: Interns use the small models.
  - id: night-shift
    mode: observe
    when: now.hour < 6
    then: require_approval
  - id: batch-is-short
    when: '"batch" in caller.tags'
    then: allow
    obligations: {max_tokens: 500, tag: batch}
"""

CASES = """\
policy: policy.yaml
cases:
  - name: interns may not use gpt-4
    facts: {caller: {team: interns}, request: {model: gpt-4o}, now: {hour: 12}}
    expect: {verdict: deny, rules: [interns-no-frontier], observed: [], reason: Interns use the small models.}
  - name: batch work is kept short
    facts: {caller: {tags: [batch]}, now: {hour: 3}}
    expect:
      verdict: allow
      rules: [batch-is-short]
      observed: [night-shift]
      obligations: {max_tokens: 500, tags: [batch]}
"""


@dataclass
class Done:
    returncode: int
    stdout: str
    stderr: str


Run = Callable[..., Done]


@pytest.fixture
def gatehouse(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run the command as its entry point does, but in this process, because starting one takes seconds."""

    def run(*arguments: str, stdin: str = "") -> Done:
        monkeypatch.chdir(folder)
        monkeypatch.setattr(sys, "argv", ["gatehouse", "policy", *arguments])
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin.encode())))
        with pytest.raises(SystemExit) as ended:
            main()
        out = capsys.readouterr()
        return Done(int(ended.value.code or 0), out.out, out.err)

    return run


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "policy.yaml").write_text(POLICY)
    (tmp_path / "config.yaml").write_text("")
    (tmp_path / "cases.yaml").write_text(CASES)
    return tmp_path


def test_check_says_yes_to_a_policy_that_the_gateway_enforces(folder: Path, gatehouse: Run) -> None:
    (folder / "policy.yaml").write_text("version: 1\n")
    done = gatehouse("check")
    assert (done.returncode, done.stderr) == (0, "")
    assert "policy.yaml: valid" in done.stdout


def test_check_says_what_the_gateway_would_refuse(folder: Path, gatehouse: Run) -> None:
    (folder / "policy.yaml").write_text("version: 1\ndeciders:\n  - {id: opa, url: 'http://opa.example/'}\n")
    done = gatehouse("check")
    assert done.returncode == 3
    assert "policy.yaml:2: deciders is not available in this version" in done.stdout


def test_check_tells_every_mistake_on_a_line_of_its_own(folder: Path, gatehouse: Run) -> None:
    (folder / "bad.yaml").write_text(POLICY.replace("caller.team", "caller.taem").replace("now.hour", "now.huor"))
    done = gatehouse("check", "bad.yaml")
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.splitlines() == [
        "bad.yaml:4: rule interns-no-frontier: `when` caller.taem is not a fact; did you mean caller.team?",
        "bad.yaml:9: rule night-shift: `when` now.huor is not a fact; did you mean now.hour?",
        "error: bad.yaml: 2 mistakes. Correct them and check again.",
    ]


def test_cases_that_hold_pass(gatehouse: Run) -> None:
    done = gatehouse("test", "cases.yaml")
    assert (done.returncode, done.stderr) == (0, "")
    assert "2 passed, 0 failed" in done.stdout


def test_a_case_that_fails_shows_what_was_expected_and_what_came(folder: Path, gatehouse: Run) -> None:
    (folder / "cases.yaml").write_text(
        CASES.replace("max_tokens: 500", "max_tokens: 400").replace("hour: 12", "hour: 5")
    )
    done = gatehouse("test", "cases.yaml")
    assert done.returncode == 3
    assert (
        "FAIL  interns may not use gpt-4  (cases.yaml:3)\n        observed: expected [], got [night-shift]"
        in done.stdout
    )
    assert "obligations.max_tokens: expected 400, got 500" in done.stdout
    assert "0 passed, 2 failed" in done.stdout


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("team: interns", "taem: interns", "cases.yaml:4: interns may not use gpt-4: facts: caller.taem is not a fact"),
        ("team: interns", "team: 3", "caller.team should be a str, not 3"),
        ("rules: [batch-is-short]", "rules: [batch]", "cases.yaml:10: batch work is kept short: batch is not a rule"),
        ("verdict: deny", "verdict: no", "cases.yaml:5: cases.0.expect.verdict"),
        ("expect:\n", "expects:\n", "did you mean expect?"),
        (
            "verdict: deny",
            "stages: {screens/secret: nothing}, verdict: deny",
            "is not a stage; did you mean screens/sec",
        ),
        ("verdict: deny", "stages: {limits: masked}, verdict: deny", "cases.yaml:5: cases.0.expect.stages.limits"),
    ],
)
def test_a_mistake_in_the_cases_is_no_passing_case(folder: Path, gatehouse: Run, old: str, new: str, said: str) -> None:
    (folder / "cases.yaml").write_text(CASES.replace(old, new))
    done = gatehouse("test", "cases.yaml")
    assert done.returncode == 1
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_explain_shows_each_rule_with_the_facts_it_looked_at(gatehouse: Run) -> None:
    facts = {"caller": {"team": "interns", "tags": ["batch"]}, "request": {"model": "gpt-4o"}}
    done = gatehouse("explain", "--facts", "-", stdin=json.dumps(facts))
    assert done.returncode == 0, done.stderr
    lines = [line.strip() for line in done.stdout.splitlines()]
    assert 'when  caller.team == "interns" && request.model.startsWith("gpt-4")' in lines
    assert "caller.team = interns" in lines
    assert "request.model = 'gpt-4o'" in lines
    assert "(require_approval)  night-shift" in lines
    assert "verdict      deny" in lines
    assert "rules        interns-no-frontier, batch-is-short" in lines


@pytest.mark.parametrize("facts", ["[1]", "caller: [", "caller: {taem: x}", "\x00"])
def test_facts_that_are_none_are_refused_in_one_sentence(gatehouse: Run, facts: str) -> None:
    done = gatehouse("explain", "--facts", "-", stdin=facts)
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert len(done.stderr.splitlines()) == 1


STAGES = "version: 1\nscreens: {secrets: mask}\nprovider_data: {allow: ['file:mine']}\n"


def test_explain_shows_what_every_stage_does(folder: Path, gatehouse: Run) -> None:
    (folder / "policy.yaml").write_text(STAGES)
    masked = gatehouse(
        "explain", "--facts", "-", stdin="{screens: {hits: [secrets]}, request: {reaches: ['file:mine']}}"
    )
    assert "masks            screens/secrets\n" in masked.stdout
    assert "verdict      allow\nrules        -\n" in masked.stdout
    refused = gatehouse("explain", "--facts", "-", stdin="{request: {reaches: ['mcp:x.example', 'file:other']}}")
    assert "refuses          hosted_mcp\n    mcp:x.example is not under hosted_mcp.allow\n" in refused.stdout
    assert "refuses          provider_data\n" in refused.stdout
    assert "verdict      deny\nrefused by   hosted_mcp, before the rules are asked\n" in refused.stdout


def test_cases_say_what_stages_do(folder: Path, gatehouse: Run) -> None:
    (folder / "policy.yaml").write_text(STAGES)
    case = "  - {{name: {0}, facts: {1}, expect: {2}}}\n"
    secret, file = "{screens: {hits: [secrets]}}", "{request: {reaches: ['file:x']}}"
    (folder / "cases.yaml").write_text(
        "policy: policy.yaml\ncases:\n"
        + case.format("masked", secret, "{verdict: allow, stages: {screens/secrets: masks, limits: nothing}}")
        + case.format("refused", file, "{verdict: deny, rules: [provider_data]}")
        + case.format("wrong", secret, "{verdict: deny, stages: {screens/secrets: refuses}}")
    )
    done = gatehouse("test", "cases.yaml")
    assert done.returncode == 3
    assert "2 passed, 1 failed" in done.stdout
    assert "stages.screens/secrets: expected refuses, got masks" in done.stdout
