"""`python -m evaluation`: what is found, missed and damaged, on texts that were fixed before the detectors changed.

Each figure stands beside that of Presidio on the same texts in the same run. A finding is right when its entity is the
same and when it and the value overlap by at least half of what they cover together. Damage is what a scanner would
alter and is no person's data, for 10,000 characters of what agents work with.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import process_time

from gatehouse.guards.findings import Finding
from gatehouse.guards.screens.config import ScreenConfig
from gatehouse.guards.screens.engine import ScreenEngine

from evaluation.frozen.generated import LINES, numbers
from evaluation.frozen.national import NATIONAL
from evaluation.frozen.people import national, negatives, people
from evaluation.frozen.secret_kinds import no_secret_texts, secret_texts
from evaluation.frozen.traffic import everything, traffic
from evaluation.public import FORMATS, read
from evaluation.samples import Sample
from evaluation.scanners import Ours, Presidio, Scanner
from evaluation.scores import Score

IOU = 0.5
# Other names for what the texts call by one.
_SAME = {
    "US_BANK_NUMBER": "ACCOUNT_NUMBER",
    "BANK_ACCOUNT": "ACCOUNT_NUMBER",
    "US_PASSPORT": "PASSPORT_NUMBER",
    "PASSPORT": "PASSPORT_NUMBER",
    "US_DRIVER_LICENSE": "LICENSE_NUMBER",
    "DRIVER_LICENSE": "LICENSE_NUMBER",
    "STREET_ADDRESS": "ADDRESS",
}
_PER = 10_000


@dataclass(slots=True)
class Result:
    """Hold the scores by entity, the mistakes, and what the scan took.

    Attributes:
        seconds: the processor's.
        chars: of the texts.
    """

    scores: dict[str, Score] = field(default_factory=dict)
    mistakes: list[str] = field(default_factory=list)
    seconds: float = 0.0
    chars: int = 0

    @property
    def ms_per_1000(self) -> float:
        return self.seconds * 1e6 / max(1, self.chars)

    def add(self, entity: str, score: Score) -> None:
        """Count."""
        self.scores[entity] = self.scores.get(entity, Score()) + score


def evaluate(scanner: Scanner, samples: Iterable[Sample], scored: Iterable[str]) -> Result:
    """Score a scanner's findings of some entities; findings of others count nowhere."""
    result, wanted = Result(), {*scored}
    for sample in samples:
        begin = process_time()
        found = scanner.find(sample.text, sample.language)
        result.seconds += process_time() - begin
        result.chars += len(sample.text)
        _score(result, sample, [each for each in found if _SAME.get(each.entity, each.entity) in wanted], wanted)
    return result


def _score(result: Result, sample: Sample, found: list[Finding], wanted: set[str]) -> None:
    for entity, start, end in sample.spans:
        if entity not in wanted:
            continue
        hit = next((each for each in found if _is(each, entity, start, end)), None)
        result.add(entity, Score(found=1) if hit else Score(missed=1))
        if hit:
            found.remove(hit)
        else:
            result.mistakes.append(f"missed {entity} {sample.text[start:end]!r} in {sample.text!r}")
    for each in found:
        result.add(_SAME.get(each.entity, each.entity), Score(wrong=1))
        result.mistakes.append(f"wrong {each.entity} {sample.text[each.start : each.end]!r} in {sample.text!r}")


def _is(finding: Finding, entity: str, start: int, end: int) -> bool:
    shared = min(finding.end, end) - max(finding.start, start)
    whole = max(finding.end, end) - min(finding.start, start)
    return _SAME.get(finding.entity, finding.entity) == entity and shared >= IOU * whole


@dataclass(slots=True)
class Damage:
    """Count what is altered and is no person's data, by kind of text."""

    artefacts: Counter[str] = field(default_factory=Counter)
    chars: Counter[str] = field(default_factory=Counter)
    altered: Counter[str] = field(default_factory=Counter)
    items: list[str] = field(default_factory=list)

    def per_10_000(self, kind: str | None = None) -> float:
        """Return altered items for 10,000 characters, of one kind or of all."""
        altered, chars = (counter[kind] if kind else counter.total() for counter in (self.altered, self.chars))
        return altered * _PER / max(1, chars)


def damage(scanner: Scanner, artefacts: Iterable[tuple[str, Sample]]) -> Damage:
    """Count a scanner's damage."""
    result = Damage()
    for kind, sample in artefacts:
        result.artefacts[kind] += 1
        result.chars[kind] += len(sample.text)
        for each in _apart(scanner.altered(sample.text)):
            if not any(each.start < end and start < each.end for _, start, end in sample.spans):
                result.altered[kind] += 1
                result.items.append(f"{kind}: {each.entity} {_around(sample.text, each.start, each.end)}")
    return result


def _apart(found: Iterable[Finding]) -> Iterator[Finding]:
    """Yield findings without those that overlap an earlier one: together they alter one place."""
    done = 0
    for each in sorted(found, key=lambda each: (each.start, -each.end)):
        if each.start >= done:
            yield each
            done = each.end


def _around(text: str, start: int, end: int) -> str:
    before, value, after = text[max(0, start - 25) : start], text[start:end], text[end : end + 15]
    return repr(f"{before}[{value}]{after}")


@dataclass(frozen=True, slots=True)
class Secrets:
    """Hold which kinds of secrets were found in every text, in some, and how many ordinary texts had a hit."""

    always: int
    ever: int
    kinds: int
    wrong: int
    ordinary: int
    missed: tuple[str, ...]


def secrets() -> Secrets:
    """Score the screen for secrets."""
    engine = ScreenEngine(ScreenConfig(secrets=True))
    found: dict[str, list[bool]] = {}
    for sample in secret_texts():
        [(kind, start, end)] = sample.spans
        hit = any(each.start < end and start < each.end for each in engine.scan(sample.text))
        found.setdefault(kind, []).append(hit)
    ordinary = [*no_secret_texts(), *(sample for _, sample in everything())]
    return Secrets(
        sum(map(all, found.values())),
        sum(map(any, found.values())),
        len(found),
        sum(bool(engine.scan(sample.text)) for sample in ordinary),
        len(ordinary),
        tuple(kind for kind, hits in found.items() if not all(hits)),
    )


def main(argv: Sequence[str]) -> int:
    """Print the figures; return 0."""
    given = _parsed(argv)
    scanners: list[Scanner] = [Ours(ner=given.model)]
    if given.presidio:
        scanners.append(Presidio(names=given.model))
    if given.outside:
        _print_people(scanners, [*read(given.outside, given.format)], given.outside.name, given.mistakes)
        return 0
    if given.files:
        artefacts = [*_files(given.files)]
        _print_damage(scanners, artefacts, given.mistakes)
        _print_hits(artefacts, given.mistakes)
        return 0
    _print_people(scanners, [*people(), *negatives()], "texts in 19 languages", given.mistakes)
    _print_national([Ours(NATIONAL, ner=given.model), *([Presidio(NATIONAL)] if given.presidio else [])])
    _print_secrets(secrets(), given.mistakes)
    _print_damage(scanners, [*traffic()], given.mistakes)
    _print_numbers(scanners)
    return 0


def _parsed(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m evaluation detection", description=__doc__.split("\n")[0])
    parser.add_argument("--model", action="store_true", help="both with the small English model: minutes, not seconds")
    parser.add_argument("--no-presidio", dest="presidio", action="store_false", help="ours alone")
    parser.add_argument("--mistakes", action="store_true", help="also print what went wrong")
    parser.add_argument(
        "--outside", type=Path, metavar="FILE", help="a public set that you have fetched, instead of ours"
    )
    parser.add_argument("--format", choices=sorted(FORMATS), default="presidio", help="of FILE (default: %(default)s)")
    parser.add_argument(
        "--files", type=Path, metavar="FOLDER", help="count the damage in the text files of a folder instead"
    )
    return parser.parse_args(argv)


# Longer files are left out: the gateway refuses a text of more than 200,000 characters.
_LONGEST = 200_000


def _files(folder: Path) -> Iterator[tuple[str, Sample]]:
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not path.is_symlink() and path.stat().st_size <= _LONGEST:
            try:
                text = path.read_text(encoding="utf-8")
            except UnicodeDecodeError:
                continue
            if "\0" not in text:
                yield path.suffix or path.name, Sample(text, ())


def _entities(samples: Iterable[Sample]) -> list[str]:
    return sorted({entity for sample in samples for entity, _, _ in sample.spans})


def _print_people(scanners: Sequence[Scanner], samples: Sequence[Sample], title: str, mistakes: bool) -> None:
    entities = _entities(samples)
    results = [evaluate(each, samples, entities) for each in scanners]
    values = Counter(entity for sample in samples for entity, _, _ in sample.spans)
    print(
        f"| {title}: {len(samples):,} | values |" + "".join(f" {each.name}: precision | recall |" for each in scanners)
    )
    print("|---|---|" + "---|---|" * len(scanners))
    for entity in entities:
        print(f"| {entity} | {values[entity]:,} |" + "".join(_cells(each.scores.get(entity)) for each in results))
    print("\n| | ms of a processor for 1,000 characters |\n|---|---|")
    for scanner, result in zip(scanners, results, strict=True):
        print(f"| {scanner.name} | {result.ms_per_1000:.2f} |")
    print()
    if mistakes:
        print("\n".join(results[0].mistakes), end="\n\n")


def _cells(score: Score | None) -> str:
    """Return precision and recall; a scanner that found nothing has no precision."""
    score = score or Score()
    precision = f"{score.precision:.3f}" if score.found + score.wrong else "-"
    return f" {precision} | {score.recall:.3f} |"


def _print_national(scanners: Sequence[Scanner]) -> None:
    samples = [*national()]
    entities = sorted(NATIONAL)
    results = [evaluate(each, samples, entities) for each in scanners]
    print("| national identifier |" + "".join(f" {each.name}: precision | recall |" for each in scanners))
    print("|---|" + "---|---|" * len(scanners))
    for entity in entities:
        print(f"| {entity} |" + "".join(_cells(each.scores.get(entity)) for each in results))
    print()


def _print_secrets(result: Secrets, mistakes: bool) -> None:
    print(f"Secrets: {result.always} of {result.kinds} kinds found in each of their texts, {result.ever} in any.")
    print(f"A hit in {result.wrong:,} of {result.ordinary:,} texts without one.\n")
    if mistakes:
        print("missed:", ", ".join(result.missed), end="\n\n")


def _print_hits(artefacts: Sequence[tuple[str, Sample]], mistakes: bool) -> None:
    engine = ScreenEngine(ScreenConfig(secrets=True))
    hits = [(kind, sample.text, hit) for kind, sample in artefacts for hit in engine.scan(sample.text)]
    print(f"Secrets: {len(hits):,} hits.\n")
    for kind, text, hit in hits if mistakes else ():
        print(f"{kind}: {hit.rule} {_around(text, hit.start, hit.end)}")


def _print_damage(scanners: Sequence[Scanner], artefacts: Sequence[tuple[str, Sample]], mistakes: bool) -> None:
    results = [damage(each, artefacts) for each in scanners]
    first = results[0]
    print("| damage in | texts | characters |" + "".join(f" {each.name}: altered | per 10,000 |" for each in scanners))
    print("|---|---|---|" + "---|---|" * len(scanners))
    for kind in sorted(first.artefacts):
        cells = "".join(f" {each.altered[kind]:,} | {each.per_10_000(kind):.2f} |" for each in results)
        print(f"| {kind} | {first.artefacts[kind]:,} | {first.chars[kind]:,} |{cells}")
    cells = "".join(f" {each.altered.total():,} | {each.per_10_000():.2f} |" for each in results)
    print(f"| **all** | {first.artefacts.total():,} | {first.chars.total():,} |{cells}\n")
    if mistakes:
        print("\n".join(first.items), end="\n\n")


def _print_numbers(scanners: Sequence[Scanner]) -> None:
    print(f"| altered of {LINES:,} |" + "".join(f" {each.name} |" for each in scanners))
    print("|---|" + "---|" * len(scanners))
    for kind, sample in numbers():
        print(f"| {kind} |" + "".join(f" {damage(each, [(kind, sample)]).altered[kind]:,} |" for each in scanners))
