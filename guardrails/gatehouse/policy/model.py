"""policy.yaml as values: every section, every key, and the limits on each value.

An unknown key is an error: a rule that is not understood must not look as if it were in force. `load.py` checks whether
this gateway can enforce a section, and `check.py` whether a rule's `when` makes sense.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated, Any, Final, Literal
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictBool,
    StrictInt,
    StringConstraints,
    model_validator,
)

from gatehouse.core.decision import Obligation, Verdict

MAX_WHEN = 2_000
"""Characters of one `when`: about thirty lines, and far too few to make CEL's parser slow."""

_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)")
_DAY_S: Final = 86_400.0
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": _DAY_S}


def _route(route: str) -> str:
    if not route.startswith("/") or route.rstrip("*") == "/":
        raise ValueError(f"{route!r} is not a route; write a path such as /v1/files or /vertex_ai/*")
    return route


def _seconds(value: Any) -> Any:
    if isinstance(value, str):
        match = _DURATION.fullmatch(value)
        if match is None:
            raise ValueError(f"{value!r} is not a duration; write one such as 30s, 2m or 500ms")
        return float(match[1]) * _UNITS[match[2]]
    return value


def _modes(value: Any) -> Any:
    """Turn a plain list of entities into a mapping that gives each the section's own mode."""
    if isinstance(value, list) and all(isinstance(name, str) for name in value):
        return dict.fromkeys(value)
    return value


def _off(value: Any) -> Any:
    """Read the bare word `off`, which YAML 1.1 turns into false."""
    return "off" if value is False else value


def _lifetime(value: Any) -> Any:
    return 0.0 if value is False or value == "off" else _seconds(value)


def _url(url: str) -> str:
    if not re.match(r"https?://[^/\s]", url):
        raise ValueError(f"{url!r} is not an address; write one such as https://opa.example/v1/data/gatehouse/allow")
    return url


def _server(name: str) -> str:
    if not re.fullmatch(r"https?://[a-z0-9.:\[\]-]+(/[!-~]*)?|[A-Za-z0-9_.-]{1,100}", name):
        raise ValueError(
            f"{name!r} is neither a server nor a connector; write one such as https://mcp.example/ or connector_gmail"
        )
    return name


def _stored(entry: str) -> str:
    kinds = "file|vector_store|prompt|cached_prompt|skill"
    if not re.fullmatch(rf"(?:{kinds}):(?:[A-Za-z0-9._:/@+=~%-]{{1,512}}\*?|\*)", entry):
        raise ValueError(
            f"{entry!r} is nothing that a provider stores; write file:ID, vector_store:ID, prompt:ID, "
            "cached_prompt:ID or skill:ID, or file:* for all files"
        )
    return entry


def _webhook_url(url: str) -> str:
    """Check an address that may be logged: its secret parts do not belong in the file."""
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        usable = False
    if not usable or not re.fullmatch(r"[!-~]+", url):
        raise ValueError("that is not an address; write one such as https://hooks.example/gatehouse")
    if "@" in parts.netloc or "?" in url or "#" in url:
        raise ValueError("an address here has no user, password, query or fragment; secrets stay out of this file")
    return url


def _variable(name: str) -> str:
    if not re.fullmatch(r"[A-Z_][A-Z0-9_]{0,99}", name):
        raise ValueError("write the name of an environment variable, such as APPROVALS_SECRET, never the secret itself")
    return name


def _mailbox(address: str) -> str:
    # HTML's definition of a valid e-mail address: no display name, no quotes, nothing that could end a header.
    if len(address) > 254 or not re.fullmatch(
        r"[\w.!#$%&'*+/=?^`{|}~-]+@[a-z\d](?:[a-z\d.-]*[a-z\d])?", address, re.A | re.I
    ):
        raise ValueError(f"{address!r} is not an e-mail address; write one such as approvers@example.com")
    return address


Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_.-]*$", max_length=64)]
EntityName = Annotated[str, StringConstraints(pattern=r"^[A-Z][A-Z0-9_]*$", max_length=64)]
Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=500)]
StoredData = Annotated[str, AfterValidator(_stored)]
Route = Annotated[str, AfterValidator(_route)]
Variable = Annotated[str, AfterValidator(_variable)]
Mailbox = Annotated[str, AfterValidator(_mailbox)]
PositiveInt = Annotated[StrictInt, Field(gt=0)]
Dollars = Annotated[float, Field(gt=0, strict=True, allow_inf_nan=False)]
Score = Annotated[float, Field(ge=0, le=1, strict=True)]
# A held connection ends within ten minutes, the time-out of OpenAI's own clients.
Hold = Annotated[float, BeforeValidator(_seconds), Field(ge=0, le=600, strict=True)]
Timeout = Annotated[float, BeforeValidator(_seconds), Field(gt=0, le=10, strict=True)]
Lifetime = Annotated[float, BeforeValidator(_lifetime), Field(ge=0, le=365 * _DAY_S, strict=True)]
OnError = Literal["deny", "allow"]
PiiMode = Annotated[Literal["mask", "block", "observe", "off"], BeforeValidator(_off)]
SecretsMode = Annotated[Literal["mask", "block", "observe", "off"], BeforeValidator(_off)]
ScreenMode = Annotated[Literal["block", "observe", "off"], BeforeValidator(_off)]


class Section(BaseModel):
    """Configure what all parts of the file have in common."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class AuditPolicy(Section):
    """`audit`: what the ledger records, in which chains, and what happens while it cannot be written."""

    content: Literal["hash", "redacted", "full"] = Field(
        default="hash", description="What to record of prompt and answer: a digest, text without personal data, or all."
    )
    chain: Literal["single", "team"] = Field(default="single", description="One chain, or one for each team.")
    on_error: Literal["deny", "spool"] = Field(
        default="deny", description="Refuse calls while the ledger cannot be written, or spool their records in a file."
    )


class LimitsPolicy(Section):
    """`limits`: the most that one request may use. A caller may lower them, never raise them."""

    max_tokens_per_request: PositiveInt | None = Field(default=None, description="Input and output tokens together.")
    max_cost_per_request_usd: Dollars | None = Field(default=None, description="Estimated before the call is sent.")
    allow_unpriced_models: tuple[Text, ...] = Field(
        default=(), description="Models that may be called although their price is unknown."
    )


class HostedMcpPolicy(Section):
    """`hosted_mcp`: servers whose tools a model's provider may call directly, past the gateway. None as shipped."""

    allow: tuple[Annotated[str, AfterValidator(_server)], ...] = Field(
        default=(),
        max_length=1_000,
        description="Addresses, each with everything below it, and names of connectors.",
    )


class ProviderDataPolicy(Section):
    """`provider_data`: data that a provider stores for the operator, and requests may name. None as shipped."""

    allow: tuple[StoredData, ...] = Field(
        default=(),
        max_length=10_000,
        description="For all callers: file:ID, vector_store:ID, prompt:ID; a trailing `*` stands for any ending.",
    )
    teams: dict[Text, Annotated[tuple[StoredData, ...], Field(max_length=10_000)]] = Field(
        default={}, description="For one team only, by its name in `caller.team`."
    )

    def allowed_to(self, team: str | None) -> frozenset[str]:
        """Return what a caller of this team may refer to."""
        return frozenset((*self.allow, *(self.teams.get(team, ()) if team else ())))


class ScreensPolicy(Section):
    """`screens`: what to look for in prompts and answers. A hit blocks the call, or is only a fact for the rules;
    secrets can be masked."""

    blocked_content: dict[Name, tuple[Text, ...]] = Field(
        default={}, description="Words and phrases by category; any of them blocks."
    )
    secrets: SecretsMode = Field(
        default="off", description="`mask` sends a placeholder, and the answer has the secret again."
    )
    prompt_injection: ScreenMode = "off"
    on_error: OnError = Field(default="deny", description="What happens to a call that could not be screened.")


class PatternPolicy(Section):
    """Define one pattern of a custom recognizer."""

    regex: Annotated[str, StringConstraints(min_length=1, max_length=1_000)]
    score: Score = 0.5


class RecognizerPolicy(Section):
    """Define a custom recognizer: patterns or a list of words that stand for one entity."""

    entity: EntityName
    patterns: tuple[PatternPolicy, ...] = ()
    deny_list: tuple[Text, ...] = Field(default=(), description="Words that are always this entity.")
    context: tuple[Text, ...] = Field(default=(), description="Nearby words that raise the score.")

    @model_validator(mode="after")
    def _finds_something(self) -> RecognizerPolicy:
        if not self.patterns and not self.deny_list:
            raise ValueError(f"the recognizer of {self.entity} finds nothing; give it patterns or a deny_list")
        return self


class PiiPolicy(Section):
    """`pii`: personal data, and how the gateway treats it."""

    mode: PiiMode = "mask"
    scope: Literal["team", "key", "call"] = Field(
        default="team",
        description="Where the same value has the same placeholder. A key without a team has a scope of its own.",
    )
    unmask_links: Literal["same_host", "all", "none"] = Field(
        default="same_host",
        description="Into which links of an answer values are put back: those to hosts that system or user text names.",
    )
    remember: Lifetime = Field(
        default=30 * _DAY_S,
        description="How long the values of a conversation are kept that the provider stores; off: not at all.",
    )
    entities: Annotated[dict[EntityName, PiiMode | None], BeforeValidator(_modes)] = Field(
        default={}, description="What to look for: a list, or a mode for each. Empty means the reliable ones."
    )
    min_score: dict[EntityName, Annotated[float, Field(ge=0, le=1)]] = Field(
        default={}, description="The lowest score that counts, by entity; 0.4 for those that are not named."
    )
    languages: tuple[Annotated[str, StringConstraints(pattern=r"^[a-z]{2}$")], ...] = Field(
        default=("en",), min_length=1
    )
    recognizers: tuple[RecognizerPolicy, ...] = ()
    allow_list: tuple[Text, ...] = Field(default=(), max_length=10_000, description="Values that are never a finding.")
    ner: StrictBool = Field(default=False, description="Look for names too, with an English language model.")
    on_error: OnError = Field(default="deny", description="What happens to text that could not be scanned.")


class ApproversPolicy(Section):
    """Say who may approve a call: any person whose user, role or team is named."""

    roles: tuple[Text, ...] = ()
    users: tuple[Text, ...] = ()
    teams: tuple[Text, ...] = ()
    count: Annotated[StrictInt, Field(ge=1, le=10)] = Field(default=1, description="How many different people.")
    hold: Hold = Field(default=0.0, description="How long the connection waits for them, in seconds.")

    @model_validator(mode="after")
    def _can_be_met(self) -> ApproversPolicy:
        if self.users and not self.roles and not self.teams and self.count > len(set(self.users)):
            raise ValueError(f"count: {self.count} people must approve, but only {len(set(self.users))} may")
        return self


class ApprovalsPolicy(Section):
    """`approvals`: the most approvals that may be pending at once."""

    max_open_per_key: PositiveInt = Field(
        default=20, description="Requests of one key that wait for approval, or are approved and not sent yet."
    )


class ObligationsPolicy(Section):
    """Say what must be done to a call that a rule lets through."""

    mask: StrictBool = Field(default=False, description="Mask personal data, whatever `pii` says.")
    downgrade_to: Text | None = Field(default=None, description="Send it to this model instead.")
    max_tokens: PositiveInt | None = Field(default=None, description="The most output tokens it may ask for.")
    tag: Name | None = Field(default=None, description="Record this tag with the call.")

    @model_validator(mode="after")
    def _obliges(self) -> ObligationsPolicy:
        if self.obligation == Obligation():
            raise ValueError("no obligation is set; write mask, downgrade_to, max_tokens or tag, or leave it out")
        return self

    @property
    def obligation(self) -> Obligation:
        return Obligation(self.mask, self.downgrade_to, self.max_tokens, (self.tag,) if self.tag else ())


class RulePolicy(Section):
    """Define one rule: if its condition `when` holds, `then` is its verdict."""

    id: Name
    when: Annotated[str, StringConstraints(min_length=1, max_length=MAX_WHEN)]
    then: Literal["deny", "require_approval", "allow"]
    reason: Text | None = Field(default=None, description="The explanation for the caller.")
    mode: Literal["enforce", "observe"] = "enforce"
    approvers: ApproversPolicy | None = Field(default=None, description="Without them, an administrator approves.")
    obligations: ObligationsPolicy | None = None

    @model_validator(mode="after")
    def _fits_together(self) -> RulePolicy:
        if self.approvers is not None and self.then != "require_approval":
            raise ValueError(f"approvers belong to `then: require_approval`, but rule {self.id} says {self.then}")
        if self.obligations is not None and self.then == "deny":
            raise ValueError(f"rule {self.id} denies, so its obligations would never be carried out; leave them out")
        return self

    @property
    def verdict(self) -> Verdict:
        return Verdict(self.then)


class DeciderPolicy(Section):
    """Define an outside policy decision point, asked after the rules."""

    id: Name
    url: Annotated[str, AfterValidator(_url)]
    timeout: Timeout = Field(default=1.0, description="Seconds without an answer that count as an error.")
    on_error: OnError = Field(default="deny", description="What happens to a call that it could not decide on.")


_NOTIFY_WITH: Final = {
    "webhook": frozenset({"url", "secret_env"}),
    "slack": frozenset({"url_env"}),
    "email": frozenset({"to", "from", "smtp_url_env"}),
}


class NotificationPolicy(Section):
    """Say whom to notify when a call needs approval and when it is decided. Secrets are environment variables."""

    type: Literal["webhook", "slack", "email"]
    url: Annotated[str, AfterValidator(_webhook_url)] | None = Field(default=None, description="A webhook's address.")
    secret_env: Variable | None = Field(default=None, description="Holds the key that a webhook is signed with.")
    url_env: Variable | None = Field(default=None, description="Holds the address of a Slack-compatible webhook.")
    to: Mailbox | None = None
    sender: Mailbox | None = Field(default=None, alias="from")
    smtp_url_env: Variable | None = Field(
        default=None, description="Holds the mail server, such as smtps://user:password@host."
    )

    @model_validator(mode="after")
    def _is_complete(self) -> NotificationPolicy:
        given = set(self.model_dump(exclude_none=True, by_alias=True)) - {"type"}
        wanted = _NOTIFY_WITH[self.type]
        if missing := wanted - given:
            raise ValueError(
                f"type {self.type} wants {', '.join(sorted(wanted))}; {', '.join(sorted(missing))} is missing"
            )
        if strange := given - wanted:
            raise ValueError(f"type {self.type} has no {', '.join(sorted(strange))}; leave it out")
        return self

    @property
    def name(self) -> str:
        """Return the name of this address in the outbox, the log and the metrics; it holds no secret."""
        return f"{self.type} {self.url or self.url_env or self.to}"


def _named_once(notifications: Sequence[NotificationPolicy]) -> Sequence[NotificationPolicy]:
    names = [each.name for each in notifications]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise ValueError(f"{twice} is given twice, and each address is notified once; leave one out")
    return notifications


class Policy(Section):
    """Hold the whole file. `load.py` checks that no id is given twice, because it knows the line."""

    version: Literal[1]
    ungoverned_routes: tuple[Route, ...] = Field(
        default=(), description="Routes let through without governance; a trailing `*` stands for any ending."
    )
    limits: LimitsPolicy | None = None
    hosted_mcp: HostedMcpPolicy = HostedMcpPolicy()
    provider_data: ProviderDataPolicy = ProviderDataPolicy()
    screens: ScreensPolicy | None = None
    pii: PiiPolicy | None = None
    rules: tuple[RulePolicy, ...] = Field(default=(), max_length=1_000)
    deciders: tuple[DeciderPolicy, ...] = Field(default=(), max_length=10)
    approvals: ApprovalsPolicy = ApprovalsPolicy()
    notifications: Annotated[tuple[NotificationPolicy, ...], AfterValidator(_named_once)] = Field(
        default=(), max_length=20, description="Who is notified of approvals."
    )
    audit: AuditPolicy = AuditPolicy()
