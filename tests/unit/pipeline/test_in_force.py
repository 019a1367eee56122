"""While policy.yaml changes, a good policy replaces the one in force as a whole, and a bad one changes nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
from gatehouse.core.errors import SetupError
from gatehouse.guards.scan import ScanConfig
from gatehouse.pipeline import in_force
from gatehouse.pipeline.in_force import PolicyInForceHolder
from gatehouse.policy.holder import PolicyHolder

DENY = "rules:\n  - {id: never, when: 'true', then: deny}\n"
PII = "pii: {mode: mask}\n"


class Scanner:
    """Starts no process; one that looks for secrets cannot start."""

    made: list[Scanner]

    def __init__(self, config: ScanConfig, *, workers: int) -> None:
        self.config = config
        self.closed = False
        self.made.append(self)

    async def start(self) -> None:
        if self.config.screens is not None:
            raise SetupError("scanner: a process did not start.")

    async def close(self) -> None:
        self.closed = True


@pytest.fixture(autouse=True)
def scanners(monkeypatch: pytest.MonkeyPatch) -> list[Scanner]:
    Scanner.made = []
    monkeypatch.setattr(in_force, "Scanner", Scanner)
    return Scanner.made


class File:
    """Holds policy.yaml and its holder."""

    def __init__(self, folder: Path, policy: str = "") -> None:
        self.path = folder / "policy.yaml"
        self.write(policy)
        self.policies = PolicyHolder(self.path)
        self.holder = PolicyInForceHolder(self.policies, workers=1)

    def write(self, policy: str) -> None:
        self.path.write_text(f"version: 1\n{policy}")

    async def change(self, policy: str) -> bool:
        """Write another policy, and put it in force."""
        self.write(policy)
        assert self.policies.refresh()
        return await self.holder.adopt(self.policies.current)


@pytest.fixture
async def file(tmp_path: Path) -> File:
    found = File(tmp_path)
    await found.holder.start()
    return found


async def test_nothing_is_decided_before_the_first_policy_is_in_force(tmp_path: Path) -> None:
    found = File(tmp_path, PII)
    assert not found.holder.current.ready
    await found.holder.start()
    assert found.holder.current.ready
    await found.holder.stop()


async def test_a_good_policy_replaces_the_one_before_and_leaves_it_as_it_was(file: File) -> None:
    before = file.holder.current
    assert await file.change(DENY)
    after = file.holder.current
    assert (len(before.policy.rules), len(after.policy.rules)) == (0, 1)
    assert after.version != before.version
    assert file.holder.error is None
    await file.holder.stop()


@pytest.mark.parametrize(
    ("policy", "why"),
    [
        ("audit: {content: full}\n", "restart"),
        ("audit: {chain: team}\n", "restart"),
        ("screens: {secrets: block}\n", "did not start"),
    ],
)
async def test_a_policy_that_cannot_be_put_in_force_changes_nothing_and_says_why(
    file: File, policy: str, why: str
) -> None:
    before = file.holder.current
    assert not await file.change(DENY + policy)
    assert file.holder.current is before
    assert why in (file.holder.error or "")
    assert await file.change(DENY)
    assert file.holder.error is None
    await file.holder.stop()


async def test_a_file_with_a_mistake_changes_nothing(file: File) -> None:
    before = file.holder.current
    file.write("rules: nonsense\n")
    assert not file.policies.refresh()
    assert file.holder.current is before
    assert "rules" in (file.holder.error or "")
    await file.holder.stop()


async def test_a_scanner_goes_on_while_what_it_looks_for_stays(file: File, scanners: list[Scanner]) -> None:
    await file.change(PII)
    await file.change(PII + DENY)
    assert len(scanners) == 1
    assert file.holder.current.scanner is scanners[0]  # type: ignore[comparison-overlap]
    await file.holder.stop()
    assert scanners[0].closed


async def test_a_scanner_that_is_replaced_ends_with_those_calls_that_began_under_it(
    file: File, scanners: list[Scanner]
) -> None:
    await file.change(PII)
    await file.change("pii: {mode: block}\n")
    assert [each.closed for each in scanners] == [False, False]
    await file.holder.stop()
    assert [each.closed for each in scanners] == [True, True]


@pytest.mark.parametrize(
    ("mode", "masked", "redacted"), [("observe", True, True), ("mask", True, True), ("block", False, True)]
)
async def test_a_rule_masks_what_is_observed_and_records_are_redacted_of_all(
    file: File, mode: str, masked: bool, redacted: bool
) -> None:
    await file.change(f"pii: {{mode: {mode}}}\n")
    current = file.holder.current
    assert current.masking is not None
    assert current.redaction is not None
    assert (current.masking.mode_of("EMAIL_ADDRESS") == "mask") is masked
    assert (current.redaction.mode_of("EMAIL_ADDRESS") == "mask") is redacted
    await file.holder.stop()
