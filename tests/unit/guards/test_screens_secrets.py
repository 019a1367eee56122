"""Secrets are found by their format wherever they stand, placeholders are not, and no pattern takes long."""

from __future__ import annotations

import base64
import contextlib
import random
from pathlib import Path
from time import process_time

import pytest
from gatehouse.guards.findings import ScanFailed
from gatehouse.guards.screens.config import ScreenConfig
from gatehouse.guards.screens.engine import ScreenEngine
from gatehouse.guards.screens.formats import Format, formats
from gatehouse.guards.screens.phrases import Sign, signs
from gatehouse.guards.screens.secrets import is_placeholder

from evaluation.secret_samples import drawn, look_alikes, secrets

SEED = 7  # not the one that the published numbers are of


@pytest.fixture(scope="module")
def engine() -> ScreenEngine:
    return ScreenEngine(ScreenConfig(secrets=True))


def test_every_format_is_found_where_it_stands(engine: ScreenEngine) -> None:
    missed = []
    for kind, text, (start, end) in secrets(SEED):
        hits = engine.scan(text)
        if not hits:
            missed.append(kind)
            continue
        assert [hit.screen for hit in hits] == ["secrets"], kind
        # A token's surroundings may be part of what shows it; little of the secret may be left in the open.
        covered = min(hits[0].end, end) - max(hits[0].start, start)
        assert covered >= 0.9 * (end - start), kind
    # A short key without a prefix of its own is told from words by its digits, and of fifty one has none.
    assert set(missed) <= {"virtual key", "bearer"}
    assert len(missed) <= 2


def _templates() -> list[tuple[str, str]]:
    lines = (Path(__file__).with_name("cases") / "secrets.txt").read_text().splitlines()
    return [
        (line.partition("|")[0], line.partition("|")[2].replace("\\n", "\n"))
        for line in lines
        if line and line[0] != "#"
    ]


def _made(template: str, draw: random.Random) -> str:
    number = base64.b64encode(str(draw.randrange(10**17, 10**18)).encode()).decode()
    pair = base64.b64encode(f"deploy:{drawn('{a14}', draw)}".encode()).decode()
    return drawn(template.replace("<discord>", number).replace("<docker>", f'"auth": "{pair}"'), draw)


@pytest.mark.parametrize(("kind", "template"), _templates())
def test_every_issuers_keys_are_found(engine: ScreenEngine, kind: str, template: str) -> None:
    draw = random.Random(kind)
    texts = [f"config\n{_made(template, draw)}\nend" for _ in range(10)]
    # A key that only the name before it shows is told from words by its digits, which few keys lack.
    assert sum(bool(engine.scan(text)) for text in texts) >= 8


@pytest.mark.parametrize(
    "text",
    [
        "postgres://postgres:postgres@db:5432/app",
        "amqp://user:user@rabbit:5672",
        "redis://default:redis@cache",
        "mysql://app:changeme@db/app",
        "https://oauth2:x-oauth-basic@git.internal/a.git",
        "sk_test_" + "4eC39HqLyjWDarjtT1zdp7dc",
        "AccountKey=" + "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==",
        "openai_api_key = settings.openai_api_key_for_tests_only",
        '"api_key": "this_is_the_name_of_a_field_2"',
        "mistral token_count_per_minute_of_model_2",
        "private key: see chapter 3 of the manual for the sixty-four digits",
        "seed phrase words are shown only once",
        'twitter_secret = get_secret("twitter/production/secret/v2")',
        "-d sdk-manager -p api-server-2 re_compile_pattern_of_words",
        "curl -u user:password https://example.com",
        'SECRET_KEY = "your-secret-key-goes-here-1"',
    ],
)
def test_examples_of_documentation_and_names_in_programs_are_no_secrets(engine: ScreenEngine, text: str) -> None:
    assert engine.scan(text) == []


def test_what_looks_like_a_secret_is_none(engine: ScreenEngine) -> None:
    assert [text for text in look_alikes(SEED) if engine.scan(text)] == []


def test_a_private_key_is_one_hit_from_its_first_line_to_its_last(engine: ScreenEngine) -> None:
    text, (start, end) = next((text, span) for kind, text, span in secrets(SEED) if kind == "private key")
    (hit,) = engine.scan(f"{text}\nand more")
    assert (hit.rule, hit.start, hit.end) == ("private_key", start, end)


def test_a_key_that_zero_width_characters_cut_is_found_whole(engine: ScreenEngine) -> None:
    key = "\u200b".join("sk-proj-" + "Ab3dE6gH9" * 5)
    (hit,) = engine.scan(f"key {key}!")
    assert (hit.rule, hit.start, hit.end) == ("openai_key", 4, 4 + len(key))


def test_a_password_in_an_address_is_found_and_the_address_left(engine: ScreenEngine) -> None:
    text = "postgres://app:w0rd%40pass@db.internal/app"
    (hit,) = engine.scan(text)
    assert text[hit.start : hit.end] == "w0rd%40pass"
    assert engine.scan("postgres://app:${PASSWORD}@db.internal/app") == []


@pytest.mark.parametrize(
    "value", ["x" * 40, "YOUR_API_KEY_GOES_HERE", "AKIA" + "IOSFODNN7EXAMPLE", "abababababababababab"]
)
def test_a_placeholder_is_known(value: str) -> None:
    assert is_placeholder(value)


@pytest.mark.parametrize("each", [*formats(), *signs()], ids=lambda each: each.id)
def test_no_pattern_blows_up_on_hostile_text(each: Format | Sign) -> None:
    for anchor in each.anchors:
        for unit in (anchor, f"{anchor} ", f"{anchor}=", f"{anchor}-", f'{anchor}:"', f"{anchor}\n", anchor.upper()):
            for text in (unit * (20_000 // len(unit)), unit + "a" * 20_000, "a" * 20_000 + unit, unit + "A1-" * 7_000):
                begin = process_time()
                list(each.pattern.finditer(text, timeout=10))
                assert process_time() - begin < 2, unit


@pytest.mark.parametrize(
    "unit", ["eyJ", "://a:", "sk-aA1", "-----BEGIN PRIVATE KEY-----", "//:_authToken=", "server=;"]
)
def test_100_kb_before_a_key_neither_hide_it_nor_take_long(engine: ScreenEngine, unit: str) -> None:
    text = unit * (100_000 // len(unit)) + " " + "ghp_" + "Ab3dE6gH9" * 4
    begin = process_time()
    with contextlib.suppress(ScanFailed):  # out of time: then the call is blocked
        assert any(hit.rule == "github_token" and hit.end == len(text) for hit in engine.scan(text))
    assert process_time() - begin < 10
