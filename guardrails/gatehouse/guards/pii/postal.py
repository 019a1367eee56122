"""Finds postal addresses by the forms of their countries: a street with its number, or a post box, and the town.

Each form has an anchor, which is cheap to find: a word for a street or a post box. Only around it are the number, the
name and the town looked for, in bounded windows.
"""

# The patterns are read as rows, and hold letters of other scripts.
# ruff: noqa: E501, RUF001

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from gatehouse.guards.deadline import Deadline
from gatehouse.guards.findings import Finding
from gatehouse.guards.pii.text_kind import TextKind, kind_of

_U, _L = "A-Z\u00c0-\u00de\u0100-\u017f", "A-Za-z\u00c0-\u024f"
_NAME = rf"[{_U}][{_L}'\u2019.-]{{1,24}}"
_SEP = r"(?:,[ \n]{1,3}| ?\n[ ]{0,8}| - | )"
_TOWN = rf"{_NAME}(?: (?:am|an|der|de|la|le|sur|di|del|do|da|dos|of|upon|ob|im|in|bei|{_NAME})){{0,3}}"
_NO_LETTER = rf"(?![{_L}])"

# -- English --------------------------------------------------------------------------------------------------------
_UNIT = r"(?:,? (?:Apt|Apartment|Suite|Ste|Unit|Flat|Floor|Fl|Room|Rm|#)\.? ?#?[0-9A-Za-z-]{1,6}(?![A-Za-z]))?"
# Codes of the United Kingdom, Canada, the United States, India and Australia.
_ENGLISH_CODE = (
    r"(?:[A-Z]{1,2}[0-9][A-Z0-9]? ?[0-9][A-Z]{2}|[A-Z][0-9][A-Z] ?[0-9][A-Z][0-9]|[0-9]{5}(?:-[0-9]{4})?|[0-9]{3} ?[0-9]{3}"
    r"|[0-9]{4})(?![0-9A-Za-z])"
)
_ENGLISH_TAIL = (
    rf"(?:(?:{_SEP}{_TOWN}){{0,3}}?{_SEP}(?:[A-Z]{{2,3}}{_SEP})?{_ENGLISH_CODE}"
    rf"|(?:,[ \n]{{1,3}}{_TOWN}){{1,2}}(?:, [A-Z]{{2,3}}(?![A-Za-z]))?)"
)
_SIDE = r"(?: (?:N|S|E|W|NE|NW|SE|SW|North|South|East|West)\.?(?![A-Za-z]))?"
_STREETS = re.compile(
    r"(?:Street|St|Avenue|Ave|Road|Rd|Lane|Ln|Drive|Dr|Boulevard|Blvd|Court|Ct|Place|Pl|Square|Sq|Terrace|Ter|Way|Parkway|"
    rf"Pkwy|Highway|Hwy|Circle|Cir|Crescent|Cres|Close|Gardens|Grove|Row|Mews|Walk|Hill|Quay|Alley|Trail|Loop){_NO_LETTER}"
)
_NUMBER_AND_NAME = re.compile(
    rf"(?<![0-9A-Za-z./,-])[0-9]{{1,5}}[A-Za-z]?(?:[-/][0-9]{{1,4}}[A-Za-z]?)?{_SIDE} "
    rf"(?:(?:{_NAME}|[0-9]{{1,3}}(?:st|nd|rd|th)|[NSEW]\.) ){{1,4}}\Z"
)
_AFTER_STREET = re.compile(rf"\.?{_SIDE}{_UNIT}(?:{_ENGLISH_TAIL}|(?! [{_U}]))")
_BOXES = re.compile(r"(?:P\.? ?O\.? ?Box|Post Office Box|Postfach|Apartado|Casella Postale|Boite Postale) [0-9]{1,6}")
_AFTER_BOX = re.compile(rf"(?:{_ENGLISH_TAIL}|{_SEP}[0-9]{{4,5}} {_TOWN})?")

# -- the continent --------------------------------------------------------------------------------------------------
_HOUSE = r",? ?(?:(?:n[o\u00ba\u00b0.]{0,2}|nr\.?|No[:.]) ?)?[0-9]{1,5}(?: ?[a-zA-Z](?![A-Za-z]))?(?:[/-][0-9]{1,4}[a-z]?)?(?![0-9A-Za-z])"
_CODE = (
    r"(?:[A-Z]{1,2}-)?(?:[0-9]{2}-[0-9]{3}|[0-9]{5}-[0-9]{3}|[0-9]{3} [0-9]{2}|[0-9]{4} ?[A-Z]{2}|[0-9]{4,5})(?![0-9])"
)
_TAIL = rf"(?:(?:{_SEP}{_TOWN}){{0,2}}?{_SEP}{_CODE}(?: {_TOWN})?)?"
_COMPOUNDS = re.compile(
    r"(?:strasse|stra\u00dfe|str\.|weg|allee|platz|gasse|ring|ufer|damm|chaussee|steig|pfad|graben|gracht|straat|laan|plein|kade|"
    r"dijk|singel|gatan|vagen|gata|vej|gade|veien|gaten|katu|kuja|polku|tie|stien)(?=,? ?[0-9n])"
)
_COMPOUND_BEFORE = re.compile(rf"(?<![\w-])(?:[{_U}][{_L}.-]{{1,30}} ){{0,3}}[{_U}][{_L}-]{{0,30}}\Z")
_AFTER_HOUSE = re.compile(_HOUSE + _TAIL)
_PREFIXES = re.compile(
    r"(?:[Cc]alle|C/|[Aa]venida|[Aa]vda\.?|[Aa]v\.|[Pp]laza|[Pp]aseo|[Cc]arrer|[Cc]amino|[Vv]ia|[Vv]iale|[Pp]iazza|[Cc]orso|"
    r"[Ll]argo|[Vv]icolo|[Rr]ua|R\.|[Tt]ravessa|[Pp]raca|[Aa]lameda|[Ee]strada|ul\.|ulica|al\.|pl\.|os\.|Am|An der|An den|"
    r"Auf der|Im|In der|Zum|Zur|Unter den) "
)
_AFTER_PREFIX = re.compile(
    rf"(?:(?:de|del|della|dei|di|da|do|das|dos|la|las|los|el|y|e|{_NAME}|[0-9]{{1,2}}) ){{0,4}}{_NAME}{_HOUSE}{_TAIL}"
)
_RUES = re.compile(
    r"(?:[Rr]ue|[Aa]venue|av\.|[Bb]oulevard|bd|[Pp]lace|impasse|allee|[Cc]hemin|[Qq]uai|[Rr]oute|[Cc]ours|square|passage) "
)
_NUMBER_BEFORE = re.compile(r"(?<![0-9A-Za-z./,-])[0-9]{1,4}(?: ?(?:bis|ter))?,? \Z")
_AFTER_RUE = re.compile(
    rf"(?:d'|l')?[{_L}'\u2019-]{{2,25}}(?: (?:d'|l'|[{_L}'\u2019-]{{2,25}})){{0,5}}?(?:{_SEP}[0-9]{{5}} {_TOWN}|(?=[.,;\n)]|\Z))"
)
# A street that has no word for one, shown by the code and the town behind it.
_CODES = re.compile(rf"[0-9]{{1,4}} ?[a-z]?, {_CODE} {_TOWN}")
_NAMES_BEFORE = re.compile(rf"(?<![\w-])(?:{_NAME} ){{1,4}}\Z")
_TURKISH = re.compile(r"(?:Mah\.?|Mahallesi|Cad\.?|Caddesi|Sok\.?|Sokak|Sokagi|Sk\.|Bulvari)(?=[ ,])")
_AFTER_TURKISH = re.compile(
    rf"(?:,? (?:{_NAME} ){{0,3}}(?:Cad\.?|Caddesi|Sok\.?|Sokak|Sokagi|Sk\.))?,? ?No ?[:.]? ?[0-9]{{1,4}}(?:[/-][0-9A-Z]{{1,4}})?"
    rf"(?:,? ?(?:[0-9]{{5}} )?{_NAME}(?:/{_NAME})?)?"
)

# -- other scripts --------------------------------------------------------------------------------------------------
_HAN = "\u4e00-\u9fff"
_JAPANESE = re.compile(r"[\u90fd\u9053\u5e9c\u770c]")
_JAPANESE_BEFORE = re.compile(rf"(?:\u3012? ?[0-9]{{3}}-?[0-9]{{4}} ?)?(?:東京|北海|京都|大阪|[{_HAN}]{{2,3}})\Z")
_AFTER_JAPANESE = re.compile(
    rf"[{_HAN}\u3041-\u30ff\u30fc]{{1,24}}?[0-9一二三四五六七八九十]{{1,3}}(?:(?:丁目|番地?|号|-|の)[0-9]{{0,4}}){{1,4}}"
)
_CHINESE = re.compile(r"(?:路|街|道|巷|胡同|弄)[0-9]{1,5}(?:号|號|弄)")
_CHINESE_BEFORE = re.compile(
    rf"(?:[{_HAN}]{{2,3}}(?:省|自治区))?(?:[{_HAN}]{{2,3}}市|[{_HAN}]{{2,3}}区)[{_HAN}]{{1,16}}\Z"
)
_AFTER_CHINESE = re.compile(rf"(?:[0-9A-Za-z{_HAN}]{{0,10}}?(?:室|楼|单元|栋|層|层)){{0,3}}")
_KOREAN = re.compile(
    "(?:서울|부산|대구|인천|광주|대전|울산|세종|경기|강원|충북|충남|전북|전남|경북|경남|제주|충청|전라|경상)[가-힣]{0,6} "
)
_AFTER_KOREAN = re.compile(
    "(?:[가-힣]{1,6}(?:시|군|구) ){1,2}(?:[가-힣]{1,6}(?:읍|면|동) )?[가-힣0-9]{1,12}?(?:로|길|동)(?: ?[0-9]{1,3}(?:번)?길)?"
    " ?[0-9]{1,4}(?:-[0-9]{1,4})?"
)
_RUSSIAN = re.compile(
    r"(?:(?:г\.|город) ?[А-Я][а-я-]{2,20}, )?(?:ул\.|улица|пр\.|пр-т|проспект|пер\.|переулок|наб\.|бул\.) ?(?=[А-Я0-9])"
)
_AFTER_RUSSIAN = re.compile(
    r"[А-Я0-9][\w -]{1,30}, ?(?:д(?:ом|\.) ?)?[0-9]{1,4}[а-я]?(?:, ?(?:к(?:орп)?\.) ?[0-9]{1,3})?(?:, ?кв\. ?[0-9]{1,4})?"
)


@dataclass(frozen=True, slots=True)
class _Form:
    """Hold a form of address.

    Attributes:
        anchor: what is looked for.
        before: what must stand right before it; None for nothing.
        after: what must stand right behind it.
        whole: whether a letter before the anchor forbids it.
    """

    anchor: re.Pattern[str]
    before: re.Pattern[str] | None
    after: re.Pattern[str]
    whole: bool = True


_ANYTHING = re.compile("")
# The anchors that are whole words are looked for together; of those that share a word, each form is tried.
_WORDS = re.compile(
    f"(?P<street>{_STREETS.pattern})|(?P<box>{_BOXES.pattern})|(?P<rue>{_RUES.pattern})|(?P<prefix>{_PREFIXES.pattern})"
    f"|(?P<turkish>{_TURKISH.pattern})"
)
_FRENCH_TOO = frozenset(("Avenue", "Boulevard", "Place", "Square"))
_RUE = _Form(_RUES, _NUMBER_BEFORE, _AFTER_RUE)
_OF_WORDS = {
    "street": (_Form(_STREETS, _NUMBER_AND_NAME, _AFTER_STREET), _RUE),
    "box": (_Form(_BOXES, None, _AFTER_BOX),),
    "rue": (_RUE,),
    "prefix": (_Form(_PREFIXES, None, _AFTER_PREFIX),),
    "turkish": (_Form(_TURKISH, _NAMES_BEFORE, _AFTER_TURKISH),),
}
_LATIN = (_Form(_COMPOUNDS, _COMPOUND_BEFORE, _AFTER_HOUSE, whole=False), _Form(_CODES, _NAMES_BEFORE, _ANYTHING))
_OTHER = (
    (re.compile(f"[{_HAN}]"), _Form(_JAPANESE, _JAPANESE_BEFORE, _AFTER_JAPANESE, whole=False)),
    (re.compile(f"[{_HAN}]"), _Form(_CHINESE, _CHINESE_BEFORE, _AFTER_CHINESE, whole=False)),
    (re.compile("[가-힣]"), _Form(_KOREAN, None, _AFTER_KOREAN, whole=False)),
    (re.compile("[А-Яа-я]"), _Form(_RUSSIAN, None, _AFTER_RUSSIAN, whole=False)),
)
_DIGITS = re.compile("[0-9]+")
_SCORE, _WINDOW, _NEAR = 0.6, 80, 50
_NO_ADDRESSES = frozenset((TextKind.CODE, TextKind.DIFF, TextKind.LOG, TextKind.LOCK_FILE))


def addresses(text: str, deadline: Deadline) -> Iterator[Finding]:
    """Yield the postal addresses in the text."""
    if _DIGITS.search(text) is None or kind_of(text) in _NO_ADDRESSES:
        return
    regions = list(_regions(text))
    forms = _LATIN if text.isascii() else (*_LATIN, *(form for script, form in _OTHER if script.search(text)))
    for first, last in regions:
        deadline.left()
        for start, end in _places(text, first, last, forms):
            yield Finding("ADDRESS", start, end, _SCORE, ("form",))


def _regions(text: str) -> Iterator[tuple[int, int]]:
    """Yield the parts of a text that have digits near: no address is without."""
    first = last = -1
    for match in _DIGITS.finditer(text):
        if first < 0 or match.start() > last:
            if first >= 0:
                yield first, last
            first = max(0, last, match.start() - _NEAR)
        last = min(len(text), match.end() + _NEAR)
    if first >= 0:
        yield first, last


def _places(text: str, first: int, last: int, forms: Iterable[_Form]) -> Iterator[tuple[int, int]]:
    for match in _WORDS.finditer(text, first, last):
        for form in _OF_WORDS[match.lastgroup or ""]:
            if (place := _place(text, form, match)) is not None:
                yield place
                break
    for form in forms:
        for match in form.anchor.finditer(text, first, last):
            if (place := _place(text, form, match)) is not None:
                yield place


def _place(text: str, form: _Form, match: re.Match[str]) -> tuple[int, int] | None:
    start, end = match.span()
    if form is _RUE and text[end - 1] != " ":
        if match[0] not in _FRENCH_TOO:
            return None
        end += 1  # its blank
    if form.whole and start and text[start - 1].isalnum():
        return None
    after = form.after.match(text, end, end + 2 * _WINDOW)
    if after is None:
        return None
    if form.before is not None:
        before = form.before.search(text, max(0, start - _WINDOW), start)
        if before is None:
            return None
        start = before.start()
    written = text[start : after.end()]
    shown = written.rstrip(" ,.-\n")
    # The point of an abbreviation belongs to it.
    return start, start + len(shown) + (written[len(shown) :].startswith(".") and shown[-2:].islower())
