"""Each mistake in policy.yaml is named with its line, and settings that the gateway cannot keep are refused."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import pytest
from gatehouse.core.errors import SetupError
from gatehouse.policy import load
from gatehouse.policy.cases import read_cases
from gatehouse.policy.document import DocumentError
from gatehouse.policy.load import NOT_YET_ENFORCED, load_policy, read_policy

WHOLE = """\
version: 1
limits:   {max_tokens_per_request: 32000, max_cost_per_request_usd: 10, allow_unpriced_models: [demo]}
screens:  {blocked_content: {illegal: [a certain phrase]}, secrets: block, prompt_injection: observe}
pii:
  mode: mask
  entities: {EMAIL_ADDRESS: block, BADGE: mask}
  languages: [en]
  recognizers:
    - {entity: BADGE, patterns: [{regex: 'B-[0-9]{6}', score: 0.9}]}
  on_error: deny
rules:
  - id: expensive-needs-a-human
    when: cost.estimated_usd > 5.0
    then: require_approval
    approvers: {roles: [finance], count: 1, hold: 30s}
  - id: interns-no-frontier
    when: caller.team == "interns" && request.model.startsWith("gpt-4")
    then: deny
    reason: Interns use the small models.
  - id: night-shift
    mode: observe
    when: now.hour < 6
    then: require_approval
  - id: badges-stay-small
    when: pii.BADGE > 0
    then: allow
    obligations: {mask: true, downgrade_to: demo, max_tokens: 500, tag: badge}
deciders:
  - {id: opa, url: "https://opa.example/v1/data/gatehouse", timeout: 500ms, on_error: deny}
audit:    {content: hash, on_error: deny}
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "policy.yaml"
    path.write_text(text)
    return path


def test_the_whole_of_the_design_is_understood(tmp_path: Path) -> None:
    path = written(tmp_path, WHOLE)
    loaded, _ = read_policy(path)
    policy = loaded.policy
    assert loaded.version == hashlib.sha256(path.read_bytes()).hexdigest()
    assert [rule.id for rule in policy.rules][:2] == ["expensive-needs-a-human", "interns-no-frontier"]
    assert policy.rules[0].approvers is not None
    assert policy.rules[0].approvers.hold == 30.0
    assert policy.deciders[0].timeout == 0.5
    assert policy.pii is not None
    assert policy.pii.entities == {"EMAIL_ADDRESS": "block", "BADGE": "mask"}


def test_a_list_of_entities_leaves_each_to_the_sections_mode(tmp_path: Path) -> None:
    loaded, _ = read_policy(written(tmp_path, "version: 1\npii: {entities: [US_SSN, URL]}\n"))
    assert loaded.policy.pii is not None
    assert loaded.policy.pii.entities == {"US_SSN": None, "URL": None}


def rule(*lines: str) -> str:
    return "version: 1\nrules:\n  - id: a\n" + "".join(f"    {line}\n" for line in lines)


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("version: 1\nrulse: []\n", 2, "rulse is not a known key; did you mean rules?"),
        ("version: 1\n\nrulez: []\n", 3, "did you mean rules?"),
        ("version: 1\naudit: {}\naudit: {}\n", 3, "the key 'audit' is given twice, first in line 2"),
        ("version: 1\naudit: {content: hash, content: full}\n", 2, "the key 'content' is given twice"),
        ("version: 1\naudit:\n  content: has\n", 3, "audit.content: Input should be 'hash', 'redacted' or 'full'"),
        ("version: 1\naudit:\n  content: redacted\n", 3, "needs a `pii` section"),
        ("version: 1\nlimits:\n  max_tokens_per_request: '5'\n", 3, "valid integer"),
        ("version: 1\nlimits: {max_tokens_per_request: true}\n", 2, "valid integer"),
        ("version: 1\nlimits: {max_cost_per_request_usd: .inf}\n", 2, "finite"),
        ("version: 1\nlimits: {max_cost_per_request_usd: -1}\n", 2, "greater than 0"),
        ("version: 1\nscreens: {blocked_content: {Bad Name: [x]}}\n", 2, "match pattern"),
        ("version: 1\npii: {entities: [email]}\n", 2, "match pattern"),
        ("version: 1\npii: {entities: {EMAIL_ADDRESS: hide}}\n", 2, "'mask', 'block', 'observe' or 'off'"),
        ("version: 1\npii:\n  recognizers:\n    - entity: X\n", 4, "give it patterns or a deny_list"),
        (rule("then: deny"), 3, "rules.0.when is missing"),
        (rule("when: 'true'", "then: dney"), 5, "'deny', 'require_approval' or 'allow'"),
        (rule("when: 'true'", "then: deny", "raeson: x"), 6, "did you mean reason?"),
        (rule("when: 'true'", "then: allow", "approvers: {}"), 3, "approvers belong to `then: require_approval`"),
        (rule("when: 'true'", "then: deny", "obligations: {mask: true}"), 3, "never be carried out"),
        (rule("when: 'true'", "then: allow", "obligations: {}"), 6, "no obligation is set"),
        (rule("when: 'true'", "then: require_approval", "approvers: {users: [a], count: 2}"), 6, "only 1 may"),
        (rule("when: 'true'", "then: require_approval", "approvers: {hold: soon}"), 6, "such as 30s"),
        (rule("when: 'true'", "then: require_approval", "approvers: {hold: 1h}"), 6, "less than or equal to 600"),
        (rule("then: deny", "when: |", "  caller.team == 'x'", "  && caller.taem == 'y'"), 5, "mean caller.team?"),
        (rule("when: 'true'", "then: deny") + "  - id: a\n    when: 'true'\n    then: deny\n", 6, "first in line 3"),
        ("version: 1\nungoverned_routes:\n  - /ok\n  - nope\n", 4, "'nope' is not a route"),
        ("version: 1\ndeciders: [{id: x, url: 'file:///etc/passwd'}]\n", 2, "is not an address"),
        ("version: 1\naudit: *nobody\n", 2, "undefined alias"),
        ("version: 1\nx: !!python/object:os.system {}\n", 2, "could not determine a constructor"),
        ("version: 1\nx: 2020-13-45\n", 1, "month"),
        ("version: \x00\n", 1, "Correct the YAML"),
    ],
)
def test_a_mistake_is_told_with_its_line_and_what_was_expected(tmp_path: Path, text: str, line: int, said: str) -> None:
    with pytest.raises(DocumentError) as refused:
        read_policy(written(tmp_path, text))
    assert f"policy.yaml:{line}: " in str(refused.value)
    assert said in str(refused.value)


def test_every_mistake_is_told_not_only_the_first(tmp_path: Path) -> None:
    text = rule("when: caller.taem == ''", "then: deny") + "  - {id: b, when: '1', then: deny}\n"
    with pytest.raises(DocumentError, match="and 1 more") as refused:
        read_policy(written(tmp_path, text))
    assert [problem.line for problem in refused.value.problems] == [4, 6]


def bomb(levels: int) -> str:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, levels)]
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize(
    "text",
    [
        bomb(12),
        "a: &a [*a]\n",
        "a: " + "[" * 100 + "]" * 100 + "\n",
        "a: " + "[" * 50_000 + "]" * 50_000 + "\n",
        "a: " + "{b: " * 5_000 + "}" * 5_000 + "\n",
        "version: 1\n#" + "x" * 1_000_001,
    ],
    ids=["a billion from twelve lines", "itself", "deep", "very deep", "deep maps", "large"],
)
@pytest.mark.timeout(10)
def test_a_file_that_grows_without_bounds_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(SetupError):
        read_policy(written(tmp_path, text))


def test_anchors_within_bounds_are_welcome(tmp_path: Path) -> None:
    text = rule("when: &w caller.team == 'x'", "then: deny") + "  - {id: b, when: *w, then: deny}\n"
    loaded, _ = read_policy(written(tmp_path, text))
    assert loaded.policy.rules[1].when == "caller.team == 'x'"


@pytest.mark.parametrize("feature", sorted(NOT_YET_ENFORCED))
def test_what_is_not_enforced_yet_is_refused_and_not_ignored(
    tmp_path: Path, feature: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(load, "NOT_YET_ENFORCED", frozenset({feature}))
    with pytest.raises(DocumentError, match="is not available in this version") as refused:
        load_policy(written(tmp_path, WHOLE))
    assert feature in str(refused.value)


def test_everything_in_a_whole_policy_is_either_enforced_or_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = written(tmp_path, WHOLE)
    _, refused = read_policy(path)
    lines = {problem.line for problem in refused}
    assert {28} == lines
    monkeypatch.setattr(load, "NOT_YET_ENFORCED", frozenset[str]())
    assert len(load_policy(path).rules.rules) == 4


def test_an_empty_section_asks_for_nothing(tmp_path: Path) -> None:
    load_policy(written(tmp_path, "version: 1\nrules: []\ndeciders: []\nlimits: {}\n"))


def test_the_shipped_policy_is_one_that_the_gateway_enforces() -> None:
    load_policy(Path(__file__).parents[3] / "policy.yaml")


def test_the_examples_of_the_policys_page_hold(tmp_path: Path) -> None:
    page = (Path(__file__).parents[3] / "docs" / "policy.md").read_text()
    policy, cases, _ = re.findall(r"```yaml\n(.*?)```", page, re.S)
    loaded, _ = read_policy(written(tmp_path, policy))
    (tmp_path / "cases.yaml").write_text(cases)
    tried = read_cases(tmp_path / "cases.yaml").prepared(loaded.policy, loaded.rules)
    assert [case.differences(loaded.policy, loaded.rules) for case in tried] == [[]]


SHIPPED = (Path(__file__).parents[3] / "policy.yaml").read_text()


def test_as_shipped_nothing_that_a_provider_keeps_may_be_named_and_the_example_lists_some(tmp_path: Path) -> None:
    shipped = load_policy(written(tmp_path, SHIPPED)).policy.provider_data
    assert shipped.allowed_to("research") == frozenset()
    listed = load_policy(written(tmp_path, SHIPPED.replace("# provider_data:", "provider_data:"))).policy.provider_data
    for_all = {"vector_store:vs_abc123"}
    assert listed.allowed_to(None) == listed.allowed_to("") == listed.allowed_to("sales") == for_all
    assert listed.allowed_to("research") == for_all | {"file:file-abc123", "prompt:pmpt_abc123"}


@pytest.mark.parametrize(
    "entry", ["file-abc", "file:", "file:a b", "*", "f*:a", "file:a*b", "container:c", "link:a.example"]
)
def test_what_is_listed_must_name_something_that_a_provider_keeps(entry: str, tmp_path: Path) -> None:
    for place in (f'{{allow: ["{entry}"]}}', f'{{teams: {{research: ["{entry}"]}}}}'):
        with pytest.raises((SetupError, DocumentError), match="write file:ID"):
            load_policy(written(tmp_path, f"version: 1\nprovider_data: {place}\n"))
