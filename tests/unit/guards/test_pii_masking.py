"""Placeholders are functions of value and scope; masking and unmasking are the identity, wherever a stream is cut."""

from __future__ import annotations

import base64
import json
import pickle
import re
from itertools import pairwise

import pytest
from gatehouse.core.errors import PlaceholdersCollide
from gatehouse.core.keys import DerivedKey, InstallationKeys, Purpose
from gatehouse.guards.findings import Finding
from gatehouse.guards.pii.config import Mode, PiiConfig
from gatehouse.guards.pii.engine import Engine
from gatehouse.guards.pii.masking import Mask, Placeholders, scope_of
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.masking import PLACEHOLDERS, mask_one, new_mask

CONFIG = PiiConfig(entities={"A": Mode.MASK, "EMAIL_ADDRESS": Mode.MASK, "SEEN": Mode.OBSERVE})
MAIL = "ada@example.com"
GIVEN = PLACEHOLDERS.of("EMAIL_ADDRESS", MAIL)
NAME = GIVEN[1:-1]
A_NAME = PLACEHOLDERS.name("A", "x")
TOKEN = NAME.removeprefix("EMAIL_ADDRESS_")
# Pieces that come close to a placeholder are what breaks an unmasker, so texts are made of them.
PIECES = st.sampled_from(
    [
        *"<>A_12x",
        "\\",
        "\\\\",
        "u003c",
        "\\u003C",
        "\\u003e",
        "&lt;",
        "&gt",
        "%3C",
        "&#x3E;",
        A_NAME,
        f"<{A_NAME}>",
        PLACEHOLDERS.of("A", "<"),
        PLACEHOLDERS.of("A", "X"),
        PLACEHOLDERS.of("LITERAL", f"<{A_NAME}>"),
        PLACEHOLDERS.of("LITERAL", A_NAME.lower()),
        A_NAME.lower(),
        GIVEN,
        GIVEN[:9],
        GIVEN[9:],
        TOKEN,
        MAIL,
        "\u00e9",
        "\u0131",
        '"',
        "\ud800",
    ]
)
TEXTS = st.lists(PIECES, max_size=20).map("".join)


def find(text: str, value: str, entity: str = "EMAIL_ADDRESS") -> list[Finding]:
    at = text.index(value)
    return [Finding(entity, at, at + len(value), 1.0)]


@st.composite
def marked(draw: st.DrawFn) -> tuple[str, list[Finding]]:
    text = draw(TEXTS)
    cuts = sorted(draw(st.sets(st.integers(0, len(text)), max_size=8)))
    spans = list(zip(cuts[::2], cuts[1::2], strict=False))
    return text, [Finding(draw(st.sampled_from(["A", "EMAIL_ADDRESS", "SEEN"])), a, b, 1.0) for a, b in spans]


def fed(mask: Mask, text: str, cuts: list[int], *, inside_json: bool = False) -> str:
    unmasker = mask.unmasker(inside_json=inside_json)
    edges = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    return "".join(unmasker.push(text[a:b]) for a, b in pairwise(edges)) + unmasker.flush()


@given(st.lists(marked(), max_size=4), st.lists(st.integers(0, 200), max_size=30))
def test_mask_then_unmask_is_the_identity_for_any_text_and_any_chunking(
    parts: list[tuple[str, list[Finding]]], cuts: list[int]
) -> None:
    mask = new_mask()
    for (text, _), hidden in zip(parts, mask.mask(parts, CONFIG), strict=True):
        assert mask.unmask(hidden) == text
        assert fed(mask, hidden, cuts) == text
        assert fed(mask, hidden, list(range(len(hidden)))) == text


def knowing() -> Mask:
    """Return a mask that knows the placeholders in the pieces above."""
    mask = new_mask()
    values = [("EMAIL_ADDRESS", MAIL), ("A", "x"), ("A", "<"), ("A", "X"), ("LITERAL", A_NAME.lower())]
    config = PiiConfig(entities={entity: Mode.MASK for entity, _ in values})
    mask.mask([(value, find(value, value, entity)) for entity, value in values], config)
    return mask


KNOWING = knowing()


@settings(max_examples=500)
@given(TEXTS, st.lists(st.integers(0, 200), max_size=30), st.booleans())
def test_a_stream_comes_out_as_the_whole_text_does_wherever_it_is_cut(text: str, cuts: list[int], json_: bool) -> None:
    whole = KNOWING.unmask_json(text) if json_ else KNOWING.unmask(text)
    assert fed(KNOWING, text, cuts, inside_json=json_) == whole
    assert fed(KNOWING, text, list(range(len(text))), inside_json=json_) == whole


@given(st.text(min_size=1), st.lists(st.integers(0, 40), max_size=10))
def test_inside_json_any_value_stays_one_string(value: str, cuts: list[int]) -> None:
    mask = new_mask()
    arguments = '{"to": "' + mask_one(mask, value, find(value, value), CONFIG) + '"}'
    assert json.loads(mask.unmask_json(arguments)) == {"to": value}
    assert json.loads(fed(mask, arguments, cuts, inside_json=True)) == {"to": value}


# The most that may be set: how long a scan takes says how busy the machine is.
ENGINE = Engine(PiiConfig(timeout_s=60))
# What the engine finds, in several spellings, between what comes close to a placeholder or ends a JSON string.
REAL = st.sampled_from(
    [
        "jane@example.com",
        "JANE@Example.com",
        "ja\u200bne@example.com",
        "+44 20 7946 0958",
        "(201) 555-0123x4",
        "4111 1111 1111 1111",
        "DE89 3704 0044 0532 0130 00",
        '"jane doe"@example.com',
        "j\u00f6rg@m\u00fcller.de",
        "\U0001f600@example.com",
        base64.b64encode(b"write to jane@example.com").decode(),
        PLACEHOLDERS.of("EMAIL_ADDRESS", "jane@example.com"),
        PLACEHOLDERS.of("EMAIL_ADDRESS", "JANE@Example.com"),
        PLACEHOLDERS.name("EMAIL_ADDRESS", "jane@example.com").lower(),
        "<EMAIL",
        "_ADDRESS_7Q2MKD4P>",
        PLACEHOLDERS.of("PHONE_NUMBER", "+44 20 7946 0958"),
        "<",
        '"',
        "\\",
        "\n",
        " ",
        ", ",
        "\ud83d",
    ]
)
REAL_TEXTS = st.lists(REAL, max_size=12).map("".join)


@settings(max_examples=200)
@given(st.lists(REAL_TEXTS, max_size=3), st.lists(st.integers(0, 400), max_size=40))
def test_what_the_engine_finds_comes_back_as_written_wherever_the_stream_is_cut(
    texts: list[str], cuts: list[int]
) -> None:
    config = PiiConfig()
    mask = new_mask()
    masked = mask.mask([(text, ENGINE.scan(text)) for text in texts], config)
    for text, hidden in zip(texts, masked, strict=True):
        # With letters and digits behind it, it is another address, or none.
        assert "jane@example.com" not in hidden.replace("jane@example.comDE89", "")
        assert mask.unmask(hidden) == text
        assert fed(mask, hidden, cuts) == text
        assert fed(mask, hidden, list(range(len(hidden)))) == text
        # A tool call's arguments: the model writes the placeholder inside a JSON string.
        for ensure_ascii in (True, False):
            arguments = json.dumps({"note": hidden, "to": [hidden]}, ensure_ascii=ensure_ascii)
            whole = {"note": text, "to": [text]}
            assert json.loads(mask.unmask_json(arguments)) == whole
            assert json.loads(fed(mask, arguments, cuts, inside_json=True)) == whole


# -- a function of value and scope ------------------------------------------------------------------------------------

VALUES = st.sampled_from(
    [
        ("EMAIL_ADDRESS", "ada@example.com"),
        ("EMAIL_ADDRESS", "ADA@Example.com"),
        ("EMAIL_ADDRESS", "a\u200bda@example.com"),
        ("EMAIL_ADDRESS", "bob@example.com"),
        ("PHONE_NUMBER", "+44 20 7946 0958"),
        ("PHONE_NUMBER", "+442079460958"),
        ("CREDIT_CARD", "4111 1111 1111 1111"),
        ("A", "ada@example.com"),
    ]
)
ALL = PiiConfig(entities=dict.fromkeys(("EMAIL_ADDRESS", "PHONE_NUMBER", "CREDIT_CARD", "A"), Mode.MASK))


@given(st.lists(VALUES, min_size=1), st.randoms(use_true_random=False))
def test_a_placeholder_is_the_same_in_every_turn_order_and_place(values: list[tuple[str, str]], random: object) -> None:
    def placeholders(order: list[tuple[str, str]]) -> dict[tuple[str, str], str]:
        masked = new_mask().mask([(value, find(value, value, entity)) for entity, value in order], ALL)
        return dict(zip(order, masked, strict=True))

    shuffled = [*values]
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    first = placeholders(values)
    assert placeholders(shuffled) == first
    for entity, value in values:  # alone, and as another process would make it
        assert placeholders([(entity, value)])[entity, value] == first[entity, value]
        assert Placeholders(PLACEHOLDERS.key, "team:a").of(entity, value) == first[entity, value]


def test_a_token_is_forty_bits_in_crockfords_letters_and_a_spelling_has_two_characters_more() -> None:
    digit = "[0-9A-HJKMNP-TV-Z]"
    names = [PLACEHOLDERS.name("EMAIL_ADDRESS", f"ada{n}@example.com") for n in range(500)]
    assert all(re.fullmatch(f"EMAIL_ADDRESS_{digit}{{8}}", name) for name in names)
    assert len(set(names)) == 500
    assert {char for name in names for char in name[-8:]} == set("0123456789ABCDEFGHJKMNPQRSTVWXYZ")
    hashed = PLACEHOLDERS.key.mac("team:a", "EMAIL_ADDRESS", MAIL)
    digits = ["0123456789ABCDEFGHJKMNPQRSTVWXYZ".index(char) for char in TOKEN]
    assert sum(value << 5 * (7 - at) for at, value in enumerate(digits)) == int.from_bytes(hashed[:5], "big")


def test_the_same_value_has_the_same_placeholder_after_an_update() -> None:
    for entity, value, name in (
        ("EMAIL_ADDRESS", "ada@example.com", "EMAIL_ADDRESS_VJZPC4AB"),
        ("EMAIL_ADDRESS", "ADA@example.com", "EMAIL_ADDRESS_VJZPC4ABA9"),
        ("PHONE_NUMBER", "+442079460958", "PHONE_NUMBER_E1YB6HEA"),
        ("PHONE_NUMBER", "+44 20 7946-0958", "PHONE_NUMBER_E1YB6HEABB"),
        ("A", "\u200b", "A_EP5K1W6W"),  # nothing is left of it
    ):
        assert PLACEHOLDERS.name(entity, value) == name
        assert mask_one(new_mask(), value, find(value, value, entity), ALL) == f"<{name}>"
    alike = ["abcdEfGhij@x.com", "aBcDefGhij@x.com"]
    assert {PLACEHOLDERS.name("A", each) for each in alike} == {"A_M05K5BBDZB"}
    masked = new_mask().mask([(each, find(each, each, "A")) for each in alike], ALL)
    assert masked == ["<A_5HNTDC2M>", "<A_GZ8Y2ZQX>"]


@pytest.mark.parametrize(
    ("entity", "plain", "spellings"),
    [
        (
            "EMAIL_ADDRESS",
            MAIL,
            ["ADA@example.com", "Ada@Example.com", "a\u200bda@example.com", "ada\uff20example.com"],
        ),
        ("PHONE_NUMBER", "+442079460958", ["+44 20 7946 0958", "+44 (20) 7946-0958"]),
        ("CREDIT_CARD", "4111111111111111", ["4111 1111 1111 1111", "4111-1111-1111-1111"]),
        ("IBAN_CODE", "de89370400440532013000", ["DE89 3704 0044 0532 0130 00", "DE89370400440532013000"]),
    ],
)
def test_spellings_of_a_value_share_its_token_and_come_back_as_written(
    entity: str, plain: str, spellings: list[str]
) -> None:
    mask = new_mask()
    config = PiiConfig(entities={entity: Mode.MASK})
    hidden = mask.mask([(each, find(each, each, entity)) for each in [plain, *spellings]], config)
    assert len(hidden[0]) == len(f"<{entity}_>") + 8
    assert all(each[:-3] == hidden[0][:-1] and len(each) == len(hidden[0]) + 2 for each in hidden[1:])
    assert len(set(hidden)) == len(hidden)
    assert [mask.unmask(each) for each in hidden] == [plain, *spellings]


@given(st.lists(st.booleans(), min_size=len(MAIL), max_size=len(MAIL)))
def test_any_spelling_begins_with_the_token_of_its_value_and_only_the_plain_one_is_no_longer(upper: list[bool]) -> None:
    spelled = "".join(char.upper() if up else char for char, up in zip(MAIL, upper, strict=True))
    assert PLACEHOLDERS.name("EMAIL_ADDRESS", spelled)[: len(NAME)] == NAME
    assert (PLACEHOLDERS.name("EMAIL_ADDRESS", spelled) == NAME) == (spelled == MAIL)


def test_a_thousand_spellings_of_a_value_are_masked_and_come_back_in_any_order() -> None:
    """Two characters cannot tell a thousand apart; that is no reason to refuse a call."""
    spellings = [
        "".join(c.upper() if n >> i & 1 else c for i, c in enumerate("abcdefghij@x.com")) for n in range(1_000)
    ]
    parts = [(each, find(each, each)) for each in spellings]
    mask, other = new_mask(), new_mask()
    hidden = mask.mask(parts, CONFIG)
    assert len(set(hidden)) == 1_000
    assert [mask.unmask(each) for each in hidden] == spellings
    assert other.mask(parts[::-1], CONFIG)[::-1] == hidden


def test_other_scopes_entities_and_secrets_have_other_tokens() -> None:
    keys = [InstallationKeys(letter * 43).key(Purpose.MASKING) for letter in "ab"]
    names = [
        Placeholders(key, scope).name(entity, MAIL)[-8:]
        for key in keys
        for scope in ("team:a", "team:b", "key:a")
        for entity in ("EMAIL_ADDRESS", "A")
    ]
    assert len(set(names)) == len(names)


def test_the_scope_is_the_team_else_the_key_or_the_call() -> None:
    def scope(kind: str, team_id: str | None, key_hash: str | None) -> str:
        return scope_of(kind, team_id=team_id, key_hash=key_hash, call_id="c")

    assert [scope(kind, "t", "k") for kind in ("team", "key", "call")] == ["team:t", "key:k", "call:c"]
    assert [scope(kind, None, "k") for kind in ("team", "key", "call")] == ["key:k", "key:k", "call:c"]
    assert [scope(kind, None, None) for kind in ("team", "key", "call")] == ["call:c"] * 3


def test_what_is_masked_can_be_restated_in_another_scope() -> None:
    literal = Placeholders(PLACEHOLDERS.key, "call:1").of("EMAIL_ADDRESS", MAIL)
    texts = [(f"to {MAIL}, {MAIL.upper()}", []), (f"say {literal} <B>", [])]
    texts[0] = (texts[0][0], find(texts[0][0], MAIL) + find(texts[0][0], MAIL.upper()))

    def body(call: str, scope: str) -> dict[str, object]:
        mask = new_mask(call)
        first, second = mask.mask([*texts], CONFIG) if call == "call:1" else mask.mask(texts[:1], CONFIG) * 2
        made = {"a": [first, 1.5, None], first: {"b": second}}
        return mask.restated(made, Placeholders(PLACEHOLDERS.key, scope))  # type: ignore[no-any-return]

    mail, upper = (Placeholders(PLACEHOLDERS.key, "s").of("EMAIL_ADDRESS", each) for each in (MAIL, MAIL.upper()))
    said = Placeholders(PLACEHOLDERS.key, "s").of("LITERAL", literal)
    now = f"to {mail}, {upper}"
    assert body("call:1", "s") == {"a": [now, 1.5, None], now: {"b": f"say {said} <B>"}}
    assert body("call:2", "s") == {"a": [now, 1.5, None], now: {"b": now}}


# -- two values with one token ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "others", [[("EMAIL_ADDRESS", "bob@x.com")], [("A", "bob")], [("EMAIL_ADDRESS", "ADA@x.com"), ("A", "bob")]]
)
def test_two_values_with_one_token_are_refused_and_named_nowhere(
    monkeypatch: pytest.MonkeyPatch, others: list[tuple[str, str]]
) -> None:
    monkeypatch.setattr(DerivedKey, "mac", lambda self, *parts: bytes(32))
    values = [("EMAIL_ADDRESS", MAIL), *others]
    with pytest.raises(PlaceholdersCollide) as refused:
        new_mask().mask([(value, find(value, value, entity)) for entity, value in values], CONFIG)
    assert refused.value.status == 500
    assert refused.value.headers["x-should-retry"] == "false"
    assert not any(value in str(refused.value.body("id")) for _, value in values)


def test_one_value_with_one_token_is_none_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(DerivedKey, "mac", lambda self, *parts: bytes(32))
    text = f"{MAIL} {MAIL}"
    findings = [Finding("EMAIL_ADDRESS", 0, len(MAIL), 1.0), Finding("EMAIL_ADDRESS", len(MAIL) + 1, len(text), 1.0)]
    assert mask_one(new_mask(), text, findings, CONFIG) == "<EMAIL_ADDRESS_00000000> <EMAIL_ADDRESS_00000000>"


# -- what a caller writes in their form -------------------------------------------------------------------------------

FORMS = [
    GIVEN,
    NAME,
    NAME.lower(),
    f"<{NAME}",
    f"&lt;{NAME}",
    f"\\u003c{NAME}\\u003e",
    f"\\\\u003C{NAME}\\\\u003E",
    f"&lt;{NAME}&gt;",
    f"&#60;{NAME}&#62;",
    f"&#x3c;{NAME}&#x3e;",
    f"%3C{NAME}%3E",
    f"\\<{NAME}\\>",
    f"\\<{NAME.replace('_', chr(92) + '_')}\\>",
    f"<{NAME.replace('_', chr(92) * 2 + '_')}>",
    f"{chr(92) * 4}u003c{NAME.replace('_', chr(92) * 4 + '_')}{chr(92) * 4}u003e",
]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("around", ["{}", "say {}."])
def test_what_a_caller_writes_as_a_placeholder_of_the_call_comes_back_as_written(
    form: str, first: bool, around: str
) -> None:
    mask = new_mask()
    text = around.format(form)
    parts = [(MAIL, find(MAIL, MAIL)), (text, [])]
    hidden = mask.mask(parts if first else parts[::-1], CONFIG)
    said, mail = (hidden[1], hidden[0]) if first else hidden
    assert mail == GIVEN
    assert re.fullmatch(around.format(r"<LITERAL_\w{8,10}>"), said)
    assert mask.unmask(said) == text
    assert fed(mask, said, list(range(len(said)))) == text


@pytest.mark.parametrize(("written", "value"), [(f"<{NAME}", ">secret"), (NAME, "secret"), (NAME, MAIL)])
def test_what_is_found_right_behind_a_callers_placeholder_is_hidden_whole(written: str, value: str) -> None:
    mask = new_mask()
    text = written + value
    hidden = mask.mask([(MAIL, find(MAIL, MAIL)), (text, find(text, value, "A"))], CONFIG)[1]
    assert hidden == PLACEHOLDERS.of("LITERAL", written) + PLACEHOLDERS.of("A", value)
    assert mask.unmask(hidden) == text


def test_what_a_caller_writes_before_a_placeholder_that_it_went_on_in_comes_back_too() -> None:
    mask = new_mask()
    name = PLACEHOLDERS.name("EMAIL_ADDRESS", "ada@example.com").lower()
    text = f"ada@example.com {name * 3}"
    (hidden,) = mask.mask([(text, [Finding("EMAIL_ADDRESS", 0, 15, 1.0)])], PiiConfig())
    assert mask.unmask(hidden) == text


def test_literals_of_literals_come_back_too_in_linear_work() -> None:
    """A caller who knows a scope's placeholders can write one, and that of its literal, and so on."""
    chain = [GIVEN]
    for _ in range(2_000):
        chain.append(PLACEHOLDERS.of("LITERAL", chain[-1]))
    text = " ".join(chain)
    mask = new_mask()
    mail, hidden = mask.mask([(MAIL, find(MAIL, MAIL)), (text, [])], CONFIG)
    assert mail == GIVEN
    assert mask.unmask(hidden) == text


def test_a_placeholder_that_the_call_does_not_give_out_stays_and_gets_nothing() -> None:
    mask = new_mask()
    other = PLACEHOLDERS.of("EMAIL_ADDRESS", "bob@example.com")
    text = f"keep {other}, hide {MAIL}"
    hidden = mask_one(mask, text, find(text, MAIL), CONFIG)
    assert hidden == f"keep {other}, hide {GIVEN}"
    assert mask.unmask(f"{other} {GIVEN}") == f"{other} {MAIL}"
    assert new_mask().mask([(GIVEN, [])], CONFIG) == [GIVEN]


def test_only_the_mode_mask_hides() -> None:
    assert mask_one(new_mask(), "seen", find("seen", "seen", "SEEN"), CONFIG) == "seen"


def test_what_is_redacted_has_the_placeholder_of_its_value_for_each_finding_that_is_masked() -> None:
    text = f"seen {MAIL}zz{MAIL.upper()}"
    findings = [*find(text, MAIL.upper()), *find(text, "zz", "A"), *find(text, MAIL), *find(text, "seen", "SEEN")]
    findings += find(text, "ada")  # inside another
    hidden = [PLACEHOLDERS.of("EMAIL_ADDRESS", MAIL.upper()), PLACEHOLDERS.of("A", "zz")]
    assert PLACEHOLDERS.redact(text, findings, CONFIG) == f"seen {GIVEN}{hidden[1]}{hidden[0]}"
    assert PLACEHOLDERS.redact(text, [], CONFIG) == text


def test_only_the_finding_changes() -> None:
    text = f'{{ "a":1.50,\t"to" : "{MAIL}" , "caf\\u00e9": [ ] }}'
    assert mask_one(new_mask(), text, find(text, MAIL), CONFIG) == text.replace(MAIL, GIVEN)


AROUND = ["{}", "to {}.", '"{}"', "'{}'", "({})", "**{}**", "_{}_", "\\n{}\\n", "\u5230{}\u3002", "x={}&y"]

# -- what models do to placeholders -----------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("around", AROUND)
def test_whatever_a_model_does_to_it_its_token_says_whose_it_is(form: str, around: str) -> None:
    said = around.format(form)
    assert KNOWING.unmask(said) == around.format(MAIL)
    for cut in range(len(said)):
        assert fed(KNOWING, said, [cut]) == around.format(MAIL)
    assert fed(KNOWING, said, list(range(len(said)))) == around.format(MAIL)


@pytest.mark.parametrize(
    "other",
    [
        TOKEN,
        f"<{TOKEN}>",
        f"<PERSON_{TOKEN}>",
        f"<ADDRESS_{TOKEN}>",
        f"<{NAME}X>",
        f"<{NAME}22>",
        f"{NAME}s",
        f"<{NAME[:-1]}>",
        "<EMAIL_ADDRESS>",
        "<EMAIL_ADDRESS_1>",
        PLACEHOLDERS.of("EMAIL_ADDRESS", "bob@example.com"),
        PLACEHOLDERS.of("EMAIL_ADDRESS", MAIL.upper()),
        f"EMAIL{TOKEN}",
        f"EMAIL ADDRESS{TOKEN}",
        NAME.replace("I", "\u0131").lower(),
        f"{A_NAME[1:]} A",
        f"<{NAME.replace('_', chr(92) * 5 + '_')}>",
    ],
)
def test_what_is_another_placeholder_or_none_is_not_turned_back(other: str) -> None:
    assert KNOWING.unmask(other) == other == fed(KNOWING, other, list(range(len(other))))
    assert list(KNOWING.found(other)) == []


def test_brackets_that_are_not_its_own_stay() -> None:
    assert KNOWING.unmask(f"<a href=mailto:{NAME}>") == f"<a href=mailto:{MAIL}>"
    assert KNOWING.unmask(f"<b>{NAME}</b>") == f"<b>{MAIL}</b>"
    assert KNOWING.unmask(f"<{GIVEN}>") == f"<{MAIL}>"
    assert KNOWING.unmask(f"C:\\{GIVEN}") == f"C:\\{MAIL}"


def test_two_that_touch_come_back_wherever_they_are_cut() -> None:
    for cut in range(2 * len(GIVEN)):
        assert fed(KNOWING, GIVEN * 2, [cut]) == MAIL * 2


def test_a_stream_is_held_back_only_while_a_placeholder_of_the_call_is_possible() -> None:
    mask = new_mask()
    mask_one(mask, MAIL, find(MAIL, MAIL), CONFIG)
    unmasker = mask.unmasker(inside_json=False)
    for passes in ("Ex", "<B", "<EMAIL_ADDRESS_X", f"<{NAME[:-1]};"):
        assert unmasker.push(passes) == passes
    assert unmasker.push(f"<{NAME};") == f"{MAIL};"
    assert unmasker.push("<B&") == "<B"
    assert unmasker.push(" if a <") == "& if a "
    assert unmasker.push(" b: <EMAIL") == "< b: "
    assert unmasker.push(f"_ADDRESS_{TOKEN}") == ""
    assert unmasker.push("> <" + "A" * 200) == f"{MAIL} <" + "A" * 200
    assert unmasker.push(" <PHONE_NUMBER") == " <PHONE_NUMBER"
    assert unmasker.push(f" <EMAIL_ADDRESS_{TOKEN[:4]}") == " "
    assert unmasker.push("x").lower() == f"<email_address_{TOKEN[:4]}x".lower()
    assert unmasker.push("th") == "th"
    assert unmasker.push("e") == ""
    assert unmasker.flush() == "e"


def test_a_mask_without_values_holds_nothing_back() -> None:
    assert not new_mask()
    assert KNOWING
    assert new_mask().unmasker(inside_json=False).push("<EMAIL") == "<EMAIL"


def test_the_map_is_in_nothing_that_is_printed_or_stored() -> None:
    mask = new_mask()
    mask_one(mask, MAIL, find(MAIL, MAIL), CONFIG)
    assert MAIL not in f"{mask!r} {mask} {mask.unmasker(inside_json=False)!r} {PLACEHOLDERS!r}"
    assert mask.originals == {GIVEN: MAIL}
    with pytest.raises(TypeError):
        pickle.dumps(mask)


# --- the conversation that a call continues


def test_values_of_earlier_turns_keep_their_names_and_come_back() -> None:
    first = new_mask()
    said = mask_one(first, f"I am {MAIL}", find(f"I am {MAIL}", MAIL))
    later = Mask(PLACEHOLDERS, earlier=first.values)
    assert later.unmask(said) == f"I am {MAIL}"
    assert mask_one(later, MAIL, find(MAIL, MAIL)) == said.removeprefix("I am ")
    call = Mask(Placeholders(PLACEHOLDERS.key, "call:2"), earlier=first.values)
    assert mask_one(call, MAIL, find(MAIL, MAIL)) == said.removeprefix("I am ")  # of the conversation, too


def test_two_values_of_earlier_turns_with_one_token_are_refused() -> None:
    with pytest.raises(PlaceholdersCollide):
        Mask(PLACEHOLDERS, earlier={"EMAIL_ADDRESS_00000000": "a@example.com", "PHONE_NUMBER_00000000": "1"})
