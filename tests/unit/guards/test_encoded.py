"""What is written in base64 or hexadecimal is read wherever it stands, in time that grows as the text does."""

from __future__ import annotations

import base64
import hashlib
import json
import random
import string
from collections.abc import Callable
from itertools import product
from pathlib import Path
from time import monotonic, thread_time

import pytest
from gatehouse.guards.deadline import Deadline
from gatehouse.guards.encoded import JoinedWords, decoded_runs
from gatehouse.guards.pii.config import KNOWN_ENTITIES, PiiConfig
from gatehouse.guards.pii.engine import Engine
from gatehouse.guards.screens.config import ScreenConfig
from gatehouse.guards.screens.encodings import encoded_runs, with_letters_for_digits
from gatehouse.guards.screens.engine import ScreenEngine
from hypothesis import given, settings
from hypothesis import strategies as st

MAIL = "jane@example.com"
KEY = "ghp_" + "Ab3dE6gH9" * 4
PROSE = "The quick brown fox jumps over the lazy dog, and nothing else happens in this line of the text. "
ENDS = ("\n", "\r\n", "\r", "\\n", "\\r\\n")
LENGTHS = (4, 5, 8, 19, 59, 60, 61, 64, 72, 75, 76, 77, 78, 128, 997, 1000)
CODES: dict[str, Callable[[bytes], str]] = {
    "standard": lambda raw: base64.b64encode(raw).decode(),
    "without padding": lambda raw: base64.b64encode(raw).decode().rstrip("="),
    "URL-safe": lambda raw: base64.urlsafe_b64encode(raw).decode().rstrip("="),
}


@pytest.fixture(scope="module")
def pii() -> Engine:
    return Engine(PiiConfig())


@pytest.fixture(scope="module")
def screens() -> ScreenEngine:
    return ScreenEngine(ScreenConfig(secrets=True, prompt_injection=True))


def _clock() -> Deadline:
    return Deadline(monotonic() + 60)


def lines(code: str, length: int, end: str = "\n", before: str = "") -> str:
    """Return a block broken into lines as an encoder breaks it."""
    return end.join(before + code[at : at + length] for at in range(0, len(code), length))


def blocks(written: str) -> dict[str, str]:
    """Return texts with blocks at the beginning, in the middle and at the end, and one that is only a block."""
    return {
        "first": f"{written} {PROSE * 6}",
        "middle": f"{PROSE * 3}{written} {PROSE * 3}",
        "last": f"{PROSE * 6}{written}",
        "alone": f"a {written}",
    }


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("code", CODES)
def test_what_is_in_a_block_is_found_wherever_it_stands(
    pii: Engine, screens: ScreenEngine, code: str, length: int
) -> None:
    for (place, said), end, before in product(blocks(f"{MAIL} {KEY}").items(), ENDS, ("", "    ", "\t", "> ", "# ")):
        block = lines(CODES[code](said.encode()), length, end, before)
        text = f"See this:{end}{end}{block}{end}and no more."
        where = (place, end, before)
        assert [each.entity for each in pii.scan(text)] == ["EMAIL_ADDRESS"], where
        assert [hit.rule for hit in screens.scan(text)] == ["github_token"], where


@settings(max_examples=200)
@given(st.integers(0, 200), st.integers(0, 40), st.integers(4, 200), st.sampled_from(ENDS))
def test_no_length_of_a_line_and_no_place_hides_anything(before: int, after: int, length: int, end: str) -> None:
    said = (PROSE * 3)[:before] + f" {MAIL} " + PROSE[:after]
    block = lines(base64.b64encode(said.encode()).decode(), length, end)
    assert any(MAIL in plain for _, _, plain in decoded_runs(block, _clock()))
    assert any(MAIL in plain for _, _, plain in encoded_runs(block, _clock()))


@settings(max_examples=200)
@given(
    st.text(alphabet=string.ascii_letters + string.digits + "+/", max_size=90),
    st.text(alphabet=string.ascii_letters + string.digits + "+/", max_size=90),
    st.integers(0, 90),
)
def test_what_other_characters_are_glued_to_is_read_all_the_same(before: str, after: str, length: int) -> None:
    code = base64.b64encode(f"{MAIL} {MAIL}".encode()).decode().rstrip("=")
    for text in (before + code + after, lines(before + code + after, length or 1_000)):
        assert any(MAIL in plain for _, _, plain in decoded_runs(text, _clock()))


@pytest.mark.parametrize("gap", ["\n", "\n\n", "\r\n", "", " ", "=\n", "==\n", ","])
def test_each_of_several_blocks_is_read(gap: str) -> None:
    mails = [f"jane{nth}@example.com" for nth in range(9)]
    said = [f"{PROSE[: 10 + 7 * nth]} {mail} {PROSE[:nth]}" for nth, mail in enumerate(mails)]
    text = gap.join(lines(base64.b64encode(each.encode()).decode().rstrip("="), 60) for each in said)
    plain = "\n".join(plain for _, _, plain in decoded_runs(text, _clock()))
    assert [mail for mail in mails if mail not in plain] == []


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-8", "utf-8-sig", "latin-1"])
def test_a_block_may_hold_text_in_any_usual_encoding_and_what_is_no_text(encoding: str) -> None:
    noise = random.Random(3).randbytes
    said = f"Grüße an Zoë: {MAIL} und Ähnliches".encode(encoding)
    for raw in (said, noise(3_000) + said + noise(3_000), noise(300) + said, said + noise(300)):
        block = lines(base64.b64encode(raw).decode(), 76)
        assert any(MAIL in plain for _, _, plain in decoded_runs(block, _clock()))


def test_a_finding_stands_at_the_lines_that_hold_it_and_not_at_the_files_beside_them(pii: Engine) -> None:
    code = base64.b64encode(f"{PROSE} {MAIL} {PROSE}".encode()).decode()
    block = lines(code, 76)
    paths = "\n".join(f"src/main/java/com/acme/module{nth}/Main" for nth in range(40))
    text = f"{paths}\n{block}\n{paths}"
    (found,) = pii.scan(text)
    assert found.start <= text.index(block)
    assert found.end >= text.index(block) + len(block) - 76
    assert found.start >= len(paths) - 60
    assert found.end <= len(paths) + len(block) + 60
    (alone,) = pii.scan(f"Note: x{code} , thanks")
    assert (alone.start, alone.end) == (6, 7 + len(code))


def test_lines_of_hexadecimal_are_one_text(screens: ScreenEngine) -> None:
    for length, end in product((2, 4, 32, 60, 64, 80), ("\n", "\r\n", "\\n")):
        block = lines(f"{PROSE}{KEY} and more".encode().hex(), length, end)
        assert [hit.rule for hit in screens.scan(f"Hex:{end}{block}{end}.")] == ["github_token"], (length, end)


@pytest.mark.parametrize("length", [4, 16, 59, 64, 76])
def test_lines_that_are_only_words_are_no_finding(length: int) -> None:
    draw = random.Random(11)
    words = ["".join(draw.choices(string.ascii_letters + string.digits + "_-/", k=length)) for _ in range(500)]
    small = ["".join(draw.choices(string.ascii_lowercase, k=length)) for _ in range(500)]
    hashes = [hashlib.sha1(str(nth).encode()).hexdigest() for nth in range(500)]
    paths = [str(path) for path in Path(json.__file__).parent.parent.rglob("*.py")][:500]
    names = [path.replace("/", "_").removesuffix(".py") for path in paths]
    pii = Engine(PiiConfig(entities=dict.fromkeys(set(KNOWN_ENTITIES) - {"DATE_TIME", "US_DRIVER_LICENSE", "URL"})))
    screens = ScreenEngine(ScreenConfig({"x": ("bomb", "abc", "zq")}, secrets=True, prompt_injection=True))
    for text in map("\n".join, (words, small, hashes, names, PROSE.split() * 50)):
        decoded = [run for run in encoded_runs(text, _clock()) if MAIL in run[2]]
        assert decoded == []
        for start, end, plain in encoded_runs(text, _clock()):
            assert pii.scan(plain) == [], (text[start:end], plain)
            assert screens.scan(plain) == [], (text[start:end], plain)


def repeated(unit: str) -> Callable[[int], str]:
    return lambda size: (unit * (size // len(unit) + 1))[:size]


def _leet(size: int) -> str:
    draw = random.Random(5)
    return " ".join("pr3v" + "".join(draw.choices("abcdefgh", k=6)) for _ in range(size // 11))


def _random(size: int) -> str:
    return "".join(random.Random(5).choices(string.ascii_letters + string.digits + "+/", k=size))


HOSTILE: dict[str, Callable[[int], str]] = {
    **{
        f"lines of {length}, {end!r}, {before!r}": repeated(before + ("QUJD" * 20)[:length] + end)
        for length, end, before in product((59, 60, 76, 77), ("\n", "\r\n", "\r", "\n\r"), ("", "  ", "> "))
    },
    **{
        f"words {unit!r}": repeated(unit)
        for unit in ("A", "-", "/", "=", "f", "0", "\\", '"', " ", "\n", ">", "A" * 16 + "\n")
    },
    **{
        f"words {unit!r}": repeated(unit)
        for unit in ("A\n", "AB\n", "ABCD\n", "A" * 15 + "\n", "A" * 16 + " ", "A ,\n>")
    },
    **{
        f"nearly hexadecimal {unit!r}": repeated(unit)
        for unit in ("f" * 30 + "g", "ab" * 20 + "\n", "ab\nabc\n", "abc\n")
    },
    **{f"per cent {unit!r}": repeated(unit) for unit in ("%41", "%41%41 ", "a" * 40 + "%4", "a" * 41 + "%41", "%")},
    **{
        f"entities {unit!r}": repeated(unit) for unit in ("&#65;", "&#65;&#65;&#65;x", "&#x000041", "&#", "&#0000065; ")
    },
    **{f"letters {unit!r}": repeated(unit) for unit in ("a b ", "a.b.", "a   b   ", "a-", "a b-c_d*", "a b c dd ")},
    **{
        f"escapes {unit!r}": repeated(unit)
        for unit in ("\\x41", "\\x41\\x41\\x41z", "\\u0041 ", "\\n", "\\r\\n", "a\\n", "\\")
    },
    "one word and blanks": lambda size: "a" + " " * size,
    "one word and line ends": lambda size: "a" + "\n" * size,
    "one word and escapes": lambda size: "a" + "\\n" * (size // 2),
    "a word's digits": _leet,
    "base64 of nothing": _random,
    "base64 of text": lambda size: base64.b64encode((PROSE * (size // 96 + 1)).encode()).decode()[:size],
    "MIME with a short last line": lambda size: lines("QUJD" * (size // 4), 76) + "\nQUJD",
    "words of base64": repeated(base64.b64encode(b"the quick br").decode() + " "),
    "lines of base64": repeated(base64.b64encode(b"the quick br").decode() + "=\n\n"),
    "UTF-16": lambda size: base64.b64encode(("hello " * (size // 12)).encode("utf-16-le")).decode(),
}


def _spent(work: Callable[[str], object], text: str) -> float:
    best = 1e9
    for _ in range(3):
        begin = thread_time()
        work(text)
        best = min(best, thread_time() - begin)
    return best


@pytest.mark.parametrize("family", HOSTILE)
def test_four_times_the_text_takes_about_four_times_the_work(family: str) -> None:
    made = HOSTILE[family]
    for work in (
        lambda text: list(decoded_runs(text, _clock())),
        lambda text: list(encoded_runs(text, _clock())),
        lambda text: list(with_letters_for_digits(text)),
    ):
        # What is too short to be measured grows from there.
        assert _spent(work, made(40_000)) < 8 * max(_spent(work, made(10_000)), 0.004)


def test_what_is_decoded_is_four_times_the_text_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    from gatehouse.guards import encoded

    spent = 0
    decoded = encoded._decoded

    def counted(value: str) -> bytes:
        nonlocal spent
        spent += len(value)
        return decoded(value)

    monkeypatch.setattr(encoded, "_decoded", counted)
    for family, made in HOSTILE.items():
        text, spent = made(20_000), 0
        list(decoded_runs(text, _clock()))
        assert spent <= 4 * len(text), family


def test_words_that_line_ends_join_know_where_they_stand() -> None:
    text = "..AAAA==\n  BBBB\\n> CC=."
    joined = JoinedWords.of(text, 2, len(text) - 1)
    assert joined.value == "AAAABBBBCC"
    assert text[slice(*joined.span(0, 2))] == "AAAA"
    assert text[slice(*joined.span(3, 5))] == "AAAA==\n  BBBB"
    assert text[slice(*joined.span(4, 8))] == "BBBB"
    assert text[slice(*joined.span(9, 10))] == "CC="
