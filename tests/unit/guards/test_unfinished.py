"""A secret in a stream is stopped before any of it is passed on, wherever it is cut; what is none flows on."""

from __future__ import annotations

import base64
import json
import random
import string
from time import thread_time

import pytest
from gatehouse.core.errors import ContentBlocked
from gatehouse.guards.screens.config import ScreenConfig
from gatehouse.guards.screens.engine import ScreenEngine
from gatehouse.guards.screens.unfinished import MAX_ENCODED, MAX_WORD, unfinished
from gatehouse.pipeline.response import Answers

from evaluation.secret_samples import look_alikes, secrets

SEED = 7
SIZES = (1, 3, 7, 8, 9, 20, 64)
ENGINE = ScreenEngine(ScreenConfig(secrets=True))
DRAW = random.Random(SEED)
AROUND = (
    ("", ""),
    ("Here it is, as you asked: ", ". Anything else?"),
    ("\u9577" * 50 + "\u3002", " \u3002\u8c22\u8c22"),
    ("x = 1\n" * 80, "\nand more\n"),
)


class Stream:
    """Holds one answer on its way to a caller."""

    def __init__(self, *, arguments: bool = False) -> None:
        self.passed, self.screened = "", 0
        self._arguments = arguments
        self._answers = Answers("acompletion", None, self._screen)

    def _screen(self, text: str) -> None:
        self.screened += 1
        if ENGINE.scan(text):
            raise ContentBlocked("Blocked by secrets.")

    def say(self, piece: str) -> None:
        call = {"tool_calls": [{"index": 0, "function": {"arguments": piece}}]}
        delta = call if self._arguments else {"content": piece}
        event = {"choices": [{"index": 0, "delta": delta}]}
        self._hear(self._answers.push(b"data: " + json.dumps(event).encode() + b"\n\n"))

    def end(self) -> None:
        self._hear(self._answers.end())

    def _hear(self, out: bytes) -> None:
        for line in out.split(b"\n"):
            if line:
                delta = json.loads(line.removeprefix(b"data: "))["choices"][0]["delta"]
                called = delta.get("tool_calls") or ()
                self.passed += delta.get("content", "") + "".join(call["function"]["arguments"] for call in called)


def passed(text: str, size: int, *, arguments: bool = False) -> tuple[str, bool]:
    """Return what the caller gets of a text, and whether the stream was stopped."""
    stream = Stream(arguments=arguments)
    try:
        for at in range(0, len(text), size):
            stream.say(text[at : at + size])
        stream.end()
    except ContentBlocked:
        return stream.passed, True
    return stream.passed, False


def _characters(count: int, alphabet: str = string.ascii_letters + string.digits) -> str:
    return "".join(DRAW.choices(alphabet, k=count))


def _url_safe(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


def _lines(code: str, length: int, end: str = "\n") -> str:
    return end.join(code[at : at + length] for at in range(0, len(code), length))


KEY = "ghp_" + _characters(36)
AWS = "AKIA" + _characters(16, string.ascii_uppercase + "234567")
JWT = f"{_url_safe({'alg': 'RS256'})}.{_url_safe({'sub': _characters(250)})}.{_characters(86)}"
LONG = _lines(base64.b64encode(f"{_characters(1_480)} {KEY}".encode()).decode(), 1_000)
PEM = "-----{} PRIVATE KEY-----"
PASSWORD = "Zb7" + _characters(9)
# By name: what stands before the secret, and the secret.
HARD = {
    **{
        f"base64 in lines of {n}": ("", _lines(base64.b64encode(f"key: {KEY}".encode()).decode(), n))
        for n in (4, 19, 60, 76)
    },
    "base64 in long lines": (LONG[:1_950], LONG[1_950:]),
    "base64 twice": ("", _lines(base64.b64encode(base64.b64encode(KEY.encode())).decode(), 20, "\r\n")),
    "base64 in a quotation": ("> ", _lines(base64.b64encode(KEY.encode()).decode(), 20, "\n> ")),
    "hexadecimal in lines": ("", _lines(f"key: {KEY}".encode().hex(), 20)),
    "letters that stand alone": ("", " ".join(AWS)),
    "escapes": ("", " ".join(f"\\x{ord(char):02x}" for char in AWS)),
    "entities": ("", " ".join(f"&#{ord(char)};" for char in AWS)),
    "a short private key": (PEM.format("BEGIN") + "\n", _lines("MC4CAQAwBQYDK2VwBCIEI" + _characters(43), 16)),
    "a private key in groups": (PEM.format("BEGIN") + "\n", _lines("MIIE" + _characters(300), 8, " ")),
    "a token inside base64": ("", base64.b64encode(JWT.encode()).decode()),
    "a private key in one line": (PEM.format("BEGIN RSA"), "\\n" + _lines(_characters(1_600), 64, "\\n")),
    "a connection string": (
        "Server=db.internal;" + "Application Name=the name of it is long;" * 7 + "Password=",
        PASSWORD,
    ),
    "a connection string with CJK": ("Server=db.internal;User=a;Password=", "\u5bc6\u7801\u5bc6\u7801\u5bc6\u7801 "),
    "a header far away": ("Authorization: Bearer" + " " * 900, _characters(64)),
    "an address with CJK": ("postgres://\u7528\u6237:", "\u5bc6\u7801\u5bc6\u7801\u5bc6\u7801@db.internal/app"),
    "a token with many claims": (
        "",
        f"{_url_safe({'alg': 'RS256'})}.{_url_safe({'groups': _characters(5_000)})}.{_characters(86)}",
    ),
    "a key behind an escape": ("A=1\\n", KEY),
}
SAMPLES = {kind: (text, span) for kind, text, span in reversed(list(secrets(SEED))) if ENGINE.scan(text)}


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kind", SAMPLES)
def test_a_secret_of_any_format_is_stopped_before_any_of_it(kind: str, size: int) -> None:
    text, (start, end) = SAMPLES[kind]
    # Of a private key the first line, which says that it is one, is no secret.
    start += text[start:end].find("KEY-----") + 1
    for before, after in AROUND[1:3]:
        said = before + text + after
        out, stopped = passed(said, size)
        assert stopped, before
        assert said.startswith(out)
        assert len(out) <= len(before) + start, before


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kind", HARD)
def test_so_is_one_that_is_long_or_encoded_or_far_from_what_shows_it(kind: str, size: int) -> None:
    beginning, secret = HARD[kind]
    for before, after in AROUND:
        said = before + beginning + secret + after
        if ENGINE.scan(said):
            out, stopped = passed(said, size)
            assert stopped, before
            assert len(out) <= len(before + beginning), before
    assert ENGINE.scan(beginning + secret)


@pytest.mark.parametrize("size", SIZES)
def test_so_is_one_in_the_arguments_of_a_tool_however_they_are_escaped(size: int) -> None:
    for value in (f"A=1\n{KEY}\nB=2", {"a": f"A=1\n{KEY}"}, "https://app:" + PASSWORD + "@db.internal"):
        for times in range(3):
            written = json.dumps({"text": value})
            for _ in range(times):
                written = json.dumps({"file": written})
            for said in (written, written.replace("/", "\\/"), written.replace("g", "\\u0067")):
                out, stopped = passed(said, size, arguments=True)
                assert stopped, said
                assert KEY[:5] not in out
                assert PASSWORD[:2] not in out


@pytest.mark.parametrize("size", [1, 5, 13, 40])
def test_what_only_looks_like_a_secret_is_passed_on_wherever_it_is_cut(size: int) -> None:
    for said in look_alikes(SEED):
        assert passed(said, size) == (said, False)


@pytest.mark.parametrize(
    "word",
    [
        "7550669089:" + _characters(64, "0123456789abcdef"),
        "SK" + _characters(64, "0123456789abcdef"),
        "AKIA" + _characters(40, string.ascii_uppercase),
        "AKC" + _characters(12) + ".model",
    ],
    ids=["telegram", "twilio", "aws", "artifactory"],
)
def test_half_a_word_is_not_taken_for_what_the_whole_is_not(word: str) -> None:
    said = f"See {word} there."
    assert not ENGINE.scan(said)
    for cut in range(len(said)):
        stream = Stream()
        stream.say(said[:cut])
        stream.say(said[cut:])
        stream.end()
        assert stream.passed == said


@pytest.mark.parametrize(
    "said",
    [
        "\u6211\u4eec\u4eca\u5929\u53bb\u516c\u56ed\uff0c\u5929\u6c14\u5f88\u597d\u3002" * 60,
        "\u4eca\u65e5\u306f\u5929\u6c17\u304c\u3044\u3044\u306e\u3067\u3001\u516c\u5712\u3078\u884c\u304d\u307e\u3059\u3002"
        * 60,
        "\u0e27\u0e31\u0e19\u0e19\u0e35\u0e49\u0e2d\u0e32\u0e01\u0e32\u0e28\u0e14\u0e35\u0e21\u0e32\u0e01" * 60,
    ],
    ids=["Chinese", "Japanese", "Thai"],
)
def test_a_text_without_spaces_flows(said: str) -> None:
    stream = Stream()
    for at in range(0, len(said), 3):
        stream.say(said[at : at + 3])
        assert at + 3 - len(stream.passed) <= 8
    stream.end()
    assert stream.passed == said


def test_words_flow_and_what_is_long_lags_no_further_than_its_bound() -> None:
    prose = "The quick brown fox jumps\nover a lazy dog (a big one), twice.\n\n- It is\n- a list\n"
    for said, lag in (
        (prose * 30, 20),
        ("sha\n" * 1_000, MAX_ENCODED + 300),
        ("a b c d " * 300, MAX_ENCODED + 300),
        ("x" * 9_000, MAX_WORD + 300),
        (PEM.format("BEGIN") + " " * 9_000, MAX_WORD + 300),
    ):
        stream = Stream()
        for at in range(0, len(said), 4):
            stream.say(said[at : at + 4])
            assert at + 4 - len(stream.passed) <= lag
        stream.end()
        assert stream.passed == said


def test_a_long_word_is_not_looked_at_for_each_of_its_pieces() -> None:
    stream = Stream()
    for _ in range(5_000):
        stream.say("QUJD")
    assert stream.screened < 100


@pytest.mark.parametrize(
    "unit", ["a b ", "A\n", "a\\n", "\\x41 ", "&#65; ", "host=a;", "://a:b", "QUJD", "-----BEGIN PRIVATE KEY-----"]
)
def test_where_a_text_is_unfinished_is_told_in_time_that_grows_as_it_does(unit: str) -> None:
    def spent(size: int) -> float:
        text = (unit * size)[:size] + ". The end, x"
        best = 1e9
        for _ in range(5):
            begin = thread_time()
            unfinished(text)
            best = min(best, thread_time() - begin)
        return best

    assert spent(12_000) < 8 * max(spent(3_000), 0.002)
