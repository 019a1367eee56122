"""`gatehouse policy`: checks a policy file, tests how it decides, and explains why.

All three read the whole of policy.yaml, also sections that this version of the gateway cannot enforce, and report
those. Exit codes: 0 yes; 1 a file cannot be used; 3 no (a case fails, or the gateway would refuse the policy).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated, TypeVar

import typer

from gatehouse.cli import app
from gatehouse.core.errors import SetupError
from gatehouse.core.home import find_home
from gatehouse.policy.cases import read_cases
from gatehouse.policy.document import DocumentError, Problem, parse_document
from gatehouse.policy.facts import Facts
from gatehouse.policy.load import LoadedPolicy, read_policy
from gatehouse.policy.rules import Result, Ruling
from gatehouse.policy.stages import outcome

NO = 3
_T = TypeVar("_T")

policy_app = typer.Typer(no_args_is_help=True, help="Check, test and explain policy.yaml.")
app.add_typer(policy_app, name="policy")

PolicyFile = Annotated[Path | None, typer.Option("--policy", help="The policy; by default the gateway's.")]


@policy_app.command()
def check(file: Annotated[Path | None, typer.Argument(help="The policy; by default the gateway's.")] = None) -> None:
    """List every mistake in a policy, with its line."""
    path = file or own_policy()
    loaded, refused = read(path)
    rules = loaded.rules.rules
    observed = sum(not rule.enforced for rule in rules)
    print(f"{path}: valid, version {loaded.version[:12]}, {len(rules)} rules ({observed} of them only observe)")
    if refused:
        print("\nThis gateway would refuse it:")
        _print_problems(path, refused)
        raise typer.Exit(NO)


@policy_app.command("test")
def run_cases(
    file: Annotated[Path, typer.Argument(help="YAML with cases: facts, and the expected decision.")],
    policy: PolicyFile = None,
) -> None:
    """Run a file of cases against a policy."""
    cases = _all_mistakes(lambda: read_cases(file))
    loaded, refused = read(policy or (file.parent / cases.policy if cases.policy else own_policy()))
    tried = _all_mistakes(lambda: cases.prepared(loaded.policy, loaded.rules))
    failed = 0
    for each in tried:
        differences = each.differences(loaded.policy, loaded.rules)
        failed += bool(differences)
        print(
            f"{'FAIL' if differences else 'ok  '}  {each.case.name}" + (f"  ({file}:{each.line})" * bool(differences))
        )
        for difference in differences:
            print(f"        {difference.what}: expected {_shown(difference.expected)}, got {_shown(difference.got)}")
    print(f"\n{len(tried) - failed} passed, {failed} failed")
    _note(refused)
    if failed:
        raise typer.Exit(NO)


@policy_app.command()
def explain(
    facts: Annotated[
        str | None, typer.Option("--facts", help="YAML or JSON with the facts that matter; - reads standard input.")
    ] = None,
    policy: PolicyFile = None,
) -> None:
    """Show what the gateway does with a request: its stages, which rules match, and why."""
    loaded, refused = read(policy or own_policy())
    known = _facts(facts, loaded)
    results = loaded.rules.results(known)
    values = known.as_dict(loaded.rules.entities)
    for result in results:
        print(f"{_outcome_of(result)}  {result.rule.id}")
        print(f"    when  {' '.join(result.rule.condition.source.split())}")
        for path in result.rule.condition.paths:
            print(f"          {'.'.join(path)} = {_shown(_at(values, path))}")
        if result.error:
            print(f"    error {result.error}")
    decided = outcome(loaded.policy, loaded.rules, known)
    for each in decided.effects:
        print(f"{each.effect.value:<15}  {each.stage}")
        print(f"    {each.why}")
    print(f"\nverdict      {decided.verdict.value}")
    if decided.ruling is None:
        print(f"refused by   {', '.join(decided.policies)}, before the rules are asked")
    else:
        _print_ruling(decided.ruling)
    _note(refused)


def _print_ruling(ruling: Ruling) -> None:
    print(f"rules        {', '.join(rule.id for rule in ruling.matched) or '-'}")
    if ruling.observed:
        print(f"observed     {', '.join(ruling.observed)}")
    if ruling.reason:
        print(f"reason       {ruling.reason}")
    for name in ruling.obligation.__slots__:
        if value := getattr(ruling.obligation, name):
            print(f"obligation   {name}: {_shown(value)}")


def own_policy() -> Path:
    given = os.environ.get("GATEHOUSE_POLICY")
    return Path(given) if given else find_home(os.environ, Path.cwd()) / "policy.yaml"


def read(path: Path) -> tuple[LoadedPolicy, list[Problem]]:
    return _all_mistakes(lambda: read_policy(path))


def _all_mistakes(read: Callable[[], _T]) -> _T:
    """Return the result of `read`; on failure print every mistake on a line of its own, not only the first."""
    try:
        return read()
    except DocumentError as error:
        if len(error.problems) == 1:
            raise
        _print_problems(error.path, error.problems, err=True)
        raise SetupError(f"{error.path}: {len(error.problems)} mistakes. Correct them and check again.") from None


def _print_problems(path: Path, problems: Iterable[Problem], *, err: bool = False) -> None:
    for problem in problems:
        print(f"{path}:{problem.line}: {problem.message}", file=sys.stderr if err else sys.stdout)


def _note(refused: list[Problem]) -> None:
    if refused:
        print("\nThis gateway would refuse the policy: `gatehouse policy check` says why.")


def _facts(source: str | None, loaded: LoadedPolicy) -> Facts:
    if source is None:
        return Facts()
    path = Path("/dev/stdin" if source == "-" else source)
    try:
        raw = sys.stdin.buffer.read() if source == "-" else path.read_bytes()
    except OSError as error:
        raise SetupError(f"{path}: {error.strerror}. Name a file with facts, or - for standard input.") from None
    return Facts.from_mapping(parse_document(path, raw).value or {}, entities=loaded.rules.entities)


def _outcome_of(result: Result) -> str:
    if result.error:
        shown = "error, so deny"
    elif not result.matched:
        return "-              "
    else:
        shown = result.rule.policy.then
    return f"{shown if result.rule.enforced else f'({shown})':<15}"


def _at(values: dict[str, dict[str, object]], path: tuple[str, ...]) -> object:
    return values[path[0]] if len(path) == 1 else values[path[0]][path[1]]


def _shown(value: object) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, list | tuple):
        return f"[{', '.join(str(each) for each in value)}]"
    return repr(value) if isinstance(value, str) and not value.isidentifier() else str(value)
