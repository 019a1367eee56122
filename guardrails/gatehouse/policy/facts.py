"""The facts of a call that a rule's `when` may use: typed values in Python, plain maps in CEL.

Every fact always exists. An unknown one has a neutral value ("", 0, false, an empty list), so that a rule does not fail
because a caller left something out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from datetime import datetime
from typing import Any, Self

from gatehouse.core.errors import SetupError
from gatehouse.guards.pii import config as pii
from gatehouse.policy.document import did_you_mean

# The entities that can be found. policy.yaml's `pii.recognizers` and `pii.entities` add names of the operator's own.
KNOWN_ENTITIES = frozenset({*pii.KNOWN_ENTITIES, *pii.NER_ENTITIES})


@dataclass(frozen=True, slots=True)
class RequestFacts:
    """Hold facts of the request. `temperature` defaults to 1.0, as at OpenAI and Anthropic. `library` says that the
    caller calls the model directly; `reaches` lists what the provider would reach out to.
    """

    model: str = ""
    route: str = ""
    call_type: str = ""
    stream: bool = False
    max_tokens: int = 0
    tools: tuple[str, ...] = ()
    temperature: float = 1.0
    text_chars: int = 0
    library: bool = False
    reaches: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class CallerFacts:
    """Identify who asks. LiteLLM authenticated every fact but `end_user`, which the caller states."""

    key_alias: str = ""
    key_hash: str = ""
    user: str = ""
    team: str = ""
    org: str = ""
    role: str = ""
    end_user: str = ""
    tags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class AgentFacts:
    """Name the agent and its session."""

    id: str = ""
    session: str = ""


@dataclass(frozen=True, slots=True)
class CostFacts:
    """Hold the most that the call may cost: US dollars and tokens."""

    estimated_usd: float = 0.0
    input_tokens: int = 0
    max_output_tokens: int = 0


@dataclass(frozen=True, slots=True)
class ScreensFacts:
    """List the screens that hit: `secrets`, `prompt_injection`, `blocked_content/<category>`."""

    hits: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SpendFacts:
    """Hold the key's spend and its budget in US dollars; the budget is 0.0 where it has none."""

    key_usd: float = 0.0
    key_budget_usd: float = 0.0


@dataclass(frozen=True, slots=True)
class NowFacts:
    """Hold the hour (0 to 23) and the ISO weekday (1 is Monday, 7 is Sunday), in UTC."""

    hour: int = 0
    weekday: int = 1

    @classmethod
    def at(cls, moment: datetime) -> Self:
        """Return the facts of a moment in UTC."""
        return cls(moment.hour, moment.isoweekday())


@dataclass(frozen=True, slots=True)
class Facts:
    """Hold all facts of one call that a `when` may use. `pii` counts findings by entity; a missing entity counts 0."""

    request: RequestFacts = RequestFacts()
    caller: CallerFacts = CallerFacts()
    agent: AgentFacts = AgentFacts()
    cost: CostFacts = CostFacts()
    pii: Mapping[str, int] = field(default_factory=dict)
    screens: ScreensFacts = ScreensFacts()
    spend: SpendFacts = SpendFacts()
    now: NowFacts = NowFacts()

    def as_dict(
        self, entities: Iterable[str] = KNOWN_ENTITIES, wanted: Wanted | None = None
    ) -> dict[str, dict[str, Any]]:
        """Return the facts for CEL: `pii` has `total` and a count for each of `entities`. `wanted` picks the facts."""
        values: dict[str, dict[str, Any]] = {}
        for name, keys in (ALL_FACTS if wanted is None else wanted).items():
            if name != "pii":
                values[name] = _plain(getattr(self, name), keys)
                continue
            values[name] = {key: self.pii.get(key, 0) for key in (entities if keys is None else keys)}
            if keys is None or "total" in keys:
                values[name]["total"] = sum(self.pii.values())
        return values

    def renamed(self, names: Mapping[str, str]) -> Facts:
        """Return the facts with hashes in the place of caller-given names.

        Args:
            names: the names by their hashes.
        """
        if not names:
            return self
        stands = {name: stands for stands, name in names.items()}

        def kept(name: str) -> str:
            return stands.get(name, name)

        return replace(
            self,
            request=replace(
                self.request,
                tools=tuple(map(kept, self.request.tools)),
                reaches=tuple(map(kept, self.request.reaches)),
            ),
            caller=replace(self.caller, end_user=kept(self.caller.end_user)),
            agent=AgentFacts(kept(self.agent.id), kept(self.agent.session)),
        )

    def recorded(self) -> dict[str, dict[str, Any]]:
        """Return the facts to record with a decision: those that are not neutral, for `from_mapping(strict=False)`.

        Of a very long list of tools only the first are recorded.
        """
        kept = {
            part.name: {
                name: value[:_MAX_TOOLS] if isinstance(value, list) else value
                for name, value in _plain(getattr(self, part.name)).items()
                if value != _NEUTRAL[part.name][name]
            }
            for part in fields(self)
            if part.name != "pii"
        }
        kept["pii"] = dict(self.pii)
        return {name: values for name, values in kept.items() if values}

    @classmethod
    def from_mapping(cls, values: Any, *, strict: bool = True, entities: Iterable[str] = KNOWN_ENTITIES) -> Self:
        """Return facts with the given values, and neutral ones otherwise.

        Args:
            values: `{"request": {"model": ...}, "pii": {"EMAIL_ADDRESS": 1}, ...}`; `pii.total` is a sum and ignored.
            strict: refuse facts that this version does not know; False drops them, for records of another version.

        Raises:
            SetupError: a fact is unknown or has the wrong type.
        """
        if not isinstance(values, Mapping):
            raise SetupError("facts: not a mapping. Write them as {request: {model: ...}, caller: {team: ...}}.")
        parts = {part.name: getattr(cls(), part.name) for part in fields(cls)}
        found: dict[str, Any] = {}
        for name, given in values.items():
            if name not in parts:
                if strict:
                    raise SetupError(f"facts: {name} is not a fact{did_you_mean(name, parts)}.")
                continue
            if not isinstance(given, Mapping):
                raise SetupError(f"facts: {name} should be a mapping, as in {name}: {{...}}.")
            if name == "pii":
                known = {**dict.fromkeys(entities, 0), "total": 0}
                counts = _checked(name, known, given, strict=strict)
                found[name] = {entity: count for entity, count in counts.items() if entity != "total"}
            else:
                found[name] = replace(parts[name], **_checked(name, _plain(parts[name]), given, strict=strict))
        return cls(**found)


_MAX_TOOLS = 100

Wanted = Mapping[str, frozenset[str] | None]
"""Facts by part; None stands for all of a part."""

ALL_FACTS: Wanted = {part.name: None for part in fields(Facts)}


def wanted_by(paths: Iterable[tuple[str, ...]]) -> Wanted:
    """Return the facts that paths such as `("caller", "team")` name; a bare `("caller",)` names its whole part."""
    wanted: dict[str, frozenset[str] | None] = {}
    for part, *rest in paths:
        known = wanted.get(part, frozenset())
        wanted[part] = known | {rest[0]} if rest and known is not None else None
    return wanted


def _plain(part: Any, keys: Iterable[str] | None = None) -> dict[str, Any]:
    values = {name: getattr(part, name) for name in (part.__slots__ if keys is None else keys)}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}


_NEUTRAL = {part.name: _plain(getattr(Facts(), part.name)) for part in fields(Facts) if part.name != "pii"}


def _checked(part: str, neutral: Mapping[str, Any], given: Mapping[Any, Any], *, strict: bool) -> dict[str, Any]:
    """Return the known ones of the given values, after checking that each has its neutral value's type."""
    checked: dict[str, Any] = {}
    for name, value in given.items():
        if name not in neutral:
            if strict:
                raise SetupError(f"facts: {part}.{name} is not a fact{did_you_mean(name, neutral)}.")
            continue
        expected = type(neutral[name])
        if expected is float and type(value) is int:
            value = float(value)
        if type(value) is not expected or (expected is list and not all(isinstance(item, str) for item in value)):
            kind = "list of strings" if expected is list else expected.__name__
            raise SetupError(f"facts: {part}.{name} should be a {kind}, not {value!r}.")
        checked[name] = tuple(value) if expected is list else value
    return checked


SAMPLE = Facts(
    RequestFacts(
        "demo", "/v1/chat/completions", "acompletion", True, 1_000, ("search", "shell"), 0.7, 2_000, True, ("web",)
    ),
    CallerFacts("my-agent", "0" * 64, "ada", "research", "acme", "internal_user", "customer-7", ("batch",)),
    AgentFacts("planner", "session-1"),
    CostFacts(0.02, 500, 1_000),
    {"EMAIL_ADDRESS": 1, "PHONE_NUMBER": 2},
    ScreensFacts(("secrets", "blocked_content/illegal")),
    SpendFacts(12.5, 100.0),
    NowFacts(14, 3),
)
"""A call with every fact known, on which `when` conditions are tried when they are loaded."""
