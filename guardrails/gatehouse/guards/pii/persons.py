"""Finds names of persons by lists and by what stands around them, without a language model.

A run of capitalised words is a name if it begins with a known first name, ends with a known last name, or stands beside
what only a name does: a title, "my name is", a greeting, a closing, an address in angle brackets. A word that is also a
name (Will, Mark, Grant) needs more. In programs, logs and data only labels and addresses count.
"""

# The patterns are read as rows, and hold letters of other scripts.
# ruff: noqa: E501, RUF001

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from gatehouse.guards.deadline import Deadline
from gatehouse.guards.findings import Finding
from gatehouse.guards.pii.labels import Labels
from gatehouse.guards.pii.text_kind import TextKind, kind_of

_UPPER, _LOWER = "A-Z\u00c0-\u00de\u0100-\u017f", "a-z\u00df-\u00ff\u0100-\u017f"
_PART = f"[{_UPPER}][{_LOWER}]{{1,24}}"
# Bounded, as all patterns here: the time is linear. The check of what may not precede a word comes after its first letter,
# because `re` is fastest where a pattern begins with a set.
_TOKEN = re.compile(
    rf"[{_UPPER}](?<![A-Za-z0-9_@/#$\\-].)(?<![^A-Z]\..)(?:\.(?=[ A-Z])|(?:['\u2019][{_UPPER}])?[{_LOWER}]{{1,24}}"
    rf"(?:(?:(?<=Mc)|(?<=Mac)|(?<=De)|(?<=Di)|(?<=La)|(?<=Le)|(?<=Van)|(?<=Fitz)){_PART})?"
    rf"(?:[-'\u2019]{_PART}){{0,2}}(?![\w@]|['\u2019][A-Z]))"
)
_BETWEEN = re.compile(
    r" (?:(?:van der|van den|van de|von der|de la|de los|del|van|von|der|den|de|da|di|della|dos|das|du|le|la|bin|ibn|al|el"
    r"|ten|ter|zu|af|y|e) )?"
)
_PARTICLE_BEFORE = re.compile(r"(?<![\w-])(?:van der|van den|van de|von der|de la|van|von|de|da|di|del|la|le|al|el) \Z")
_MOST_WORDS = 4

_TITLES = frozenset(
    """
    mr mrs ms miss mx dr prof professor sir dame lord lady madam rev capt captain col sgt lt judge nurse officer detective
    senator governor uncle aunt herr herrn frau fraulein dhr mevr mevrouw meneer monsieur madame mademoiselle mme mlle maitre
    senor senora senorita senhor senhora sayin sayın sr sra don dona signor signora signorina sig dott dottor dottoressa pan pani bay shri smt hr fru
    """.split()
)
_TITLE_BEFORE = re.compile(rf"(?i)(?<![\w])(?:{'|'.join(sorted(_TITLES))}|sig\.ra|dott\.ssa|m)\.? \Z")
_LETTERS = str.maketrans(
    {"\u00f8": "o", "\u0142": "l", "\u00e6": "ae", "\u00df": "ss", "\u0111": "d", "\u0131": "i", "\u0153": "oe"}
)
# What introduces somebody: nearly any capitalised word behind it is a name.
_INTRODUCED = re.compile(
    r"(?i)(?:(?<![\w])(?:my name is|name is|name's|names? ?[:=]|named|i am|i'm|this is|je m'appelle|mijn naam is|ik ben|me llamo|"
    r"mi nombre es|soy|ich hei(?:ss|\u00df)e|mein name ist|ich bin|mi chiamo|sono|meu nome e|chamo-me|eu sou|jag heter|"
    r"jeg heter|nazywam sie|mam na imie|jmenuji se|nimeni on|adim|benim adim|nomine|on behalf of|attn|attention|c/o|cc|"
    r"signed by|signed|written by|author|by|patient|employee|customer|client|plaintiff|defendant|holder|beneficiary|"
    r"recipient|caller|reporter|assignee|contact|contact person|account holder|kontoinhaber(?:in)?|titular|titulaire|"
    r"intestato a|intestatario|tilin omistaja|wlasciciel|kontohavare|hesap sahibi|ten name van|rekeninghouder|according to|"
    r"spoke with|speak with|spoke to|speak to|talked to|talk to|ask for|asked for|meeting with|met with|lunch with|call with|"
    r"approved by|reviewed by|assigned to|reported by)"
    r"[\"']?(?: is| was)?[:,=]?[ \t]{1,3}[\"']?)\Z"
)
_GREETED = re.compile(
    r"(?i)(?<![\w])(?:dear|hi|hello|hey|good morning|good afternoon|good evening|bonjour|salut|hallo|hola|ciao|ola|hej|hei|moi|sayin|say\u0131n|szanown[ya]|prezad[oa]|"
    r"lieber|liebe|liebste|beste|geachte|estimad[oa]|querid[oa]|cara|caro|cher|chere|kara|kare|drogi|droga|thanks|"
    r"thank you|thx|cheers|congratulations|sorry|welcome|merci|danke|gracias|grazie|obrigad[oa]|bedankt),? \Z"
)
_CLOSED = re.compile(
    r"(?i)(?:regards|sincerely|best|best wishes|wishes|cheers|thanks|thank you|yours|truly|faithfully|cordially|respectfully|love|"
    r"gru(?:ss|\u00df)e?n?|gr\u00fc\u00dfe|cordialement|bien a vous|saludos|atentamente|saluti|cordiali saluti|groeten|groet|"
    r"pozdrawiam|z powazaniem|med venlig hilsen|med vanliga halsningar|ystavallisin terveisin|mvh|halsningar|hilsen|terveisin|saygilarimla|atenciosamente|abracos)[,.!]?\s{0,2}\n\s{0,12}[-\u2013]{0,2} ?\Z"
)
_LABELLED = re.compile(
    r"(?i)(?:(?:(?P<part>first|last|given|family|middle|sur|maiden|nick|for|vor|nach)[_ -]?name|prenom|nachname|vorname|apellidos?|"
    r"nombre|cognome|nome|imie|nazwisko)|(?:full|customer|contact|user|display|account|holder|card[_ -]?holder|patient|"
    r"employee|owner|client|member|student|sender|recipient|billing|shipping|real)[_ -]?(?:full[_ -]?)?names?|author|assignee|"
    r"reporter|reviewer|cardholder|signed-off-by|co-authored-by|reviewed-by|acked-by|tested-by|reported-by|name|from|to|cc)"
    r"[\"']?\s?[:=,]\s?[\"']?\Z"
)
_COLUMN = Labels(name=("name", "names", "customer", "author", "contact", "owner", "employee", "patient", "client"))
_ADDRESSED = re.compile(r" ?<[^<>@\s]{1,64}@|,? \([^()@\s]{1,64}@|['\"]?[,;\t|] ?['\"]?[^<>@\s,;|]{1,64}@")
_BORN = re.compile(
    r"(?i),? \(?(?:who was )?(?:born|geboren|nato|nata|nacid[oa]|nascid[oa]|nee?|syntynyt|f\u00f6dd|fodd|f\u00f8dt|ur\.|urodzon[ya]"
    r"|dogumlu)\b"
)
# What a person does, has or gets, beside a single first name.
_DOES = re.compile(
    r"['\u2019]s\b| (?:said|says|asked|asks|told|tells|wrote|writes|called|calls|will|would|has|had|is|was|wants?|wanted|needs?|"
    r"needed|works?|worked|lives?|lived|likes?|thinks?|thought|agreed|replied|sent|came|went|can|could|should|did|does|"
    r"mentioned|suggested|prefers|joined|left|and I|speaking|here|moved|married|born|knows?|feels?|felt|got|gave|made|took)\b"
)
_MET = re.compile(
    r"(?i)(?<![\w])(?:with|ask|asked|tell|told|call|called|met|meet|meeting|email|emailed|contact|contacted|said|let|thanks to|for|from|"
    r"to|and|by|is|text|ping|invite|invited|remind|saw|see|visit|help|give|gave|show|send|sent|than|brother|sister|mother|"
    r"father|mom|dad|wife|husband|son|daughter|friend|colleague|boss|manager|partner|neighbor|neighbour|cousin|girlfriend|"
    r"boyfriend|nephew|niece|mit|von|an|avec|con|met|para|och|og),? \Z"
)
# After these words a run is the name of a thing: a street, a company, a law.
_THINGS = frozenset(
    """
    inc ltd llc gmbh corp co company group bank university college school institute foundation hospital clinic center centre
    street road avenue lane drive boulevard square court park bridge river lake mount mountain island county city town
    airport station stadium theater theatre museum church award prize medal theorem law act method algorithm distribution
    test index model process equation transform filter tree sampling code series conference records press news times post
    journal magazine hotel restaurant cafe bar store stores shop airlines motors systems software technologies labs
    solutions services studios pictures entertainment games api sdk cli server client framework library project team release
    """.split()
)
# The last word before a name, and which words those may be: few are, so that few places need the patterns above.
_LAST_WORD = re.compile(r"([A-Za-z\u00df\u0131.']{1,24}|/o)[\"']?[:,=]?[ \t]{1,3}[\"']?\Z")
_GREETINGS = frozenset(
    """
    dear hi hello hey morning afternoon evening bonjour salut hallo hola ciao ola hej hei moi sayin sayın szanowny szanowna
    prezado prezada lieber liebe liebste beste geachte estimado estimada querido querida cara caro cher chere kara kare
    drogi droga thanks you thx cheers congratulations sorry welcome merci danke gracias grazie obrigado obrigada bedankt
    """.split()
)
_INTRODUCERS = frozenset(
    """
    is name's name names named am i'm m'appelle ben llamo es soy heisse heiße ist bin chiamo sono e chamo-me me sou heter sie
    imie se on adim nomine of attn attention o /o cc by signed author patient employee customer client plaintiff defendant
    holder beneficiary recipient caller reporter assignee contact person kontoinhaber kontoinhaberin titular titulaire a
    intestatario omistaja wlasciciel kontohavare sahibi van rekeninghouder to with for was
    """.split()
)
# Those are last names too.
_THINGS_AND_NAMES = frozenset("park lane court law church lake press post bridge".split())
_STREET_BEFORE = re.compile(r"[0-9][0-9A-Za-z]{0,3} \Z")
_NO_NAMES = frozenset(
    """
    new san los las santa saint st north south east west united great old upper lower lake fort port mount monday tuesday
    wednesday thursday friday saturday sunday january february march april june july august september october november
    december english german french spanish italian dutch chinese japanese russian american british european indian black
    white best regards visual web data machine deep open source silicon valley stack overflow red hat ok yes no hi hello
    dear sir madam team everyone everybody folks guys world there friend friends colleagues support sales hr it ladies
    gentlemen customer customers user users admin mom dad mum all both subscriber member members president chairman
    chancellor minister secretary street paseo calle avenida rua via viale piazza plaza place rue den praca travessa corso plac camino carrera the and kind thank thanks god christmas easter internet
    """.split()
)


# Elsewhere names stand only behind labels or before addresses.
_OF_PEOPLE = frozenset((TextKind.PROSE, TextKind.TABLE))
_HINTS = ("@", "ame", "uthor", "ssignee", "eporter", "By", "-by")


@cache
def _lists() -> dict[str, frozenset[str]]:
    text = files("gatehouse.guards.pii").joinpath("names.txt").read_text(encoding="utf-8")
    sections = re.findall(r"^\[(.+)\]\n((?:.+\n)+)", text, re.M)
    return {name: frozenset(words.split()) for name, words in sections}


@dataclass(frozen=True, slots=True)
class _Token:
    """Hold a capitalised word of a run, and what the lists say of it."""

    start: int
    end: int
    word: str

    @property
    def initial(self) -> bool:
        return self.word.endswith(".")

    @property
    def first(self) -> bool:
        """Tell whether it is a first name and nothing else."""
        return self.word in _lists()["first"] or _half(self.word) in _lists()["first"]

    @property
    def first_too(self) -> bool:
        return self.word in _lists()["first that is a word"]

    @property
    def last(self) -> bool:
        return (
            self.word in _lists()["last"]
            or self.word.startswith(("o'", "mc", "fitz"))
            or _half(self.word) in _lists()["last"]
        )

    @property
    def last_too(self) -> bool:
        return self.word in _lists()["last that is a word"]

    @property
    def common(self) -> bool:
        """Tell whether it is a word that sentences and titles begin with."""
        return (
            (len(self.word) < 3 and not self.initial)
            or self.word in _NO_NAMES
            or (self.word in _lists()["words"] and not self.first)
        )

    @property
    def known(self) -> bool:
        return self.first or self.first_too or self.last or self.last_too


def _half(word: str) -> str:
    return word.partition("-")[0] if "-" in word else ""


def persons(text: str, deadline: Deadline) -> Iterator[Finding]:
    """Yield the names of persons in the text."""
    yield from _in_other_scripts(text)
    kind = kind_of(text)
    if kind not in _OF_PEOPLE and not any(each in text for each in _HINTS):
        return
    for run in _runs(text, deadline):
        at = 0
        while at < len(run):
            end, evidence = _name(text, run, at, kind)
            if end > at:
                start = run[at].start
                if particle := _PARTICLE_BEFORE.search(text, max(0, start - 8), start):
                    start = particle.start() if evidence == "title" or at == 0 else start
                yield Finding("PERSON", start, run[end - 1].end, _SCORES[evidence], (evidence,))
            at = max(at + 1, end)


_SCORES = {
    "title": 0.85,
    "introduction": 0.8,
    "label": 0.85,
    "address": 0.85,
    "first name": 0.7,
    "last name": 0.5,
    "context": 0.55,
}


def _runs(text: str, deadline: Deadline) -> Iterator[list[_Token]]:
    run: list[_Token] = []
    for nth, match in enumerate(_TOKEN.finditer(text)):
        if not nth % 1_000:
            deadline.left()
        start, end = match.span()
        token = _Token(start, end, match[0].lower().translate(_LETTERS).replace("\u2019", "'"))
        if run and not (
            (start == run[-1].end and run[-1].initial)
            or (start - run[-1].end < 12 and _BETWEEN.fullmatch(text, run[-1].end, start))
        ):
            yield run
            run = []
        run.append(token)
    if run:
        yield run


def _name(text: str, run: list[_Token], at: int, kind: TextKind) -> tuple[int, str]:
    """Return where a name that begins with a word of a run ends, and what speaks for it; its beginning for none."""
    token = run[at]
    none = at, ""
    if token.word.rstrip(".") in _TITLES:
        return none
    end = _end(run, at)
    if end == at or (end < len(run) and run[end].word in _THINGS and not _is_titled(text, run, at)):
        return none
    prose = kind is TextKind.PROSE
    if _is_titled(text, run, at):
        return (end, "title") if prose and token.word not in _NO_NAMES else none
    if _is_addressed(text, run, at, end):
        return end, "address"
    label = _label(text, run, at, kind)
    if label == "part" or (label and _is_name(run[at:end], kind)):
        return end, "label"
    if not prose:
        return none
    if _is_introduced(text, run, at, end) or (end - at > 1 and _BORN.match(text, run[end - 1].end)):
        return end, "introduction"
    if _STREET_BEFORE.search(text, max(0, token.start - 6), token.start):
        return none
    return _by_lists(text, run, at, end)


def _end(run: list[_Token], at: int) -> int:
    """Return the end of the words from here on that can be one name."""
    if run[at].common and not run[at].known:
        return at
    end = at + 1
    while end < len(run) and end - at < _MOST_WORDS:
        token = run[end]
        if not token.initial and token.common and not (token.last or token.last_too):
            break
        if token.word in _THINGS and not (token.word in _THINGS_AND_NAMES and end == at + 1):
            break
        end += 1
    while end > at + 1 and run[end - 1].initial:
        end -= 1
    return end


def _is_titled(text: str, run: list[_Token], at: int) -> bool:
    if at and run[at - 1].word.rstrip(".") in _TITLES:
        return True
    start = run[at].start
    if particle := _PARTICLE_BEFORE.search(text, max(0, start - 8), start):
        start = particle.start()
    return _TITLE_BEFORE.search(text, max(0, start - 16), start) is not None


def _is_addressed(text: str, run: list[_Token], at: int, end: int) -> bool:
    return (
        end == len(run)
        and _ADDRESSED.match(text, run[end - 1].end, run[end - 1].end + 72) is not None
        and any(each.known or end - at > 1 for each in run[at:end])
    )


def _label(text: str, run: list[_Token], at: int, kind: TextKind) -> str:
    if at:
        return ""
    window = text[max(0, run[at].start - 40) : run[at].start]
    match = _LABELLED.search(window) if window.rstrip(" \"'")[-1:] in (":", "=", ",") else None
    if match is None:
        in_table = kind is TextKind.TABLE or "|" in window
        return "whole" if in_table and _COLUMN.of_column(text, run[at].start) == "name" else ""
    return "part" if match["part"] and not run[at].common else "whole"


def _is_name(tokens: list[_Token], kind: TextKind) -> bool:
    """Tell whether a labelled value is a name: a known one, and in a program with two words."""
    if kind in (TextKind.PROSE, TextKind.TABLE):
        return any(each.known for each in tokens) or len(tokens) > 1
    return len(tokens) > 1 and (tokens[0].first or (tokens[0].first_too and tokens[-1].last))


def _is_introduced(text: str, run: list[_Token], at: int, end: int) -> bool:
    start, token = run[at].start, run[at]
    if token.common or (token.first_too and end - at == 1 and token.word in _lists()["words"]):
        return False
    low = max(0, start - 40)
    several = end - at > 1 or token.first
    window = text[low:start]
    word = _LAST_WORD.search(window)
    if word is None and (not window.strip() or "\n" not in window[-14:]):
        return False
    if "\n" in window[-14:] and _CLOSED.search(window):
        return True
    greeted = (word is not None and word[1].lower() in _GREETINGS and _GREETED.search(window) is not None) or (
        at > 0 and _GREETED.search(text[run[at - 1].start : run[at].start]) is not None
    )
    if greeted:
        return text[run[end - 1].end : run[end - 1].end + 1] in (",", "!", ".", "\n", "", ":", ";", "-") or several
    introduced = _INTRODUCED.search(window) if word is not None and word[1].lower() in _INTRODUCERS else None
    return introduced is not None and (
        several or (token.known and not token.first_too) or "name" in introduced[0].lower()
    )


def _by_lists(text: str, run: list[_Token], at: int, end: int) -> tuple[int, str]:
    token, last = run[at], run[end - 1]
    none = at, ""
    if end - at > 1:
        if token.first:
            return end, "first name"
        if token.first_too and run[at + 1].last and not run[at + 1].common:
            return end, "first name"
        if token.initial and last.last and not last.common:
            return end, "last name"
        known = last.last and not last.common and not token.common and not token.first_too
        return (end, "last name") if known and end - at == 2 and not _is_the(text, token.start) else none
    if token.first and not token.initial and len(run) - at == 1:
        after = _DOES.match(text, token.end, token.end + 14)
        before = _MET.search(text, max(0, token.start - 24), token.start)
        if (after or before) and not _is_the(text, token.start):
            return end, "context"
    return none


def _is_the(text: str, start: int) -> bool:
    return text[max(0, start - 4) : start].lower().endswith(("the ", " a ", " an "))


# -- other scripts --------------------------------------------------------------------------------------------------
# By surname and what is said to or of a person, or behind a label. The entity is the pattern's group.
_HAN, _HANGUL = "\u4e00-\u9fff", "\uac00-\ud7a3"
_KOREAN_SURNAMES = "김이박최정강조윤장임한오서신권황안송류홍전고문양손배백허유남심노하곽성차주우구민진지엄채원천방공"
_CHINESE_SURNAMES = "王李张刘陈杨黄赵吴周徐孙马朱胡郭何高林罗郑梁谢宋唐许韩冯邓曹彭曾肖田董袁潘于蒋蔡余杜叶程苏魏吕丁任沈姚卢姜崔钟谭陆汪范金石廖贾夏韦傅方白邹孟熊秦邱江尹薛闫段雷侯龙史陶黎贺顾毛郝龚邵万钱严武戴莫孔向汤張劉陳楊黃趙吳孫馬鄭謝許韓馮鄧蕭葉蘇"
_AR, _HE, _HI, _TH = "[\u0621-\u064a]{2,15}", "[\u05d0-\u05ea]{2,15}", "[\u0900-\u097f]{2,20}", "[\u0e00-\u0e7f]{2,24}"
_OTHER_SCRIPTS = re.compile(
    "|".join(
        (
            rf"(?<![{_HANGUL}])([{_KOREAN_SURNAMES}][{_HANGUL}]{{2}})"
            r"(?= ?(?:씨|님|과장|부장|대리|선생|사장|교수|팀장|고객|환자))",
            rf"(?:이름은|이름:|성명:|고객명:|담당자:|예금주:?|저는|성함은) ?([{_KOREAN_SURNAMES}][{_HANGUL}]{{1,3}}?)"
            rf"(?=[^{_HANGUL}]|이고|이며|입니|이에|예요|이라|라고|$)",
            rf"([{_CHINESE_SURNAMES}][{_HAN}]{{0,2}})(?=先生|女士|小姐|老师|经理|教授|医生|同学)",
            rf"(?:姓名|名字|我叫|联系人|收件人|患者|户名|客户)[:是叫为] ?([{_CHINESE_SURNAMES}][{_HAN}]{{1,2}})"
            rf"(?![{_HAN}]{{3}})",
            rf"(?:我叫|客户|联系人|收件人|患者|同事|户名)([{_CHINESE_SURNAMES}][{_HAN}]{{1,2}}?)"
            rf"(?=取|的|说|要|来|表|反|需|想|在|打|申|投|[^{_HAN}]|$)",
            rf"([{_HAN}]{{1,3}} ?[{_HAN}]{{1,3}})(?=さん|様|氏|くん|ちゃん)",
            rf"(?:氏名|名前|お名前|担当者?|名義人?) ?[:は] ?([{_HAN}]{{2,3}} ?[{_HAN}]{{1,3}})",
            r"((?:[\u0410-\u042f\u0401][\u0430-\u044f\u0451]{1,20} ){1,2}"
            r"[\u0410-\u042f\u0401][\u0430-\u044f\u0451]{1,20}"
            r"(?:ов|ев|ин|ова|ева|ина|ский|ская|енко|ович|евич|овна|евна|чук|юк|ых))(?![\u0430-\u044f\u0451])",
            rf"(?:السيد|السيدة|الأستاذ|الدكتور|الدكتورة|صاحب الحساب|صاحبة الحساب|اسمي|الاسم:) ({_AR} {_AR})",
            rf"(?:מר|גברת|הגברת|בעל החשבון|בעלת החשבון|שלום|היי|שמי|שם:) ({_HE} {_HE})",
            rf"(?:श्री|श्रीमती|नाम:|मेरा नाम|खाताधारक:?|प्रिय) ({_HI} {_HI})",
            rf"(?:คุณ|นาย|นางสาว|นาง|ชื่อ ?:?) ?({_TH} {_TH})",
        )
    )
)
_SPOKEN_TO = re.compile("[\u0400-\u06ff\u0900-\u097f\u0e00-\u0e7f\u3040-\u30ff\u4e00-\u9fff\uac00-\ud7a3]")


def _in_other_scripts(text: str) -> Iterator[Finding]:
    if text.isascii() or not _SPOKEN_TO.search(text):
        return
    for match in _OTHER_SCRIPTS.finditer(text):
        group = match.lastindex or 0
        yield Finding("PERSON", match.start(group), match.end(group), 0.6, ("surname",))
