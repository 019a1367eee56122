"""The engine finds personal data, resolves overlaps, and keeps its time limit on every text."""

from __future__ import annotations

import base64
import contextlib
from time import monotonic, process_time

import pytest
from gatehouse.core.errors import SetupError
from gatehouse.guards.deadline import Deadline
from gatehouse.guards.findings import ScanFailed
from gatehouse.guards.pii.config import KNOWN_ENTITIES, CustomPattern, CustomRecognizer, Mode, PiiConfig
from gatehouse.guards.pii.detectors import built_in
from gatehouse.guards.pii.engine import Engine
from hypothesis import given, settings
from hypothesis import strategies as st


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine(PiiConfig())


def found(engine: Engine, text: str) -> list[tuple[str, str]]:
    return [(each.entity, text[each.start : each.end]) for each in engine.scan(text)]


@pytest.mark.parametrize(
    ("entity", "value"),
    [
        ("EMAIL_ADDRESS", "jane.o'neil+tag@mail.example.co.uk"),
        ("EMAIL_ADDRESS", '"jane doe"@example.com'),
        ("EMAIL_ADDRESS", "jane@corp.internal"),
        ("EMAIL_ADDRESS", "jane%40example.com"),
        ("EMAIL_ADDRESS", "j\u00f6rg@m\u00fcller.de"),
        ("CREDIT_CARD", "4111 1111 1111 1111"),
        ("IBAN_CODE", "DE89 3704 0044 0532 0130 00"),
        ("IBAN_CODE", "gb29nwbk60161331926819"),
        ("IP_ADDRESS", "192.168.17.4"),
        ("PHONE_NUMBER", "+44 20 7946 0958"),
        ("PHONE_NUMBER", "(201) 555-0123"),
        ("US_SSN", "536-22-1234"),
        ("EMAIL_ADDRESS", "\uff4aane\u200b@ex\u00admple.com".replace("\u00ad", "\u00ada")),
        ("CREDIT_CARD", "4111\u200b1111\u20601111\u200b1111"),
        ("CREDIT_CARD", "\uff14111-1111-1111-1111"),
        ("EMAIL_ADDRESS", base64.b64encode(b"write to jane@example.com today").decode()),
        ("EMAIL_ADDRESS", base64.b64encode(base64.b64encode(b"write to jane@example.com today")).decode()),
        ("EMAIL_ADDRESS", base64.b64encode("write to jane@example.com".encode("utf-16-le")).decode()),
        ("EMAIL_ADDRESS", "x" + base64.b64encode(b"write to jane@example.com today").decode()),
    ],
)
def test_a_value_is_found_wherever_it_stands(engine: Engine, entity: str, value: str) -> None:
    assert found(engine, f"Note: {value} , thanks") == [(entity, value)]


PHONES = [
    "+44 20 7946 0958",
    "+44(0)20 7946 0958",
    "+12015550123",
    "+1 (201) 555-0123",
    "(201) 555-0123",
    "(201)555-0123x4567",
    "201-555-0123 ext. 12",
    "201.555.0123",
    "1-201-555-0123",
    "201-5550123",
    "244-681-6236",  # nobody's, and written as one
    "001-264-658-7319",
    "0049 30 901820",
    "020 7946 0958",
    "07911 123456",
    "98765 43210",
    "+91 98765 43210",
    "+49 30 901820",
    "+33 1 42 68 53 00",
    "+39 06 6982",
    "\u0660\u0662\u0660 \u0667\u0669\u0664\u0666 \u0660\u0669\u0665\u0668",
]


@pytest.mark.parametrize("number", PHONES)
@pytest.mark.parametrize("around", ["{}", "a {} b", "tel:{};", '"{}",12', "1. {} / 2", "<{}>", "{}.", "order 12 {} 3"])
def test_a_telephone_number_is_found_whole_however_it_is_written(engine: Engine, number: str, around: str) -> None:
    assert found(engine, around.format(number)) == [("PHONE_NUMBER", number)]


@pytest.mark.parametrize(
    "text",
    [
        "order 2015550123, epoch 1714521600, id 9876543210",
        "2024-05-01 10:30:00 01.02.2024 10:30 12/31/2024",
        "part 201-555-0123-4, abc-201-555-0123, 201-555-0123-abc",
        "8f14e45f-2015-5501-2345-67890abcdef0",
        "v10.20.3000.4567, 192.168.201.55, 0.2015550123, 51.507351",
        "1 2 3 4 5 6 7 8 9 10 11 12, 1,204,555,0123",
        "@@ -12,7 +1234,9 @@ 10:00:00+01001234567",
        "219-07-5251",
    ],
)
def test_what_only_resembles_a_telephone_number_is_left_alone(text: str) -> None:
    assert found(Engine(PiiConfig(entities={"PHONE_NUMBER": None})), text) == []


@pytest.mark.parametrize("words", ["call me: {}", '{{"customer_phone": "{}"}}', "mobile={}", "My number is {}"])
def test_digits_alone_are_a_telephone_number_beside_a_word_that_says_so(engine: Engine, words: str) -> None:
    for number in ("2015550123", "12015550123", "9876543210"):
        assert found(engine, words.format(number)) == [("PHONE_NUMBER", number)]


def test_each_language_has_its_countries_numbers() -> None:
    text = "030 901820, 91 123 456 789, 612 34 56 78"
    assert found(Engine(PiiConfig(languages=("de",))), text) == [("PHONE_NUMBER", "030 901820")]
    assert found(Engine(PiiConfig(languages=("es",))), text) == [("PHONE_NUMBER", "612 34 56 78")]


@pytest.mark.parametrize(
    "number",
    [
        "4111111111111111",
        "4111 1111 1111 1111",
        "4111-1111-1111-1111",
        "5555.5555.5555.4444",
        "2223003122003222",
        "378282246310005",
        "3782 822463 10005",
        "6011000990139424",
        "30569309025904",
        "3530111333300000",
        "6304000000000000",
        "4000000000000000006",
    ],
)
def test_cards_of_every_network_are_found(engine: Engine, number: str) -> None:
    assert found(engine, f"pay with {number}, please") == [("CREDIT_CARD", number)]


def test_a_number_that_is_no_card_is_left_alone(engine: Engine) -> None:
    assert found(engine, "4111111111111112 1714521600000 a4111111111111111 9999999999999995 0000000000000000") == []
    assert found(engine, "ms 4222222222222") == []
    assert found(engine, "old card 4222222222222") == [("CREDIT_CARD", "4222222222222")]


def test_a_scope_operator_and_a_version_are_no_addresses(engine: Engine) -> None:
    assert found(engine, "std::dead::beef a::b :: ::1 1.2.3.4.5 10.0.19045.4291") == []
    text = "::ffff:10.1.2.3 2a02:26f7::7 10.1.2.3."
    assert [value for _, value in found(engine, text)] == ["::ffff:10.1.2.3", "2a02:26f7::7", "10.1.2.3"]


def test_an_address_that_is_no_machines_own_is_none(engine: Engine) -> None:
    for text in (
        "127.0.0.1 127.8.8.8 0.0.0.0 ::1 ::",  # loopback, unspecified
        "169.254.169.254 fe80::1 224.0.0.251 ff02::fb",  # link-local, multicast
        "192.0.2.1 198.51.100.7 203.0.113.9 2001:db8::7",  # documentation
        "255.255.255.0 255.255.240.0 0.0.0.255 10.0.0.0/8 2a02:26f7::/32",  # masks and networks
        "v1.2.3.4 Chrome/120.0.6099.109 pkg==1.2.3.4 version 10.20.30.40 oid 1.3.6.1",
        "a[1::2] x[::3] 10::20 std::dead::beef",
    ):
        assert found(engine, text) == [], text
    assert found(engine, "host 10.20.30.40/8") == [("IP_ADDRESS", "10.20.30.40/8")]


def test_ordinary_text_has_no_findings(engine: Engine) -> None:
    text = "def main(): return 12.5 / 3  # see RFC 5321, 2024-05-01, v1.2.3, npm@latest, order 20031, " + "deadbeef" * 8
    assert found(engine, text) == []


def test_a_date_never_wins_over_a_telephone_number() -> None:
    engine = Engine(PiiConfig(entities={"DATE_TIME": None, "PHONE_NUMBER": None}))
    text = "call 201-555-0123 or 05-11-2024"
    assert found(engine, text) == [("PHONE_NUMBER", "201-555-0123"), ("DATE_TIME", "05-11-2024")]
    own = CustomRecognizer("PHONE_NUMBER", (CustomPattern(r"\d{2}-11", 0.4),))
    engine = Engine(PiiConfig(entities={"DATE_TIME": None, "PHONE_NUMBER": None}, recognizers=(own,)))
    assert found(engine, text)[-1] == ("PHONE_NUMBER", "05-11-2024")


def test_an_observed_link_does_not_cover_an_address_inside_it() -> None:
    engine = Engine(PiiConfig(entities={"URL": Mode.OBSERVE, "EMAIL_ADDRESS": Mode.MASK}))
    assert found(engine, "https://example.com/?to=jane@example.com") == [("EMAIL_ADDRESS", "jane@example.com")]


def test_overlapping_findings_leave_no_character_open_and_the_strictest_names_them() -> None:
    recognizers = (
        CustomRecognizer("LEFT", (CustomPattern("abcdef", 0.9),)),
        CustomRecognizer("RIGHT", (CustomPattern("efgh", 0.5),)),
    )
    engine = Engine(PiiConfig(entities={"RIGHT": Mode.BLOCK, "LEFT": Mode.MASK}, recognizers=recognizers))
    assert found(engine, "..abcdefgh..") == [("RIGHT", "abcdefgh")]


def test_context_deny_and_allow_lists_count() -> None:
    config = PiiConfig(
        entities={"EMAIL_ADDRESS": None},
        recognizers=(
            CustomRecognizer("STAFF_ID", (CustomPattern(r"\b[A-Z]\d{4}\b", 0.1),), context=("badge",)),
            CustomRecognizer("PROJECT", deny_list=("Blue Heron",)),
        ),
        allow_list=("Support@example.com",),
    )
    engine = Engine(config)
    assert found(engine, "part A1234, support@example.com") == []
    assert found(engine, "badge no. a1234") == [("STAFF_ID", "a1234")]
    assert found(engine, "the blue\u00a0heron and bLUe heron, blueheronry") == [
        ("PROJECT", "blue\u00a0heron"),
        ("PROJECT", "bLUe heron"),
    ]


@pytest.mark.parametrize("regex", ["(", "a*", "a" * 1001, "a{1,2000}"])
def test_a_pattern_out_of_bounds_is_refused_at_the_start(regex: str) -> None:
    with pytest.raises(SetupError):
        Engine(PiiConfig(recognizers=(CustomRecognizer("X", (CustomPattern(regex),)),)))


def test_an_unknown_entity_is_refused_at_the_start() -> None:
    with pytest.raises(SetupError, match="NO_SUCH"):
        Engine(PiiConfig(entities={"NO_SUCH": None}))


def test_a_pattern_that_runs_out_of_time_fails_the_scan() -> None:
    config = PiiConfig(timeout_s=0.2, recognizers=(CustomRecognizer("X", (CustomPattern("(a|a)+b"),)),))
    with pytest.raises(ScanFailed, match="timeout"):
        Engine(config).scan("a" * 5_000 + "c")


def test_a_text_over_the_limit_fails_the_scan() -> None:
    with pytest.raises(ScanFailed, match="too_long"):
        Engine(PiiConfig(max_chars=100)).scan("x" * 101)


@pytest.mark.parametrize("prefix", ["a-", "a.", "a.a@", "@a.", "1-", "é.", "::", "aA9", "\u200ba"])
def test_100_kb_before_an_address_neither_hide_it_nor_take_long(engine: Engine, prefix: str) -> None:
    text = prefix * (100_000 // len(prefix)) + " jane@example.com"
    begin = monotonic()
    with contextlib.suppress(ScanFailed):  # out of time: then the call is blocked
        assert any(each.entity == "EMAIL_ADDRESS" and each.end == len(text) for each in engine.scan(text))
    assert monotonic() - begin < 15


@pytest.mark.parametrize("entity", sorted(KNOWN_ENTITIES))
def test_no_pattern_blows_up_on_hostile_text(entity: str) -> None:
    detector = built_in(entity, tuple(sorted({*KNOWN_ENTITIES.values()})))
    assert detector is not None
    for unit in (
        "a.",
        "a-",
        "a@",
        "%40a.",
        "@a.",
        "1 ",
        "12-",
        "1.",
        "4111 ",
        "a:",
        "0:",
        "AA00 AAAA ",
        "12/12/",
        "é.",
        "255.",
        "A1",
        "+1",
        "(0",
        "+49 (0) 30 1 ",
        "001 ",
        "201-555-0123",
        "4111-1111-1111-1111-",
        "1x",
        "07 07 07 ",
        "+49 30 ",
        "00 49 30 ",
        "020 7946 ",
    ):
        text = (unit * 10_000)[:10_000] + "!"
        begin = process_time()
        list(detector.find(text, Deadline(monotonic() + 60)))
        assert process_time() - begin < 1, unit


@settings(max_examples=50)
@given(st.text(alphabet=st.sampled_from("ab1@.-: +4\u200bé\uff11/_="), max_size=200))
def test_findings_are_in_order_inside_the_text_and_apart(text: str) -> None:
    engine = Engine(
        PiiConfig(entities=dict.fromkeys(("URL", "DATE_TIME", "EMAIL_ADDRESS", "PHONE_NUMBER", "IP_ADDRESS")))
    )
    findings = engine.scan(text)
    assert findings == engine.scan(text)
    edges = [edge for each in findings for edge in (each.start, each.end)]
    assert edges == sorted(edges)
    assert all(0 <= each.start < each.end <= len(text) for each in findings)


@pytest.mark.parametrize(
    ("entity", "language", "text", "value"),
    [
        ("BR_CPF", "pt", "CPF 529.982.247-25.", "529.982.247-25"),
        ("BR_CPF", "pt", "meu cpf: 52998224725", "52998224725"),
        ("BR_CNPJ", "pt", "CNPJ 11.222.333/0001-81", "11.222.333/0001-81"),
        ("FR_NIR", "fr", "num\u00e9ro 1 84 12 76 451 089 46", "1 84 12 76 451 089 46"),
        ("NL_BSN", "nl", "BSN: 111222333", "111222333"),
        ("DE_TAX_ID", "de", "Steuer-ID 86095742719", "86095742719"),
        ("TR_NATIONAL_ID", "tr", "TC kimlik 10000000146", "10000000146"),
        ("CA_SIN", "en", "SIN 193 456 787", "193 456 787"),
        ("ZA_ID_NUMBER", "en", "ID number 8001015009087", "8001015009087"),
    ],
)
def test_a_national_identifier_is_found_by_its_check_digits(entity: str, language: str, text: str, value: str) -> None:
    engine = Engine(PiiConfig(entities={entity: None}, languages=(language,)))
    assert found(engine, text) == [(entity, value)]
    last = value[-1]
    other = text.replace(value, value[:-1] + str((int(last) + 1) % 10))
    assert found(engine, other) == []


@pytest.mark.parametrize("text", ["order 52998224725", "52998224725", "111222333"])
def test_digits_alone_are_no_national_identifier(text: str) -> None:
    engine = Engine(PiiConfig(entities={"BR_CPF": None, "NL_BSN": None}, languages=("pt", "nl")))
    assert found(engine, text) == []
