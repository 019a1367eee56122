"""Makes requests that a caller could send, each from a seed and with a mark in every place, and says what may happen.

A mark is a word that stands in one place of one request, alone, in an address or in a key. Where it may arrive is said
here by what the API of the route has, whatever the gateway makes of the request. `make(seed)` makes the same request
each time, so a case that fails can be looked at alone.
"""

from __future__ import annotations

import json
import random
import re
import string
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

from gatehouse.dialects import ALL_NAMES, names_of
from gatehouse.dialects.parts import plain
from gatehouse.proxy.control_fields import ControlFields, control_fields

from tests.support.litellm_names import header_names

# Of each mark: the case's letters and the place's.
WORD: Final = re.compile(rb"zq([a-z]{5})([a-z]{3})q", re.IGNORECASE)
CASES: Final = 26**5
BOUNDARY: Final = "a-boundary"

# The few fields beside the API's that callers may set, and what makes each of them wrong.
_BOUNDED: Final[dict[str, tuple[Any, ...]]] = {
    "timeout": (0, -1, 10**9, True, [5]),
    "num_retries": (99, -1, 1.5, True, {}),
    "cache": (True, {"no-cache": "yes"}, {"ttl": 5}, {"use-cache": True}),
    "tags": ("a", [1], [""], ["x" * 200], {"a": "b"}),
}
_GOOD_BOUNDED: Final[dict[str, Any]] = {"timeout": 90, "num_retries": 0, "cache": {"no-store": True}}
# What the few hold is read by the gateway and by LiteLLM, and no provider sees it.
_KEPT_BACK: Final = frozenset((*_BOUNDED, "model"))
# What identifies a caller's own user is replaced before anybody reads it, whatever it holds.
_HIDDEN: Final = frozenset(("user", "safety_identifier"))


class Pairs(list[tuple[str, Any]]):
    """Holds a JSON object as it is written: in its order, and with names that may come twice."""

    def put(self, name: str, value: Any) -> None:
        """Set one entry, whether or not there is one of that name."""
        self[:] = [(known, inner) for known, inner in self if known != name] + [(name, value)]

    def has(self, name: str) -> bool:
        return any(known == name for known, _ in self)


@dataclass(frozen=True)
class Mark:
    """Holds one mark.

    Attributes:
        word: what is looked for.
        kind: word, mail or secret.
        place: where it was put, for people.
        top: the field of the body, or `header NAME`, that it may arrive in; None where it may arrive nowhere.
    """

    word: str
    kind: str
    place: str
    top: str | None


@dataclass(frozen=True)
class Route:
    """Names a governed route, and where a call on it arrives.

    Attributes:
        call_type: LiteLLM's.
        group: the model as config.yaml names it.
        model: the same, as the provider knows it.
        arrives: the provider's paths that LiteLLM may use.
        translated: whether LiteLLM says the call in another API's words.
    """

    paths: tuple[str, ...]
    call_type: str
    group: str
    model: str
    arrives: str
    translated: bool = False


def _everywhere(path: str) -> tuple[str, ...]:
    return (f"/v1{path}", f"/v1{path}", path)


def _deployed(path: str, group: str) -> tuple[str, ...]:
    return (*_everywhere(path), f"/engines/{group}{path}", f"/openai/deployments/{group}{path}")


_GPT, _CLAUDE = "gpt-4o", "claude-sonnet-4-20250514"
ROUTES: Final = (
    Route(_deployed("/chat/completions", "up-chat"), "acompletion", "up-chat", _GPT, "/v1/chat/completions"),
    Route(_everywhere("/chat/completions"), "acompletion", "up-claude", _CLAUDE, "/v1/messages", translated=True),
    Route(
        _deployed("/completions", "up-text"), "atext_completion", "up-text", "gpt-3.5-turbo-instruct", "/v1/completions"
    ),
    Route(_everywhere("/completions"), "atext_completion", "up-chat", _GPT, "/v1/chat/completions", translated=True),
    Route(
        _deployed("/embeddings", "up-embedding"),
        "aembedding",
        "up-embedding",
        "text-embedding-3-small",
        "/v1/embeddings",
    ),
    Route((*_everywhere("/responses"), "/openai/v1/responses"), "aresponses", "up-chat", _GPT, "/v1/responses"),
    Route(_everywhere("/responses"), "aresponses", "up-claude", _CLAUDE, "/v1/messages", translated=True),
    Route(("/v1/messages",), "anthropic_messages", "up-claude", _CLAUDE, "/v1/messages"),
    Route(("/v1/messages",), "anthropic_messages", "up-chat", _GPT, "/v1/responses", translated=True),
    Route(_everywhere("/moderations"), "amoderation", "up-moderation", "omni-moderation-latest", "/v1/moderations"),
    Route(("/v1/rerank", "/v2/rerank", "/rerank"), "arerank", "up-rerank", "bge-reranker-v2-m3", "/v1/rerank"),
    Route(_everywhere("/images/generations"), "aimage_generation", "up-image", "dall-e-3", "/v1/images/generations"),
    Route(_everywhere("/audio/speech"), "aspeech", "up-speech", "tts-1", "/v1/audio/speech"),
    Route(
        _everywhere("/audio/transcriptions"),
        "atranscription",
        "up-transcription",
        "whisper-1",
        "/v1/audio/transcriptions",
    ),
)
DECIDE: Final = "/governance/v1/decide"


@dataclass
class Case:
    """Holds one request.

    Attributes:
        changes: what was done to an ordinary request, for people.
        refused: why the gateway must refuse it, for people; empty where it need not.
        named: words of which the refusal must have one, where there is one reason to refuse it.
        ordinary: whether it must be let through.
        fails: whether the provider shall fail.
        decides: whether it only asks for a decision.
    """

    seed: int
    route: Route
    path: str
    query: str = ""
    headers: list[tuple[str, str]] = field(default_factory=list)
    body: bytes = b""
    marks: dict[str, Mark] = field(default_factory=dict)
    changes: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    named: set[str] = field(default_factory=set)
    ordinary: bool = True
    fails: bool = False
    decides: bool = False

    @property
    def code(self) -> str:
        """Return the letters that all of its marks have."""
        return _letters(self.seed % CASES, 5)

    def __str__(self) -> str:
        return f"seed {self.seed}: {self.path} {self.route.group}: {'; '.join(self.changes) or 'as it is'}"


def _letters(number: int, count: int) -> str:
    found = ""
    for _ in range(count):
        number, letter = divmod(number, 26)
        found += string.ascii_lowercase[letter]
    return found


def make(seed: int, elsewhere: str = "http://127.0.0.1:9") -> Case:
    """Make the request of a seed.

    Args:
        elsewhere: the address of a server that nobody may be sent to.
    """
    return _Maker(random.Random(seed), seed, elsewhere).made()


class _Maker:
    """Makes one request."""

    def __init__(self, rng: random.Random, seed: int, elsewhere: str) -> None:
        self.rng = rng
        self.elsewhere = elsewhere
        route = rng.choice(ROUTES)
        self.case = Case(seed, route, rng.choice(route.paths))
        self.fields: ControlFields = control_fields()
        self.own = names_of(route.call_type)
        self.is_form = route.call_type == "atranscription"

    def made(self) -> Case:
        case, rng = self.case, self.rng
        case.decides = not self.is_form and rng.random() < 0.08
        case.fails = not case.decides and rng.random() < 0.03
        case.headers = [("content-type", "application/json")]
        if self.is_form:
            self._form()
        else:
            self._json()
        for _ in range(self._how_many(0.5)):
            self._header()
        if rng.random() < 0.1 and not case.decides:
            case.query = f"api-version={self.mark('query', None)}&model={self.mark('query', None)}"
            case.changes.append("query")
        if rng.random() < 0.03:
            self._packed()
        # Where the path names the model, what the body calls it is said to nobody.
        unsaid = _HIDDEN | ({"model"} if re.match(r"/(engines|openai/deployments)/", case.path) else set())
        if any(
            mark.kind == "secret" and mark.place not in unsaid for mark in map(case.marks.get, self._written()) if mark
        ):
            case.refused.append("a secret")
            case.named.clear()
        if case.refused:
            case.ordinary = False
        if len(case.changes) != 1:
            case.named.clear()
        return case

    def _written(self) -> set[str]:
        """Return the marks that stand in the body; others were put there and replaced again."""
        read = re.sub(rb"\\u00([0-7][0-9a-f])", lambda escape: bytes((int(escape[1], 16),)), self.case.body)
        return {match[0].decode() for match in WORD.finditer(read)}

    def _how_many(self, at_all: float) -> int:
        return self.rng.choice((1, 1, 1, 1, 2, 3)) if self.rng.random() < at_all else 0

    # Marks, names and values.

    def mark(self, place: str, top: str | None, kind: str = "word") -> str:
        """Return a new mark as it stands in its place."""
        word = f"zq{self.case.code}{_letters(len(self.case.marks), 3)}q"
        field_ = re.split(r"[.[]", place.removeprefix("name in "))[0]
        if self.case.decides and top is None and field_ in ("metadata", "tags"):
            top = field_  # who calls the model themselves gets these back, masked
        self.case.marks[word] = Mark(word, kind, place, top)
        if kind == "mail":
            return f"{word}@example.com"
        if kind == "secret":
            drawn = word + "".join(self.rng.choices("abcdefghkmnpstuvwyzABCDEFGHKMNP23456789", k=25))
            return self.rng.choice((f"https://me:{drawn}@example.com/", f"ghp_{drawn}"))
        return word

    def say(self, top: str) -> str:
        """Return a word for a field of the API."""
        return self.mark(top, top)

    def text(self, place: str, top: str | None) -> str:
        """Return a text: mostly a word, or an address, a key, a link to another server, JSON in a string."""
        kind = self.rng.choices(("word", "mail", "secret", "link", "json"), (74, 10, 4, 8, 4))[0]
        if kind == "link":
            return f"{self.elsewhere}/{self.mark(place, top)}"
        if kind == "json":
            return json.dumps({self.mark(place, top): [self.mark(place, top)]})
        return self.mark(place, top, kind)

    def value(self, place: str, top: str | None, depth: int = 0) -> Any:
        """Return any JSON value."""
        kind = self.rng.choices(
            ("text", "number", "switch", "none", "list", "object", "long", "empty"), (50, 8, 5, 3, 10, 18, 2, 4)
        )[0]
        if kind in ("list", "object") and depth > 3:
            kind = "text"
        match kind:
            case "text":
                return self.text(place, top)
            case "number":
                return self.rng.choice((0, 1, -1, 7, 0.25, 10**6 + 3, 2**63, 2**64, 10**30, -(10**30), 1e300, 1e-300))
            case "switch":
                return self.rng.choice((True, False))
            case "none":
                return None
            case "list":
                return [self.value(f"{place}[{n}]", top, depth + 1) for n in range(self.rng.randint(1, 3))]
            case "object":
                return Pairs(
                    (self.name_below(place, top), self.value(f"{place}.*", top, depth + 1))
                    for _ in range(self.rng.randint(1, 2))
                )
            case "long":
                return (self.mark(place, top) + " and so on ") * 300
        return self.rng.choice(("", [], Pairs()))

    def name_below(self, place: str, top: str | None) -> str:
        """Return the name of an entry that no API has: a word, now and then an address."""
        return self.mark(f"name in {place}", top, "mail" if self.rng.random() < 0.05 else "word")

    def new_name(self) -> str:
        """Return the name of a field that neither an API nor LiteLLM has."""
        name = word = self.mark("name of a field", None)
        if self.rng.random() < 0.25:
            name = self.rng.choice(
                (f"{word} ", f"{word}.", f"{word}\x00", f"{word}\n", f" {word}", word + "x" * 5_000, f"é{word}")
            )
        elif self.rng.random() < 0.1:
            name = f"{word}@example.com"
        self.case.marks[word] = Mark(word, "mail" if "@" in name else "word", "name of a field", name)
        return name

    def disguised(self) -> str:
        """Return one of LiteLLM's control names, spelled so that only a careless reader takes it for one."""
        name = self.rng.choice(sorted(self.fields.obeyed))
        return self.rng.choice(
            (name.upper(), name.title(), f"{name}.", f"{name} ", f"{name}\x00", f" {name}", f"{name}[]", f"{name}.a",
             f"extra_body.{name}", name.replace("_", "-"), name.replace("a", "\u0430"), f"\ufeff{name}")
        )  # fmt: skip

    def control(self) -> str:
        """Return a name that LiteLLM takes out of requests and that this route's API does not have."""
        while True:
            section = self.rng.choice(
                (_WORST, _WORST, self.fields.obeyed, self.fields.obeyed, self.fields.top, ALL_NAMES)
            )
            name = self.rng.choice(
                ("litellm_new", "_litellm_x", "user_api_key_y", "x-litellm-z")
                if self.rng.random() < 0.05
                else sorted(section)
            )
            if name not in self.own and name not in ("user", "metadata", "extra_body", *_BOUNDED):
                return name

    def top_of(self, name: str) -> str | None:
        """Return where a value in a field of the API may arrive."""
        return None if name in _KEPT_BACK or name not in self.own else name

    # JSON.

    def _json(self) -> None:
        body = self._base()
        if self.rng.random() < 0.15 and self.case.route.call_type in (
            "acompletion", "atext_completion", "aresponses", "anthropic_messages",
        ):  # fmt: skip
            body.put("stream", True)
        for _ in range(self._how_many(0.85)):
            self._change(body)
            if self.case.refused:  # what comes later could undo the reason
                break
        if self.rng.random() < 0.3:
            self.rng.shuffle(body)
        if self.case.decides:
            path = "/v1" + re.sub(r"^(/openai)?/v1|^/(engines|openai/deployments)/[^/]+", "", self.case.path)
            said = Pairs([("route", path), ("body", body)])
            self.case.path = DECIDE
            self._write(said)
        else:
            self._write(body)

    def _write(self, body: Pairs) -> None:
        if self.rng.random() < 0.06:
            self._odd(body)
            return
        self.case.body = written(body, self.rng).encode("utf-8", "surrogatepass")

    def _base(self) -> Pairs:
        """Make an ordinary request."""
        say = self.say
        said: dict[str, Callable[[], list[tuple[str, Any]]]] = {
            "acompletion": lambda: [("messages", self._messages())],
            "anthropic_messages": lambda: [("max_tokens", 9), ("messages", self._turns())],
            "atext_completion": lambda: [("prompt", f"the {say('prompt')}"), ("max_tokens", 5)],
            "aembedding": lambda: [("input", [say("input"), say("input")])],
            "amoderation": lambda: [("input", say("input"))],
            "arerank": lambda: [("query", say("query")), ("documents", [say("documents"), say("documents")])],
            "aimage_generation": lambda: [("prompt", say("prompt"))],
            "aspeech": lambda: [("input", say("input")), ("voice", "alloy")],
            "aresponses": lambda: [("input", self._items())],
        }
        body = Pairs([("model", self.case.route.group), *said[self.case.route.call_type]()])
        if "tools" in self.own and self.rng.random() < 0.4:
            body.put("tools", [self._tool()])
        for name, value in self._settings().items():
            if name in self.own and self.rng.random() < 0.25:
                body.put(name, value)
        if self.rng.random() < 0.25:
            body.put("user", self.mark("user", "user", self.rng.choice(("word", "word", "mail"))))
        if self.rng.random() < 0.25:
            # To Anthropic LiteLLM sends this one on, from chat too.
            to_claude = self.case.route.group == "up-claude"
            top = "metadata" if "metadata" in self.own or to_claude else None
            body.put("metadata", Pairs([("user_id", self.mark("metadata", top))]))
        return body

    def _settings(self) -> dict[str, Any]:
        """Return settings that an ordinary request may have beside its texts."""
        said: dict[str, Any] = {"stop": [self.say("stop")], "store": False, "seed": 7, "n": 1, "max_output_tokens": 16}
        said |= {name: self.say(name) for name in ("suffix", "prompt_cache_key", "instructions")}
        if self.case.route.call_type == "anthropic_messages":
            said["system"] = self.say("system")
        return said | {"temperature": 0.5, "top_p": 0.9}

    def _messages(self) -> list[Any]:
        say = partial(self.say, "messages")
        call = Pairs([("name", "look"), ("arguments", json.dumps({"town": say()}))])
        asked = Pairs([("id", "call_1"), ("type", "function"), ("function", call)])
        parts = [Pairs([("type", "text"), ("text", say())])]
        if self.rng.random() < 0.3 and not self.case.route.translated:
            parts.append(Pairs([("type", "image_url"), ("image_url", Pairs([("url", f"{self.elsewhere}/{say()}")]))]))
        told = [
            Pairs([("role", "system"), ("content", say())]),
            Pairs([("role", "user"), ("content", f"write to {self.mark('messages', 'messages', 'mail')}")]),
            Pairs([("role", "assistant"), ("content", None), ("tool_calls", [asked])]),
            Pairs([("role", "tool"), ("tool_call_id", "call_1"), ("content", say())]),
        ]
        return [*(told if self.rng.random() < 0.5 else ()), Pairs([("role", "user"), ("content", parts)])]

    def _turns(self) -> list[Any]:
        say = partial(self.say, "messages")
        used = Pairs([("type", "tool_use"), ("id", "toolu_1"), ("name", "look"), ("input", Pairs([("town", say())]))])
        result = Pairs([("type", "tool_result"), ("tool_use_id", "toolu_1"), ("content", say())])
        told = [
            Pairs([("role", "user"), ("content", f"write to {self.mark('messages', 'messages', 'mail')}")]),
            Pairs([("role", "assistant"), ("content", [used])]),
            Pairs([("role", "user"), ("content", [result, Pairs([("type", "text"), ("text", say())])])]),
        ]
        return told if self.rng.random() < 0.5 else [Pairs([("role", "user"), ("content", say())])]

    def _items(self) -> Any:
        say = partial(self.say, "input")
        if self.rng.random() < 0.4:
            return f"write to {say()}"
        return [
            Pairs([("role", "developer"), ("content", say())]),
            Pairs([("role", "user"), ("content", [Pairs([("type", "input_text"), ("text", say())])])]),
            Pairs([("type", "function_call"), ("call_id", "c1"), ("name", "look"), ("arguments", json.dumps([say()]))]),
            Pairs([("type", "function_call_output"), ("call_id", "c1"), ("output", say())]),
            Pairs([("role", "user"), ("content", self.mark("input", "input", "mail"))]),
        ]

    def _tool(self) -> Pairs:
        says = ("description", self.mark("tools", "tools"))
        town = Pairs([("town", Pairs([("type", "string"), ("description", self.mark("tools", "tools"))]))])
        schema = Pairs([("type", "object"), ("properties", town)])
        match self.case.route.call_type:
            case "anthropic_messages":
                return Pairs([("name", "look"), says, ("input_schema", schema)])
            case "aresponses":
                return Pairs([("type", "function"), ("name", "look"), says, ("parameters", schema)])
        return Pairs([("type", "function"), ("function", Pairs([("name", "look"), says, ("parameters", schema)]))])

    # What is changed.

    def _change(self, body: Pairs) -> None:
        change = self.rng.choices(
            (self._add_own, self._add_new, self._add_control, self._add_number, self._add_bounded, self._add_disguised,
             self._add_inside, self._add_to_metadata, self._repeat, self._other_type),
            (12, 16, 24, 3, 5, 5, 14, 9, 5, 7),
        )[0]  # fmt: skip
        change(body)

    def _note(self, what: str, *, refused: bool = False, names: tuple[str, ...] = (), ordinary: bool = False) -> None:
        case = self.case
        case.changes.append(what)
        if refused:
            case.refused.append(what)
            case.named.update(filter(None, map(plain, names)))
        elif not ordinary:
            case.ordinary = False

    def _place(self, body: Pairs, name: str, value: Any) -> str:
        """Put a field at the top or into `extra_body`; return which."""
        extra = next((inner for known, inner in body if known == "extra_body" and isinstance(inner, Pairs)), None)
        if self.rng.random() < 0.35 or (extra is not None and extra.has(name)):
            if extra is None:
                extra = Pairs()
                body.put("extra_body", extra)
            extra.put(name, value)
            if body.has(name):
                self._note(f"{name!r} twice, once in extra_body", refused=True, names=(name,))
            return "extra_body"
        body.put(name, value)
        return "the top"

    def _add_own(self, body: Pairs) -> None:
        name = self.rng.choice(sorted(self.own - {"model"}))
        self._note(f"own {name} in {self._place(body, name, self.value(name, self.top_of(name)))}")

    def _add_new(self, body: Pairs) -> None:
        name = self.new_name()
        value: Any = self.value(name, name)
        for _ in range(self.rng.randint(0, 6) if self.rng.random() < 0.3 else 0):
            value = [value] if self.rng.random() < 0.4 else Pairs([(self.name_below(name, name), value)])
        where = self._place(body, name, value)
        self._note(f"new {name[:20]!r} in {where}", ordinary=self._passes_new())

    def _passes_new(self) -> bool:
        """Tell whether LiteLLM sends new fields on: it surely does on the route to a provider of OpenAI's API alone."""
        return self.case.route.call_type == "acompletion" and self.case.route.group == "up-chat"

    def _add_control(self, body: Pairs) -> None:
        name = self.control()
        place = self.rng.choice(("top", "top", "container", "container", "new", "deep"))
        if place == "top":
            where = self._place(body, name, self.value(name, None))
            self._note(f"control {name} in {where}", refused=True, names=(name,))
            return
        container = self.rng.choice(("litellm_metadata", "litellm_params", "extra_headers", "headers", "metadata"))
        if place == "container" and container != "metadata":
            where = self._place(body, container, Pairs([(name, self.value(f"{container}.{name}", None))]))
            self._note(f"control {name} in {container} in {where}", refused=True, names=(container,))
            return
        new = "metadata" if place == "container" else self.new_name()
        if new == "metadata" and self.rng.random() < 0.5:
            name = self.rng.choice(sorted(self.fields.in_metadata))
        top = ("metadata" if "metadata" in self.own else None) if new == "metadata" else new
        value: Any = Pairs([(name, self.value(f"{new}.{name}", top))])
        for _ in range(self.rng.randint(1, 6) if place == "deep" else 0):
            value = [value] if self.rng.random() < 0.5 else Pairs([(self.name_below(new, top), value)])
        if new == "metadata" and not isinstance(value, Pairs):
            value = Pairs([("a", value)])
        where = self._place(body, new, value)
        obeys = self.fields.obeys_in_metadata if new == "metadata" else self.fields.obeys
        self._note(f"control {name} below {new[:20]!r} in {where}", refused=obeys(name), names=(new, name))

    def _add_number(self, body: Pairs) -> None:
        name = self.rng.choice(sorted(self.fields.numbers - self.own))
        if self.rng.random() < 0.5:
            self._note(f"number {name} in {self._place(body, name, self.rng.choice((1, 5, 0.5, True)))}")
            return
        where = self._place(body, name, self.rng.choice((self.mark(name, None), [self.mark(name, None)])))
        self._note(f"no number {name} in {where}", refused=True, names=(name,))

    def _add_bounded(self, body: Pairs) -> None:
        name = self.rng.choice(sorted(_BOUNDED))
        if self.rng.random() < 0.3:
            value = _GOOD_BOUNDED.get(name, [self.mark(name, None)])
            value = Pairs(value.items()) if isinstance(value, dict) else value
            self._note(f"good {name} in {self._place(body, name, value)}", ordinary=True)
            return
        bad = self.rng.choice((*_BOUNDED[name], self.mark(name, None), Pairs([("read", self.mark(name, None))])))
        bad = Pairs(bad.items()) if isinstance(bad, dict) else bad
        if name == "tags" and isinstance(bad, str):
            bad = Pairs([(bad, bad)])
        self._note(f"bad {name} in {self._place(body, name, bad)}", refused=True, names=(name,))

    def _add_disguised(self, body: Pairs) -> None:
        name = self.disguised()
        if self.fields.takes(name) or name in ALL_NAMES:
            return
        self._note(f"disguised {name!r} in {self._place(body, name, self.value(name, name))}")

    def _add_to_metadata(self, body: Pairs) -> None:
        top = "metadata" if "metadata" in self.own else None
        name = self.name_below("metadata", top)
        value = Pairs([(name, self.value(f"metadata.{name}", top))])
        if self.rng.random() < 0.3:
            value.put("tags", [self.mark("metadata.tags", top)])
        self._note(f"metadata in {self._place(body, 'metadata', value)}")

    def _objects(self, body: Pairs) -> list[tuple[str, Pairs]]:
        """Return every object below the top, with the field that it is in."""
        found: list[tuple[str, Pairs]] = []
        left: list[tuple[str, Any]] = [(name, value) for name, value in body if name != "extra_body"]
        while left:
            top, value = left.pop()
            if isinstance(value, Pairs):
                found.append((top, value))
                left.extend((top, inner) for _, inner in value)
            elif isinstance(value, list):
                left.extend((top, inner) for inner in value)
        return found

    def _add_inside(self, body: Pairs) -> None:
        """Put something into an object that is there: a message, a tool, a schema."""
        objects = self._objects(body)
        if not objects:
            return
        field_, inner = self.rng.choice(objects)
        top = field_ if field_ not in self.own else self.top_of(field_)
        name = self.rng.choice((self.control(), self.rng.choice(sorted(ALL_NAMES)), self.name_below(field_, top)))
        inner.put(name, self.value(f"{field_}.{name}", top))
        self._note(f"{name!r} inside {field_[:20]!r}")

    def _repeat(self, body: Pairs) -> None:
        """Repeat a name within one object."""
        objects = [("the top", body), *self._objects(body)]
        where, inner = self.rng.choice([each for each in objects if each[1]])
        name, value = self.rng.choice(inner)
        # No reader may have either.
        inner.append((name, self.rng.choice((value, self.value(f"second {name}", None)))))
        self.rng.shuffle(inner)
        self._note(f"{name[:20]!r} twice in {where[:20]!r}", refused=True)

    def _other_type(self, body: Pairs) -> None:
        """Give a field a value of another type."""
        name = self.rng.choice([known for known, _ in body if known != "extra_body"])
        if name == "model":
            body.put(name, self.value(name, None))
        else:
            body.put(name, self.value(name, name if name not in self.own else self.top_of(name)))
        self._note(f"another {name[:20]!r}")

    def _odd(self, body: Pairs) -> None:
        """Return a body that is no JSON, or that readers understand in different ways."""
        text = written(body, self.rng)
        deep = self.rng.choice((97, 200, 300, 900, 5_000))
        kind = self.rng.choice(
            ("mark of order", "rest", "cut off", "two", "empty", "list", "text", "utf-16", "latin-1", "NaN", "1e999",
             "surrogate", "digits", "deep", "comment", "quotes", "comma")
        )  # fmt: skip
        value = {
            "NaN": self.rng.choice(("NaN", "Infinity", "-Infinity")),
            "1e999": "1e999",
            "surrogate": '"\\ud83d"',
            "digits": "9" * 5_000,
            "deep": "[" * deep + "]" * deep,
            "comment": "/* */ 1",
            "quotes": "'a'",
            "comma": "[1,]",
        }.get(kind)
        if value is not None:
            name = self.rng.choice(("a_new_field", "metadata", *sorted(self.own)[:3]))
            text = f'{{"{name}": {value}, {text[1:]}' if text != "{}" else f'{{"{name}": {value}}}'
        whole = {
            "mark of order": "\ufeff" + text,
            "rest": text + text[:20],
            "cut off": text[: self.rng.randrange(len(text))],
            "two": f"{text}\n{text}",
            "empty": self.rng.choice(("", " ", "null")),
            "list": f"[{text}]",
            "text": json.dumps(text),
        }.get(kind, text)
        coding = kind if kind in ("utf-16", "latin-1") else "utf-8"
        self.case.body = (whole + "\u00ff" if kind == "latin-1" else whole).encode(coding, "replace")
        self._note(f"odd: {kind}", refused=True)

    def _packed(self) -> None:
        coding = self.rng.choice(("gzip", "br", "zstd", "deflate, gzip", self.mark("header content-encoding", None)))
        self.case.headers.append(("content-encoding", coding))
        self._note(f"packed as {coding}", refused=not self.case.decides)

    # Headers.

    def _header(self) -> None:
        case, rng = self.case, self.rng
        name = rng.choice(
            (rng.choice(header_names()), rng.choice(_HEADERS), rng.choice(_CREDENTIALS), rng.choice(_LITELLMS))
        )
        top = "header anthropic-beta" if name == "anthropic-beta" else None
        kind = rng.choices(("word", "mail", "secret", "link", "json", "list"), (60, 12, 8, 8, 8, 4))[0]
        place = f"header {name}"
        value = {
            "link": lambda: f"{self.elsewhere}/{self.mark(place, top)}",
            "json": lambda: json.dumps({self.mark(place, top): self.mark(place, top)}),
            "list": lambda: f"{self.mark(place, top)}, {self.mark(place, top)}",
        }.get(kind, lambda: self.mark(place, top, kind))()
        if name in _CREDENTIALS:
            value = rng.choice((f"Bearer {value}", value))
        shown = rng.choice((name, name, name, name.title(), name.upper()))
        at = rng.randint(0, len(case.headers))
        for _ in range(rng.choice((1, 1, 1, 2))):
            case.headers.insert(at, (shown, value))
        refused = name.startswith("x-litellm-") and name not in _CREDENTIALS and not case.decides
        harmless = not name.startswith("x-gatehouse-") and name not in _CREDENTIALS and name not in _OF_THE_CONNECTION
        self._note(f"header {name}", refused=refused, names=(name,), ordinary=harmless and not case.decides)

    # A form.

    def _form(self) -> None:
        case, rng = self.case, self.rng
        parts: list[tuple[str, str, str]] = [
            ("model", "", "up-transcription"),
            ("file", f'; filename="{self.mark("file name", None)}.wav"', "RIFF" + self.mark("file", "file")),
        ]
        if rng.random() < 0.5:
            parts.append(("prompt", "", self.mark("prompt", "prompt", rng.choice(("word", "mail")))))
        for _ in range(self._how_many(0.8)):
            kind = rng.choice(("own", "control", "control", "new", "twice", "disguised", "file"))
            if kind == "own":
                name = rng.choice(sorted(self.own - {"model", "file"}))
                parts = [each for each in parts if each[0] != name]
                parts.append((name, "", self.text(name, self.top_of(name))))
                self._note(f"own {name}")
            elif kind == "twice":
                parts.append(rng.choice(parts))
                self._note(f"{parts[-1][0]} twice", refused=True)
            elif kind == "file":
                name = rng.choice(("file", "image", self.control()))
                of_file = f'; filename="{self.text("file name", None)}"'.replace('"{', "").replace("\n", "")
                parts.append((name, of_file, "x"))
                self._note(f"another file {name}", refused=True)
            else:
                name = {"control": self.control, "new": self.new_name, "disguised": self.disguised}[kind]()
                if name in self.own:
                    continue
                name = re.sub(r'["\r\n\x00]', "", name)
                parts.append((name, "", self.text(name, None)))
                self._note(f"{kind} {name!r:.30}", refused=True, names=(name,))
        rng.shuffle(parts)
        written_parts = [
            f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"{of_file}\r\n\r\n{value}\r\n'
            for name, of_file, value in parts
        ]
        case.body = ("".join(written_parts) + f"--{BOUNDARY}--\r\n").encode()
        case.headers = [("content-type", f"multipart/form-data; boundary={BOUNDARY}")]


# Each was a way round the gateway once.
_WORST: Final = frozenset(
    """
    router_settings_override fallbacks headers provider_specific_header organization session_id trace_id litellm_params
    user_api_key_hash success_callback api_key api_base base_url custom_llm_provider cache_key preset_cache_key
    additional_drop_params litellm_system_prompt mock_response litellm_metadata guardrails api_version extra_headers
    extra_query drop_params max_retries user_config prompt_id model_list
    """.split()
)
_CREDENTIALS: Final = (
    "authorization", "api-key", "x-api-key", "x-goog-api-key", "ocp-apim-subscription-key", "x-litellm-api-key",
)  # fmt: skip
# What a server reads itself: one that is not understood may end the connection.
_OF_THE_CONNECTION: Final = frozenset(
    """connection keep-alive te trailer upgrade proxy-connection content-length transfer-encoding content-encoding
    content-type expect host""".split()
)
_LITELLMS: Final = tuple(
    f"x-litellm-{name}"
    for name in """
    tags session-id trace-id call-id agent-id disable-callbacks spend-logs-metadata customer-id end-user-id
    enable-message-redaction of-next-year model api-base timeout num-retries stream-timeout
    """.split()
)
_HEADERS: Final = tuple(
    """
    openai-organization openai-project openai-beta anthropic-beta anthropic-version
    x-forwarded-for x-forwarded-host x-forwarded-proto forwarded x-real-ip via cookie referer origin user-agent baggage
    traceparent tracestate langfuse_trace_id x-request-id x-stainless-helper-method idempotency-key cache-control
    accept accept-language accept-encoding x-gatehouse-agent x-gatehouse-session x-mcp-auth mcp-protocol-version
    x-amz-security-token x-openai-api-base api-base x-api-base x-custom-key x-http-method-override x-original-url
    x-rewrite-url connection keep-alive te upgrade proxy-connection proxy-authorization expect session_id
    conversation_id x-session-id litellm_user_api_key from x-user-email x-openwebui-user-email content-type
    """.split()
)


def written(value: Any, rng: random.Random) -> str:
    """Return JSON text in which some letters are escaped that need not be."""
    if isinstance(value, Pairs):
        inner = (f"{_string(name, rng)}:{_blank(rng)}{written(below, rng)}" for name, below in value)
        return "{" + f",{_blank(rng)}".join(inner) + "}"
    if isinstance(value, list):
        return "[" + ",".join(written(below, rng) for below in value) + "]"
    return _string(value, rng) if isinstance(value, str) else json.dumps(value)


def _blank(rng: random.Random) -> str:
    return rng.choice(("", " ", " ", "\n\t "))


def _string(value: str, rng: random.Random) -> str:
    if value and rng.random() < 0.04:
        at = rng.randrange(len(value))
        if ord(value[at]) < 0xD800:
            escaped = (json.dumps(value[:at]), f"\\u{ord(value[at]):04x}", json.dumps(value[at + 1 :]))
            return escaped[0][:-1] + escaped[1] + escaped[2][1:]
    return json.dumps(value, ensure_ascii=rng.random() < 0.5)
