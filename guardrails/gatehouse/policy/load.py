"""Reads policy.yaml in two ways: as a valid file, and as one that this gateway can enforce.

The gateway must do all that the file asks for, so it refuses a section that this version cannot enforce.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from gatehouse.core.errors import SetupError
from gatehouse.policy.check import WhenError, condition
from gatehouse.policy.document import Document, DocumentError, Problem, parse_document, read_document
from gatehouse.policy.facts import KNOWN_ENTITIES
from gatehouse.policy.model import Policy
from gatehouse.policy.pii_section import pii_problems
from gatehouse.policy.rules import Rule, RuleSet
from gatehouse.policy.screens_section import screen_config

NOT_YET_ENFORCED = frozenset(
    {
        "deciders",
    }
)
"""Sections that the model knows and the pipeline does not enforce yet. Remove an entry when it is enforced."""


@dataclass(frozen=True, slots=True)
class LoadedPolicy:
    """Hold a policy with its version, the SHA-256 of the file's bytes in lower-case hex, and its compiled rules."""

    policy: Policy
    version: str
    rules: RuleSet


def load_policy(path: Path, raw: bytes | None = None) -> LoadedPolicy:
    """Return the policy that the gateway enforces; `raw` holds the file's bytes if they were read already.

    Raises:
        SetupError: it names the file, the line and what was expected; also where the gateway cannot obey it.
    """
    loaded, refused = read_policy(path, raw)
    if refused:
        raise DocumentError(path, refused)
    return loaded


def read_policy(path: Path, raw: bytes | None = None) -> tuple[LoadedPolicy, list[Problem]]:
    """Return the policy, and everything in it that this version of the gateway would refuse.

    Raises:
        SetupError: it names the file, the line and what was expected.
    """
    document = read_document(path) if raw is None else parse_document(path, raw)
    policy = document.validated(Policy)
    entities = KNOWN_ENTITIES
    if policy.pii is not None:
        entities |= {*policy.pii.entities, *(each.entity for each in policy.pii.recognizers)}
    rules: list[Rule] = []
    problems = list(_repeated_ids(document, policy))
    for index, rule in enumerate(policy.rules):
        try:
            rules.append(Rule(rule, condition(rule.when, entities)))
        except WhenError as error:
            line = document.line_of(("rules", index, "when"))
            problems.append(Problem(line, f"rule {rule.id}: `when` {error}"))
        if rule.obligations is not None and rule.obligations.mask and policy.pii is None:
            line = document.line_of(("rules", index, "obligations"))
            problems.append(Problem(line, f"rule {rule.id}: `mask` needs a `pii` section that says what to look for"))
    problems += _section_problems(document, policy)
    if problems:
        raise DocumentError(path, problems)
    loaded = LoadedPolicy(policy, hashlib.sha256(document.raw).hexdigest(), RuleSet(rules, entities))
    return loaded, [
        Problem(document.line_of(where), f"{what} is not available in this version; remove it until it is")
        for what, where in _not_yet_enforced(document, policy)
    ]


def _section_problems(document: Document, policy: Policy) -> Iterator[Problem]:
    """Yield the mistakes in `pii`, `screens` and `audit` that the model cannot see."""
    if policy.audit.content == "redacted" and (policy.pii is None or policy.pii.mode == "off"):
        line = document.line_of(("audit", "content"))
        yield Problem(line, "`redacted` needs a `pii` section that says what to look for")
    if policy.pii is not None:
        for where, what in pii_problems(policy.pii):
            yield Problem(document.line_of(("pii", *where)), what)
    if policy.screens is not None:
        try:
            screen_config(policy.screens)
        except SetupError as error:
            yield Problem(document.line_of(("screens",)), str(error).rstrip("."))


def _repeated_ids(document: Document, policy: Policy) -> Iterator[Problem]:
    """Yield ids given twice. Rules and deciders share one set of ids, because a decision names both."""
    named = [("rules", index, rule.id) for index, rule in enumerate(policy.rules)]
    named += [("deciders", index, decider.id) for index, decider in enumerate(policy.deciders)]
    lines: dict[str, int] = {}
    for section, index, name in named:
        line = document.line_of((section, index, "id"))
        if name in lines:
            yield Problem(line, f"the id {name!r} is given twice, first in line {lines[name]}; give each its own")
        lines.setdefault(name, line)


def _not_yet_enforced(document: Document, policy: Policy) -> Iterator[tuple[str, tuple[int | str, ...]]]:
    if "deciders" in NOT_YET_ENFORCED and policy.deciders:
        yield "deciders", ("deciders",)
    for index, rule in enumerate(policy.rules):
        action = f"then: {rule.then}"
        if rule.mode == "enforce" and action in NOT_YET_ENFORCED:
            yield f"rule {rule.id}: `{action}`", ("rules", index, "then")
