"""A placeholder comes back in each form that a model may give it, and only where it is one of this call."""

from __future__ import annotations

import json
from itertools import pairwise
from urllib.parse import quote

import pytest
from gatehouse.guards.findings import Finding
from gatehouse.guards.pii.config import Mode, PiiConfig
from gatehouse.guards.pii.masking import Mask
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.masking import PLACEHOLDERS, new_mask

# Values of several kinds, one with what JSON escapes, one in another spelling, and names of one to three words.
VALUES = [
    ("EMAIL_ADDRESS", "ada@example.com"),
    ("EMAIL_ADDRESS", "Ada@Example.com"),
    ("PERSON", "Ana\u00efs"),
    ("US_DRIVER_LICENSE", "D1234"),
    ("SECRET", 'p"a\\s\n'),
]
CONFIG = PiiConfig(entities={entity: Mode.MASK for entity, _ in VALUES})
NOBODY = PLACEHOLDERS.name("EMAIL_ADDRESS", "bob@example.com")


def knowing() -> Mask:
    mask = new_mask()
    mask.mask([(value, [Finding(entity, 0, len(value), 1.0)]) for entity, value in VALUES], CONFIG)
    return mask


KNOWING = knowing()
MAIL = VALUES[0][1]
NAME = PLACEHOLDERS.name(*VALUES[0])
TOKEN = NAME[-8:]


def fed(mask: Mask, text: str, cuts: list[int], *, inside_json: bool = False) -> str:
    unmasker = mask.unmasker(inside_json=inside_json)
    edges = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    return "".join(unmasker.push(text[a:b]) for a, b in pairwise(edges)) + unmasker.flush()


def everywhere(text: str) -> set[str]:
    """Return what becomes of a text as a whole, and of a stream cut at each place, at all places, and nowhere."""
    whole = {KNOWING.unmask(text), fed(KNOWING, text, []), fed(KNOWING, text, list(range(len(text))))}
    return whole | {fed(KNOWING, text, [cut]) for cut in range(len(text))}


PLAIN = {
    "bold inside": f"<**{NAME}**>",
    "italics inside": f"<*{NAME}*>",
    "underlined inside": f"<__{NAME}__>",
    "code inside": f"<`{NAME}`>",
    "escaped bold inside": f"<\\*\\*{NAME}\\*\\*>",
    "bold in HTML inside": f"&lt;<strong>{NAME}</strong>&gt;",
    "square": f"[{NAME}]",
    "square, escaped": f"\\[{NAME}\\]",
    "curly": f"{{{NAME}}}",
    "lenticular": f"\u3010{NAME}\u3011",
    "guillemets": f"\u00ab{NAME}\u00bb",
    "guillemets with their blanks": f"\u00ab\u00a0{NAME}\u00a0\u00bb",
    "full width": f"\uff1c{NAME}\uff1e",
    "Chinese": f"\u3008{NAME}\u3009",
    "mathematical": f"\u27e8{NAME}\u27e9",
    "HTML": f"&lt;{NAME}&gt;",
    "HTML in HTML": f"&amp;lt;{NAME}&amp;gt;",
    "JSON": f"\\u003c{NAME}\\u003e",
    "a language's": f"\\x3C{NAME}\\x3E",
    "URL": quote(f"<{NAME}>"),
    "all of a URL": f"%3C{NAME.replace('_', '%5F')}%3E",
    "blanks around": f"< {NAME} >",
    "a line break around": f"<\n{NAME}\n>",
    "blanks for underscores": NAME.replace("_", " "),
    "blanks in brackets": f"< {NAME.replace('_', ' ')} >",
    "blanks beside underscores": NAME.replace("_", " _"),
    "blanks of both sides": NAME.replace("_", " _ "),
    "blanks that do not break": NAME.replace("_", "\u00a0"),
    "narrow blanks": NAME.replace("_", "\u202f"),
    "blanks of HTML": NAME.replace("_", "&nbsp;"),
    "blanks of a URL": quote(f"<{NAME}>".replace("_", " ")),
    "a break for an underscore": NAME.replace("_", "\n"),
    "a break of Windows": NAME.replace("_", "_\r\n"),
    "a break with an indent": NAME.replace("_", "_\n    "),
    "a break in JSON": NAME.replace("_", "_\\n"),
    "a break for an underscore in JSON": NAME.replace("_", "\\n"),
    "a tab in JSON": NAME.replace("_", "\\t"),
    "a blank of JSON": NAME.replace("_", "\\u00a0"),
    "an underscore of JSON": NAME.replace("_", "\\u005f"),
    "hyphens": NAME.replace("_", "-"),
    "hyphens that do not break": NAME.replace("_", "\u2011"),
    "dashes": NAME.replace("_", "\u2013"),
    "escaped underscores": NAME.replace("_", "\\_"),
    "escaped in JSON": f"\\\\<{NAME.replace('_', chr(92) * 2 + '_')}\\\\>",
    "bold between": NAME.replace("_", "**_**"),
    "a token in bold": f"{NAME[:-8]}**{TOKEN}",
    "lower case": f"<{NAME.lower()}>",
    "mixed case": f"<{NAME.title()}>",
    "lower case with hyphens": f"[{NAME.lower().replace('_', '-')}]",
    "a soft hyphen": NAME.replace("_", "_\u00ad"),
    "a full-width underscore": NAME.replace("_", "\uff3f"),
}


@pytest.mark.parametrize("form", PLAIN.values(), ids=PLAIN)
@pytest.mark.parametrize(
    "around", ["{}", "to {}.", '"{}"', "'{}'", "({})", "**{}**", "`{}`", "\u5230{}\u3002", "to {}\n"]
)
def test_each_form_comes_back_as_its_value_wherever_a_stream_is_cut(form: str, around: str) -> None:
    assert everywhere(around.format(form)) == {around.format(MAIL)}


KEPT = {
    "parentheses": (f"({NAME})", f"({MAIL})"),
    "bold around": (f"**<{NAME}>**", f"**{MAIL}**"),
    "bold around the bare name": (f"**{NAME}**", f"**{MAIL}**"),
    "code around": (f"`<{NAME}>`", f"`{MAIL}`"),
    "a link": (f"[{NAME}](mailto:{NAME})", f"[{MAIL}](mailto:{MAIL})"),
    "a reference": (f"[{NAME}][1]", f"[{MAIL}][1]"),
    "a list": (f"[{NAME}, {NAME}]", f"[{MAIL}, {MAIL}]"),
    "brackets around brackets": (f"[<{NAME}>]", f"[{MAIL}]"),
    "two braces": (f"{{{{{NAME}}}}}", f"{{{MAIL}}}"),
    "an element": (f"<b>{NAME}</b>", f"<b>{MAIL}</b>"),
    "an attribute": (f"<a href=mailto:{NAME}>", f"<a href=mailto:{MAIL}>"),
    "another bracket at the end": (f"[{NAME}>", f"[{MAIL}>"),
    "an opening that is not closed": (f"[{NAME} x", f"[{MAIL} x"),
    "slashes on one side": (f"[{NAME}\\]", f"[{MAIL}\\]"),
    "a comparison": (f"a < {NAME}", f"a < {MAIL}"),
    "a sentence": (f"{NAME} - and so on", f"{MAIL} - and so on"),
    "the end of a line": (f"{NAME}  \n", f"{MAIL}  \n"),
    "a letter that becomes two": (f"\u0130 <{NAME}> \u0130", f"\u0130 {MAIL} \u0130"),
    "a path": (f"/home/{NAME}/x", f"/home/{MAIL}/x"),
}


@pytest.mark.parametrize(("text", "restored"), KEPT.values(), ids=KEPT)
def test_what_stands_around_and_is_not_its_own_stays(text: str, restored: str) -> None:
    assert everywhere(text) == {restored}


@pytest.mark.parametrize(
    "text",
    [
        f"EMAIL ADDRESS {NOBODY[-8:]}",
        f"< {NOBODY} >",
        f"<**{NOBODY}**>",
        f"EMAIL ADDRESS: {TOKEN}",
        f"EMAIL, ADDRESS {TOKEN}",
        f"EMAIL / ADDRESS {TOKEN}",
        f"EMAIL ADDRESS {TOKEN}S",
        f"EMAIL ADDRESS {TOKEN[:4]} {TOKEN[4:]}",
        f"EMAIL ADDRESS\n\n\n\n\n\n\n{TOKEN}",
        f"PERSON {TOKEN}",
        f"person_{TOKEN}",
        f"[{TOKEN}]",
        f"E-MAIL ADDRESS {TOKEN}",
        f"US_LICENSE_{PLACEHOLDERS.name('US_DRIVER_LICENSE', 'D1234')[-8:]}",
        "EMAIL ADDRESS STANDARD",
        "Your email address [see above] is <unknown>, and %3C is not &lt; the { secret }.",
    ],
)
def test_ordinary_text_and_what_the_call_did_not_send_stay(text: str) -> None:
    assert everywhere(text) == {text}


# -- any text, any form, any cut --------------------------------------------------------------------------------------

JOINS = st.sampled_from(
    [
        "_",
        "_",
        " ",
        "  ",
        " _",
        "_ ",
        "-",
        "\u2011",
        "\u00a0",
        "\n",
        "_\n",
        "\n  ",
        "\\_",
        "\\\\_",
        "\\n",
        "&nbsp;",
        "**_**",
        "%20",
        "\\u00a0",
    ]
)
AROUND = [
    *(("", ""),) * 3,
    *zip("<[{\u00ab\uff1c\u3010\u27e8", ">]}\u00bb\uff1e\u3011\u27e9", strict=True),
    ("&lt;", "&gt;"),
    ("&LT;", "&GT;"),
    ("\\u003c", "\\u003e"),
    ("\\\\u003C", "\\\\u003E"),
    ("%3C", "%3E"),
    ("\\<", "\\>"),
    ("\\[", "\\]"),
    ("&#60;", "&#62;"),
]
FILLS = st.sampled_from(["", "", "", " ", "**", "*", "`", "__", " **", "\u00a0", "\n", "\\n"])
CASES = st.sampled_from([str, str.lower, str.upper, str.title, str.swapcase])
WORDS = st.sampled_from(
    [
        *(
            "see ",
            "the email address ",
            "person ",
            ", ",
            ". ",
            "(",
            ")",
            '"',
            "\n",
            "= ",
            "caf\u00e9 ",
            "\u5230",
            "**",
            "1_2",
            "E",
            "e",
        ),
        *(
            "<",
            ">",
            "[",
            "]",
            "{",
            "}",
            "\\",
            "_",
            "-",
            "*",
            "&",
            "&lt",
            "%3",
            "\\u003",
            "&nbsp;",
            "us driver",
            TOKEN,
            f"<{NOBODY}>",
            "a < b > c",
        ),
    ]
)


@st.composite
def written(draw: st.DrawFn) -> tuple[str, str]:
    """Draw a placeholder in some form, and its value. What stands beside it cannot be taken for a part of it."""
    entity, value = draw(st.sampled_from(VALUES))
    *words, token = PLACEHOLDERS.name(entity, value).split("_")
    name = words[0] + "".join(draw(JOINS) + each for each in [*words[1:], token])
    opening, closing = draw(st.sampled_from(AROUND))
    fill = draw(FILLS) if opening else ""
    cased = draw(CASES)
    if any(each in name for each in ("\\n", "\\u", "&nbsp;", "%20")):
        cased = draw(st.sampled_from([str, str.lower]))
        name = name if cased is str else cased(name)
        return opening + fill + name + fill + closing, value
    return opening + fill + cased(name) + fill + closing, value


TEXTS = st.lists(st.one_of(WORDS, written().map(lambda each: each[0])), max_size=12).map("".join)


@settings(max_examples=200)
@given(
    st.lists(st.tuples(st.sampled_from([". Dear ", ", to: ", ";", "\u5230", "; so, ", "\r"]), written()), max_size=5),
    st.data(),
)
def test_what_was_masked_comes_back_from_any_form_in_any_text_wherever_it_is_cut(
    pieces: list[tuple[str, tuple[str, str]]], data: st.DataObject
) -> None:
    said = "".join(before + form for before, (form, _) in pieces) + "."
    meant = "".join(before + value for before, (_, value) in pieces) + "."
    cuts = data.draw(st.lists(st.integers(0, len(said)), max_size=30))
    assert KNOWING.unmask(said) == meant
    assert fed(KNOWING, said, cuts) == meant
    assert fed(KNOWING, said, list(range(len(said)))) == meant


@settings(max_examples=200)
@given(TEXTS, st.lists(st.integers(0, 400), max_size=30), st.booleans())
def test_a_stream_of_any_forms_comes_out_as_the_whole_text_does(text: str, cuts: list[int], json_: bool) -> None:
    whole = KNOWING.unmask_json(text) if json_ else KNOWING.unmask(text)
    assert fed(KNOWING, text, cuts, inside_json=json_) == whole
    assert fed(KNOWING, text, list(range(len(text))), inside_json=json_) == whole


@settings(max_examples=200)
@given(st.lists(TEXTS, max_size=3), st.data())
def test_what_a_caller_writes_in_any_form_comes_back_as_it_was_written(texts: list[str], data: st.DataObject) -> None:
    """The caller's own text may hold every form of the call's placeholders, beside the values and touching them."""
    parts: list[tuple[str, list[Finding]]] = [
        (value, [Finding(entity, 0, len(value), 1.0)]) for entity, value in VALUES
    ]
    for text in texts:
        cuts = sorted(data.draw(st.sets(st.integers(0, len(text)), max_size=4)))
        spans = list(zip(cuts[::2], cuts[1::2], strict=False))
        parts.append((text, [Finding("PERSON", start, end, 1.0) for start, end in spans]))
    mask = new_mask()
    for (text, _), hidden in zip(parts, mask.mask(parts, CONFIG), strict=True):
        cut = data.draw(st.lists(st.integers(0, len(hidden)), max_size=20))
        assert mask.unmask(hidden) == text
        assert fed(mask, hidden, cut) == text
        assert fed(mask, hidden, list(range(len(hidden)))) == text


@settings(max_examples=200)
@given(TEXTS, st.lists(st.integers(0, 400), max_size=30))
def test_nothing_is_put_back_that_the_call_did_not_send(text: str, cuts: list[int]) -> None:
    other = new_mask()
    other.mask([("carol@example.com", [Finding("EMAIL_ADDRESS", 0, 17, 1.0)])], CONFIG)
    assert other.unmask(text) == text == fed(other, text, cuts)


def test_the_arguments_of_a_tool_stay_json_in_any_form() -> None:
    for entity, value in VALUES:
        name = PLACEHOLDERS.name(entity, value)
        for form in (f"<{name}>", f"\u00ab{name}\u00bb", f"[{name.lower()}]", name.replace("_", " "), f"<**{name}**>"):
            for ascii_ in (True, False):
                arguments = json.dumps({"to": form}, ensure_ascii=ascii_)
                assert json.loads(KNOWING.unmask_json(arguments)) == {"to": value}
                every = fed(KNOWING, arguments, list(range(len(arguments))), inside_json=True)
                assert json.loads(every) == {"to": value}


def test_very_many_at_once_come_back_and_so_do_the_words_of_very_many_names_that_are_none() -> None:
    for text, restored in ((f"<{NAME}> " * 5_000, f"{MAIL} " * 5_000), (f"EMAIL ADDRESS {NOBODY} " * 5_000,) * 2):
        assert KNOWING.unmask(text) == fed(KNOWING, text, [70_000]) == restored


def test_a_stream_waits_only_while_a_placeholder_of_the_call_is_possible() -> None:
    unmasker = KNOWING.unmasker(inside_json=False)
    for passes in (
        "Yo",
        "ur email address to",
        " 12 persons: [x",
        "](y), {a: 1",
        "}, &lt;b",
        "> \u4e2d\u6587",
        "\u3010\u8bf4\u3011",
    ):
        assert unmasker.push(passes) == passes
    assert unmasker.push(" email address") == " "
    assert unmasker.push(" or") == "email address or"
    assert unmasker.push(f" [{NAME}") == " "
    assert unmasker.push("]") == ""
    assert unmasker.push(" ") == f"{MAIL} "
