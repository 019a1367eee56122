"""Names that callers give are kept as they are where they are plain names, and as keyed hashes where they are more."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from io import BytesIO
from types import SimpleNamespace
from typing import Any, cast
from uuid import NAMESPACE_URL, uuid5

import pytest
from gatehouse.core.keys import InstallationKeys, Purpose
from gatehouse.core.names import MAX_NAME_CHARS, has_card_number, hidden, is_hidden, is_plain
from gatehouse.core.reasons import Reason
from gatehouse.gateway.hooks import _withhold
from gatehouse.guards.findings import Finding, ScanFailed
from gatehouse.guards.pii.config import Mode, PiiConfig
from gatehouse.guards.pii.engine import Engine
from gatehouse.guards.scan import Scan
from gatehouse.guards.screens.config import ScreenConfig
from gatehouse.guards.screens.engine import ScreenEngine
from gatehouse.guards.screens.hits import Hit
from gatehouse.pipeline.in_force import PolicyInForce
from gatehouse.pipeline.recorded_names import (
    RecordedNames,
    is_plain_model,
    names_in,
    names_in_form,
    renamed,
    written_form,
)
from starlette.datastructures import Headers, UploadFile
from starlette.requests import Request

KEYS = InstallationKeys("a-test-installation-secret-0123456789", "the-one-before-it-0123456789-abcdefgh")
KEY = KEYS.key(Purpose.RECORDS)
UUID = str(uuid5(NAMESPACE_URL, "session"))
DIGEST = sha256(b"ada").hexdigest()
SK = "sk-" + "proj-" + sha256(b"key").hexdigest()[:40]


@pytest.mark.parametrize(
    "name",
    [
        "billing-agent",
        "session-42",
        "ada",
        "ada.lovelace",
        "get_weather",
        "mcp__filesystem__read_multiple_files",
        "searchKnowledgeBaseDocuments",
        "team/research",
        "customer:12345",
        "session-2026-11-29-001",
        "run_20261129",
        "session-7f3a9c2e",
        "v1.106.12",
        "gpt-4o-2024-08-06",
        "claude-sonnet-4-5-20250929",
        "ollama/llama3.2:3b-instruct-q4_K_M",
        "équipe-ventes",
        "営業チーム",
        UUID,
        UUID.upper(),
        f"session-{UUID}",
        DIGEST,
        sha256(b"x").hexdigest()[:32],
        f"user_{DIGEST}_account_{UUID}_session_{UUID}",  # as Claude Code writes it
    ],
)
def test_an_ordinary_name_stays(name: str) -> None:
    assert is_plain(name)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "ada@example.com",
        "ada%40example.com",
        "Ada Lovelace",
        "Ada\tLovelace",
        "Lovelace, Ada",
        "+49 151 1234567",
        "+491511234567",
        "555-0123",
        "tel:5550123",
        "0151_1234_567",
        "4532015112830366",
        "4532-0151-1283-0366",
        "4532_0151_1283_0366",
        "4532.0151.1283.0366",
        "4532x0151x1283x0366",
        "x4532015112830366x",
        "4532015112830366abcdefabcdefabcd",  # 32 hexadecimal digits
        "\uff14\uff15\uff13\uff12\uff10\uff11\uff15\uff11",
        "\u0664\u0665\u0663\u0662\u0660\u0661\u0665\u0661",
        "078-05-1120",
        "1984-05-12",
        "DE89370400440532013000",
        "192.168.100.12",
        "https://example.com/ada",
        "name=ada",
        SK,
        SK.replace("-", "_"),
        "AKIA" + "IOSFODNN7" + "EXAMPL2",
        "ghp_" + sha256(b"gh").hexdigest()[:36],
        "a\nb",
        "a\0b",
        "x" * (MAX_NAME_CHARS + 1),
        "hmac:00000000:" + "4532015112830366" * 2,  # what a hash looks like is the gateway's alone to write
    ],
)
def test_what_may_be_personal_data_or_a_secret_is_no_plain_name(name: str) -> None:
    assert not is_plain(name)


@pytest.mark.parametrize(
    "name",
    [
        "vertex_ai/claude-3-5-sonnet@20240620",
        "cloudflare/@cf/meta/llama-3.3-70b",
        "ollama/hf.co/org/Llama-3.2-3B-Instruct-GGUF:Q4_K_M",
        "bedrock/us.anthropic.claude-3-5-sonnet-20241022-v2:0",
    ],
)
def test_a_models_name_may_have_an_at_sign(name: str) -> None:
    assert is_plain_model(name)
    assert not is_plain_model("ollama/Ada Lovelace")


def test_hardly_a_random_digest_is_taken_for_a_card_number() -> None:
    digests = [sha256(b"%d" % number).hexdigest() for number in range(1_000)]
    assert sum(map(is_plain, digests)) > 985
    assert has_card_number("a4532015112830366f")
    assert not has_card_number("a4111222233334445f")


def test_what_is_kept_instead_joins_and_says_nothing() -> None:
    kept = hidden("ada@example.com", KEY)
    assert kept == hidden("ada@example.com", KEY)
    assert kept != hidden("eve@example.com", KEY)
    assert is_hidden(kept)
    assert kept.startswith(f"hmac:{KEYS.epoch}:")
    old = KEYS.key_of(Purpose.RECORDS, KEYS.epochs[1])
    assert old is not None
    assert kept != hidden("ada@example.com", old)
    assert kept != hidden("ada@example.com", KEYS.key(Purpose.MASKING))


def test_what_is_kept_instead_is_no_finding_itself() -> None:
    pii, screens = Engine(PiiConfig()), ScreenEngine(ScreenConfig(secrets=True))
    for number in range(500):
        kept = hidden(str(number), KEY)
        assert not pii.scan(kept), kept
        assert not screens.scan(kept), kept


@dataclass
class Scanner:
    """Finds the word `badge` and the secret word `hunter`."""

    fails: bool = False

    async def scan(self, texts: Sequence[str], caller: str = "unnamed") -> list[Scan]:
        if self.fails:
            raise ScanFailed(Reason.BUSY)
        return [
            Scan(
                (Finding("BADGE", 0, 5, 1.0),) if "badge" in text else (),
                (Hit("secrets", "word", 0, 6, 1.0),) if "hunter" in text else (),
            )
            for text in texts
        ]


def caller_names(
    mode: Mode | None = Mode.MASK, *, scanner: Scanner | None = None, tags: frozenset[str] = frozenset()
) -> RecordedNames:
    pii = None if mode is None else PiiConfig(mode=mode)
    governance = SimpleNamespace(scanner=scanner or Scanner(), pii=pii)
    return RecordedNames(KEY, lambda: cast(PolicyInForce, governance), lambda: tags)


async def test_what_the_scanner_finds_in_a_plain_name_is_not_kept() -> None:
    found = await caller_names().hide(["badge-1", "hunter", "ada", "ada@example.com"])
    assert found == {name: hidden(name, KEY) for name in ("badge-1", "hunter", "ada@example.com")}


async def test_a_name_that_cannot_be_scanned_is_not_kept() -> None:
    assert await caller_names(scanner=Scanner(fails=True)).hide(["ada"]) == {"ada": hidden("ada", KEY)}


@pytest.mark.parametrize("mode", [None, Mode.OFF, Mode.OBSERVE])
async def test_without_masking_secrets_alone_are_not_kept(mode: Mode | None) -> None:
    assert list(await caller_names(mode).hide(["ada@example.com", "badge-1", "hunter"])) == ["hunter"]


async def test_where_nothing_is_looked_for_names_stay() -> None:
    governance = cast(PolicyInForce, SimpleNamespace(scanner=None, pii=None))
    assert await RecordedNames(KEY, lambda: governance).hide(["ada@example.com"]) == {}


async def test_a_tag_that_the_operator_has_configured_stays() -> None:
    assert await caller_names(tags=frozenset(["Premium users"])).hide(["Premium users", "Other users"]) == {
        "Other users": hidden("Other users", KEY)
    }


MAIL = "ada@example.com"


def test_of_a_refused_call_litellm_keeps_what_it_counts_by_and_no_word_more() -> None:
    said = {"model": "demo", "user": "ada", "tags": ["a"], "messages": [MAIL], "extra_body": {MAIL: 1}, "n": 2}
    notes = {"note": MAIL, "tags": ["a"], "user_api_key_hash": "h", "requester_metadata": {"note": MAIL}}
    logged = SimpleNamespace(messages=[MAIL], model_call_details={"messages": [MAIL], "input": MAIL, "model": "demo"})
    data = {
        **said,
        "metadata": dict(notes),
        "litellm_metadata": dict(notes),
        "proxy_server_request": {"body": {**said, "metadata": dict(notes)}, "headers": {}},
        "litellm_logging_obj": logged,
    }
    _withhold(data, (*said, "metadata"), ("note", "tags"))
    assert MAIL not in repr(data)
    kept = {"model": "demo", "user": "ada", "tags": ["a"], "metadata": {"tags": ["a"], "user_api_key_hash": "h"}}
    assert data["proxy_server_request"] == {"body": kept, "headers": {}}
    assert {name: data[name] for name in kept} == kept


KEPT = {MAIL: hidden(MAIL, KEY), "4532015112830366": hidden("4532015112830366", KEY)}


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"user": MAIL}, {"user": KEPT[MAIL]}),
        ({"user": f" {MAIL} "}, {"user": KEPT[MAIL]}),
        ({"safety_identifier": MAIL}, {"safety_identifier": KEPT[MAIL]}),
        ({"safety_identifier": 4532015112830366}, {"safety_identifier": KEPT["4532015112830366"]}),
        ({"tags": ["a", MAIL]}, {"tags": ["a", KEPT[MAIL]]}),
        ({"metadata": {"user_id": MAIL, "note": MAIL}}, {"metadata": {"user_id": KEPT[MAIL], "note": MAIL}}),
        ({"metadata": {"tags": [MAIL]}}, {"metadata": {"tags": [KEPT[MAIL]]}}),
        ({"user": MAIL, "input": MAIL}, {"user": KEPT[MAIL], "input": MAIL}),
    ],
)
def test_names_are_taken_out_of_every_field_that_litellm_keeps(body: dict[str, Any], expected: dict[str, Any]) -> None:
    before = repr(body)
    assert renamed(body, {name: KEPT[name] for name in names_in(body) if name in KEPT}) == expected
    assert repr(body) == before


def test_a_body_with_plain_names_is_the_same_object() -> None:
    body: dict[str, Any] = {"user": "ada", "metadata": None, "tags": None, "safety_identifier": {"a": 1}}
    assert renamed(body, KEPT) is body
    assert list(names_in(body)) == ["ada"]


async def parsed(kind: bytes, body: bytes) -> dict[str, Any]:
    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    async with Request({"type": "http", "headers": [(b"content-type", kind)]}, receive).form() as form:
        return {
            name: value if isinstance(value, str) else (value.filename, value.content_type, await value.read())
            for name, value in form.multi_items()
        }


async def written(items: Mapping[str, str | tuple[str, bytes]]) -> dict[str, Any]:
    held = [
        (name, value)
        if isinstance(value, str)
        else (name, UploadFile(BytesIO(value[1]), filename=value[0], headers=Headers({"content-type": "audio/mpeg"})))
        for name, value in items.items()
    ]
    hide = {name: hidden(name, KEY) for name in names_in_form(held) if not is_plain(name)}
    return await parsed(*await written_form(held, hide))


async def test_a_form_is_the_same_but_for_its_names() -> None:
    sound = bytes(range(256)) + b"\r\n--x--\r\n"
    form = await written({"file": ("Ada Lovelace.mp3", sound), "user": MAIL, "prompt": f"ä\r\n{MAIL}", "model": "m"})
    assert form == {
        "file": ("file.mp3", "audio/mpeg", sound),
        "user": KEPT[MAIL],
        "prompt": f"ä\r\n{MAIL}",
        "model": "m",
    }


async def test_a_files_suffix_stays_only_where_it_is_one() -> None:
    for given, sent in (("4532015112830366.mp3", "file.mp3"), ("x y.4532015112830366", "file"), (".ada", "file")):
        assert (await written({"file": (given, b"")}))["file"][0] == sent
