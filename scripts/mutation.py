"""Runs mutation tests: it changes a module in one place at a time, and checks that one of its unit tests fails.

mutmut makes the mutants. They are tried here, because starting pytest for each would take longer than its tests: pytest
collects the tests once, and each mutant runs them in a fork of that process. Run it as ./test.sh mutation [MODULE...].
"""

from __future__ import annotations

import difflib
import importlib.util
import json
import os
import re
import resource
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import chdir
from importlib.machinery import ModuleSpec
from itertools import zip_longest
from pathlib import Path
from typing import Any, Final

REPOSITORY: Final = Path(__file__).resolve().parents[1]
PACKAGE: Final = REPOSITORY / "guardrails" / "gatehouse"
SURVIVORS: Final = REPOSITORY / "tests" / "mutation-survivors.txt"
FLOOR: Final = 0.95

# Which unit tests judge which module.
JUDGES: Final[dict[str, str]] = {
    "approvals/binding.py": "approvals/test_approval_binding.py approvals/test_approval_mutations.py",
    "approvals/lifecycle.py": (
        "approvals/test_approval_edit.py approvals/test_approval_life.py approvals/test_review_copy.py"
    ),
    "capsule/canonical.py": "capsule/test_capsule.py",
    "capsule/checkpoint.py": "capsule/test_checkpoint.py",
    "capsule/merkle.py": "capsule/test_merkle.py",
    "capsule/seal.py": "capsule/test_seal.py",
    "dialects/canonical.py": (
        "dialects/test_canonical.py dialects/test_shapes.py pipeline/test_scanned_values.py "
        "pipeline/test_signed_parts.py"
    ),
    "dialects/sse.py": "dialects/test_sse.py",
    "dialects/tags.py": "dialects/test_tags.py",
    "dialects/writing.py": (
        "dialects/test_file_text.py dialects/test_shapes.py dialects/test_writing.py pipeline/test_bytes.py"
    ),
    "gateway/routes.py": "gateway/test_routes.py",
    "guards/pii/forms.py": "guards/test_pii_forms.py guards/test_pii_masking.py",
    "guards/pii/masking.py": (
        "guards/test_links.py guards/test_nesting.py guards/test_pii_forms.py guards/test_pii_masking.py"
    ),
    "guards/pii/nesting.py": "guards/test_nesting.py",
    "pipeline/response.py": (
        "pipeline/test_answers.py pipeline/test_conversations.py pipeline/test_signed_parts.py "
        "pipeline/test_stored_responses.py"
    ),
    "policy/limits.py": "policy/test_limits.py",
    "policy/rules.py": "policy/test_policy_rules.py policy/test_policy_when.py",
}

# The texts of errors and log lines are for people, and no test repeats them. So the script mutates nothing behind
# `raise`, `_fail` and `log`, and no error that is returned. It mutates the conditions before them.
SETTINGS: Final = r"""
[tool.mutmut]
source_paths = ["."]
do_not_mutate_patterns = [
    '^\s*raise \w', '^\s*_fail\(', '^\s*log\.\w+\(', '^\s*return (Gone|AccessDenied|ApprovalMismatch)\(', '^\s*why = "'
]
"""

# A slower test judges nothing: the whole is to take about ten minutes.
MAX_TEST_SECONDS: Final = 3
# A mutant that loops for ever fails its test too, which has so many processor seconds more than three times its own.
# One that waits for ever fails after so many on the wall: on a busy machine a test may have to wait for a minute, too.
MIN_SECONDS: Final = 2
WAIT_SECONDS: Final = 600
MAX_MEMORY: Final = 8 << 30


class Mutants:
    """Hold the mutants of one module, and stand in its place.

    Attributes:
        names: each by the name of its function, with a number.
    """

    def __init__(self, module: str, folder: Path) -> None:
        from mutmut.mutation.file_mutation import mutate_file_contents

        self.module = "gatehouse." + module.removesuffix(".py").replace("/", ".")
        (folder / "pyproject.toml").write_text(SETTINGS)
        with chdir(folder):  # where mutmut looks for its settings
            made = mutate_file_contents(module, (PACKAGE / module).read_text())
        self.names = made.mutant_names
        self._file = folder / Path(module).name
        self._file.write_text(made.code)
        self._lines, self._spans = made.code.splitlines(), made.line_span_by_function_name

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        """Import the mutated file for the module (a finder of sys.meta_path)."""
        return importlib.util.spec_from_file_location(name, self._file) if name == self.module else None

    def described(self, name: str) -> str:
        """Say what a mutant is: its function, the line before and the line after."""
        function = name.rpartition("__mutmut_")[0]
        before, after = self._source(f"{function}__mutmut_orig"), self._source(name)
        changed = [line for line in difflib.ndiff(before, after) if line[:2] in ("- ", "+ ")]
        minus, plus = (" ".join(line[2:].strip() for line in changed if line[0] == sign) for sign in "-+")
        return f"{re.sub('^x_?', '', function).strip('ǁ').replace('ǁ', '.')}: {minus}  =>  {plus}"

    def _source(self, name: str) -> list[str]:
        span = self._spans[name]
        return [line.replace(name, "") for line in self._lines[span.start - 1 : span.end]]


class Trial:
    """A plugin of pytest that tries mutants: `survived` are those that no test finds."""

    def __init__(self, mutants: Mutants) -> None:
        self._mutants = mutants
        self.survived: list[str] = []

    def pytest_runtestloop(self, session: Any) -> bool:
        """Run the tests once as they are, and see which function each calls; then try each mutant with those."""
        import pytest
        from mutmut.mutation.trampoline import set_mutant_under_test
        from mutmut.state import state

        seconds, callers = dict[Any, float](), dict[str, list[Any]]()
        set_mutant_under_test("stats")
        for item in session.items:
            begin = _used()
            if _failing([item]):
                pytest.exit(f"{item.nodeid} fails without a mutant", pytest.ExitCode.TESTS_FAILED)
            seconds[item] = _used() - begin
            for function in state()._stats if seconds[item] < MAX_TEST_SECONDS else ():
                callers.setdefault(function, []).append(item)
            state()._stats.clear()
        for items in callers.values():
            items.sort(key=seconds.__getitem__)

        # A test that fails for what an earlier run of the tests left behind would seem to kill every mutant.
        if any(_fork("", items, seconds) for items in callers.values()):
            pytest.exit("a test fails when it runs again, without a mutant", pytest.ExitCode.TESTS_FAILED)
        for name in self._mutants.names:
            mutant = f"{self._mutants.module}.{name}"
            if not _fork(mutant, callers.get(mutant.rpartition("__mutmut_")[0], ()), seconds):
                self.survived.append(name)
                print(self._mutants.described(name), file=sys.__stderr__, flush=True)
        return True


def _fork(mutant: str, items: Sequence[Any], seconds: Mapping[Any, float]) -> bool:
    """Run the tests with a mutant in a process of its own; return whether one fails. Without a mutant, name it.

    Args:
        seconds: how many processor seconds each test takes.
    """
    from mutmut.mutation.trampoline import set_mutant_under_test

    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) != 0
    try:
        resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY, MAX_MEMORY))
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        set_mutant_under_test(mutant)
        failing = _failing(items, seconds)
        if failing and not mutant:
            print(f"{failing.nodeid} fails", file=sys.__stderr__, flush=True)
        os._exit(failing is not None)
    finally:
        os._exit(1)


def _failing(items: Sequence[Any], seconds: Mapping[Any, float] | None = None) -> Any:
    """Run the tests one after another; return the first that fails, or None. One that takes too long ends the process.

    Args:
        seconds: how many processor seconds each test takes; None for as long as they take.
    """
    from _pytest.runner import runtestprotocol

    for item, following in zip_longest(items, items[1:]):  # what both need is set up once
        if seconds is not None:
            signal.setitimer(signal.ITIMER_PROF, MIN_SECONDS + 3 * seconds[item])
            signal.setitimer(signal.ITIMER_REAL, WAIT_SECONDS)
        if any(report.failed for report in runtestprotocol(item, log=False, nextitem=following)):
            return item
    return None


def try_module(module: str) -> None:
    """Try the mutants of one module; print their number, and those that survive, as JSON."""
    import pytest
    from hypothesis import HealthCheck, Phase, settings

    # The same examples in every run; the first one that fails is enough.
    settings.register_profile(
        "mutation",
        derandomize=True,
        deadline=None,
        max_examples=30,
        phases=(Phase.explicit, Phase.generate),
        suppress_health_check=[HealthCheck.too_slow],
    )
    with tempfile.TemporaryDirectory() as folder:
        mutants = Mutants(module, Path(folder))
        sys.meta_path.insert(0, mutants)
        with chdir(folder):
            from mutmut.configuration import config

            config()
        trial = Trial(mutants)
        tests = [f"tests/unit/{path}" for path in JUDGES[module].split()]
        options = "-q -n 0 --tb=no -p no:timeout -p no:cacheprovider -W ignore --hypothesis-profile mutation".split()
        ended = pytest.main([*options, *tests], plugins=[trial])
        if ended not in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
            sys.exit(f"error: {module}: its tests do not pass")
        survivors = [f"{module} {mutants.described(name)}" for name in trial.survived]
        print(json.dumps([_used(), len(mutants.names), survivors]))


def _used() -> float:
    """Return the processor seconds of this process and of those that it started."""
    used = map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(each.ru_utime + each.ru_stime for each in used)


def listed() -> dict[str, str]:
    """Return the survivors that are known, each with why it is harmless."""
    known: dict[str, str] = {}
    reason = ""
    for line in SURVIVORS.read_text().splitlines():
        if line.startswith("# "):
            reason = line[2:]
        elif line:
            known[line] = reason
    return known


def tried(module: str) -> tuple[str, float, int, list[str]]:
    """Try a module in a process of its own: its processor seconds, how many mutants it has, which survived."""
    command = [sys.executable, __file__, "--one", module]
    ended = subprocess.run(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True, check=False)  # noqa: S603
    if ended.returncode:
        raise SystemExit(f"error: {module} could not be tried:\n{ended.stdout}")
    seconds, count, survivors = json.loads(ended.stdout.splitlines()[-1])
    return module, seconds, count, survivors


def main(modules: list[str]) -> int:
    """Try the modules, two at a time; return 1 where they are not tested well enough."""
    known = listed()
    all_mutants, survived, unlisted = 0, list[str](), 0
    with ThreadPoolExecutor(2) as pool:
        for module, seconds, count, survivors in pool.map(tried, modules):
            all_mutants += count
            survived += survivors
            print(f"{module:24}{count:5} mutants, {len(survivors):3} survived, {seconds:4.0f} s", flush=True)
            for survivor in survivors:
                if survivor not in known:
                    unlisted += 1
                    print(f"  not listed: {survivor}", flush=True)
    for line in known:
        if line.split()[0] in modules and line not in survived:
            print(f"  listed, but killed: {line}")
    score = 1 - len(survived) / all_mutants
    print(f"{all_mutants - len(survived)} of {all_mutants} mutants killed: {score:.1%}")
    return int(score < FLOOR or unlisted > 0)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        try_module(sys.argv[2])
    else:
        sys.exit(main(sys.argv[1:] or list(JUDGES)))
