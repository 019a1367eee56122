"""The formats of secrets as a table, each with its own id: documented by their issuers, or known from their keys.

detect-secrets' patterns come last, for what Gatehouse's own do not name. Its entropy and keyword plug-ins are left out,
because they report every hash and every `password:`, and so is the one for public addresses.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import regex  # type: ignore[import-untyped]
from detect_secrets.plugins.jwt import JwtTokenDetector

from gatehouse.guards.screens.prefixes import NAMED, TOKENS


def _any(value: str) -> bool:
    return True


def _mixed(value: str) -> bool:
    """Require capitals, small letters and digits, which neither words nor a hash have."""
    return any(map(str.isupper, value)) and any(map(str.islower, value)) and any(map(str.isdigit, value))


def _mixed_or_hex(value: str) -> bool:
    return _mixed(value) or (len(value) >= 32 and set(value) <= set("0123456789abcdef"))


def _digits_too(value: str) -> bool:
    return any(map(str.isdigit, value)) and any(map(str.isalpha, value))


def _no_words(value: str) -> bool:
    """Require digits, or capitals and small letters; a hundred of a hundred random tokens pass."""
    return any(map(str.isdigit, value)) or (any(map(str.isupper, value)) and any(map(str.islower, value)))


def _random(value: str) -> bool:
    """Require what a drawn key has and a name in a program has not: digits in it, and no long words."""
    if len(value) >= 32 and set(value.lower()) <= set("0123456789abcdef-"):
        return True
    if not _digits_too(value):
        return False
    digits = sum(map(str.isdigit, value))
    longest = max(map(len, _SMALL.findall(value)), default=0)
    return (digits >= 3 and longest <= _LONG_WORD) or (_mixed(value) and longest < _LONG_WORD)


_SMALL = regex.compile("[a-z]+")
_LONG_WORD = 7


def _is_discord(value: str) -> bool:
    """Require that the first part is the number of a bot in base64."""
    try:
        return base64.b64decode(value.partition(".")[0] + "==", altchars=b"-_").isdigit()
    except ValueError:
        return False


def _is_pair(value: str) -> bool:
    """Require a user and a password in base64, which are not the same word."""
    try:
        user, colon, password = base64.b64decode(value + "=" * (-len(value) % 4)).decode().partition(":")
    except ValueError:
        return False
    return bool(user and colon and password and user != password and password.isprintable() and _is_password(password))


def _mixed_after(value: str) -> bool:
    return _mixed(value.partition("|")[2])


def _is_django(value: str) -> bool:
    return value.startswith("django-insecure-") or (any(map(str.isdigit, value)) and " " not in value)


def _is_jwt(value: str) -> bool:
    return bool(JwtTokenDetector.is_formally_valid(value))


_NO_PASSWORD = frozenset(
    """
    pass password passwd pwd pw secret changeme example user username root admin test guest token apikey api_key key
    postgres mysql redis rabbitmq minio minioadmin mongo mongodb elastic docker dev local localhost password1
    password123 admin123 test123 123456 12345 1234 foobar hunter2 my-password mypassword my_password your-password
    yourpassword yourpass your_password pass123 p4ssw0rd passw0rd p%40ss tiger xxx foo bar baz x-oauth-basic
    """.split()
)


# `key_1234` and the like.
_NO_PASSWORD_EITHER = regex.compile(r"(?i)(?:key|pass|token|secret|pwd?|password|repo)[_-]?[0-9]{0,4}")


def _is_password(value: str) -> bool:
    if _NO_PASSWORD_EITHER.fullmatch(value):
        return False
    same = len(value) > 2 and len(set(value)) == 1
    return not same and value[0] not in "$%{<[*#" and value.lower() not in _NO_PASSWORD and "..." not in value


# A private key has more letters and digits than a text that only mentions one.
MIN_PEM = 60


def _is_pem(value: str) -> bool:
    return sum(map(str.isalnum, value)) >= MIN_PEM


@dataclass(frozen=True, slots=True)
class Format:
    """Describe one kind of secret.

    Attributes:
        id: the rule's name in a hit.
        anchors: in small letters; a text without any of them holds no such secret, and is not searched.
        pattern: the regular expression.
        score: how certain a match is.
        check: a further test of the secret.
        group: the pattern's group that is the secret.
        words: whether words in it mark it as a placeholder; a chosen password or a key's lines may hold any word.
    """

    id: str
    anchors: tuple[str, ...]
    pattern: Any
    score: float = 1.0
    check: Callable[[str], bool] = _any
    group: int = 0
    words: bool = True


# A token neither follows nor precedes a character of its own kind. The letter of an escape (\\n) does not count as one.
_BEGIN, _END = r"(?:(?<![A-Za-z0-9_])|(?<=\\[bfnrt]))", r"(?![A-Za-z0-9_-])"


def _token(name: str, anchors: str, pattern: str, check: Callable[[str], bool] = _any, score: float = 1.0) -> Format:
    compiled = regex.compile(f"{_BEGIN}(?:{pattern}){_END}")
    return Format(name, tuple(anchors.split()), compiled, score, check, compiled.groups)


def _within(
    name: str,
    anchors: str,
    pattern: str,
    check: Callable[[str], bool] = _any,
    score: float = 0.9,
    *,
    words: bool = True,
) -> Format:
    """Make the format of a secret that is known by the text around it; the pattern's only group is the secret."""
    return Format(name, tuple(anchors.split()), regex.compile(pattern), score, check, 1, words)


_B64 = "[A-Za-z0-9_-]"


def formats() -> tuple[Format, ...]:
    """Return every format; of two that match the same text the first counts."""
    return (
        Format(
            "private_key",
            ("private key",),
            regex.compile(
                r"-----BEGIN (?:[A-Z0-9]{2,12} ){0,4}PRIVATE KEY(?: BLOCK)?-----"
                r"((?:[^-]|-(?!----)){60,20000}+)(?:-----END [A-Z0-9 ]{1,60}-----)?"
            ),
            check=_is_pem,
            words=False,
        ),
        *_of_models(),
        *_of_clouds(),
        *_of_platforms(),
        *_of_connections(),
        *_of_issuers(),
        *_of_detect_secrets(),
    )


def _of_models() -> Iterable[Format]:
    """Return the formats of model services, of this gateway and of code hosts."""
    return (
        _token("gatehouse_key", "sk-gatehouse-", rf"sk-gatehouse-{_B64}{{20,100}}+"),
        _token("anthropic_key", "sk-ant-", rf"sk-ant-{_B64}{{20,200}}+"),
        _token("openrouter_key", "sk-or-", r"sk-or-v1-[a-f0-9]{64}"),
        _token("openai_key", "sk-proj- sk-svcacct- sk-admin-", rf"sk-(?:proj|svcacct|admin)-{_B64}{{20,250}}+"),
        _token("openai_key", "t3blbkfj", rf"sk-{_B64}{{20,120}}T3BlbkFJ{_B64}{{20,120}}+"),
        # Keys of DeepSeek and other compatible services, and LiteLLM's virtual keys.
        _token("sk_key", "sk-", rf"sk-{_B64}{{20,100}}+", lambda value: _mixed_or_hex(value[3:]), 0.9),
        _token("github_token", "github_pat_", r"github_pat_[A-Za-z0-9_]{22,255}+"),
        _token("github_token", "gho_ ghp_ ghu_ ghs_ ghr_", r"gh[opusr]_[A-Za-z0-9]{36,255}+"),
        _token("gitlab_token", "glpat-", r"glpat-[A-Za-z0-9_.-]{20,120}+"),
        _token("google_api_key", "aiza", rf"AIza{_B64}{{35}}"),
        _token("google_oauth", "gocspx-", rf"GOCSPX-{_B64}{{28}}"),
        _token("google_oauth", "ya29.", rf"ya29\.{_B64}{{30,1000}}+", _mixed),
        _token("huggingface_token", "hf_", r"hf_[A-Za-z0-9]{34,40}+", lambda value: not value[3:].islower()),
        _token("groq_key", "gsk_", r"gsk_[A-Za-z0-9]{48,60}+"),
        _token("xai_key", "xai-", r"xai-[A-Za-z0-9]{60,100}+"),
        _token("replicate_token", "r8_", r"r8_[A-Za-z0-9]{37}"),
        _token("perplexity_key", "pplx-", r"pplx-[A-Za-z0-9]{40,60}+"),
        _token("nvidia_key", "nvapi-", rf"nvapi-{_B64}{{60,80}}+"),
    )


def _of_clouds() -> Iterable[Format]:
    """Return the formats of Slack, Discord, Stripe, Amazon, Microsoft and DigitalOcean."""
    return (
        _token("slack_token", "xox", r"xox[abceoprs](?:\.xox[bp])?-[A-Za-z0-9-]{20,250}+", _digits_too),
        _token("slack_token", "xapp-", r"xapp-\d-[A-Za-z0-9]{8,16}-\d{8,16}-[a-f0-9]{40,80}+"),
        _within(
            "slack_webhook",
            "hooks.slack.com",
            r"(?i)https://hooks\.slack\.com/(?:services|workflows|triggers)/([A-Z0-9]+/[A-Z0-9/]+)",
            _digits_too,
            1.0,
        ),
        _within(
            "discord_webhook",
            "/api/webhooks/",
            r"https://(?:\w{1,10}\.)?discord(?:app)?\.com/api/webhooks/\d{15,22}/([A-Za-z0-9_-]{50,90})",
            score=1.0,
        ),
        _token("stripe_key", "k_live_ k_test_", r"[rs]k_(?:live|test)_[A-Za-z0-9]{16,250}+", _no_words),
        _token("stripe_webhook", "whsec_", r"whsec_[A-Za-z0-9+/=]{32,100}+", _mixed),
        _token("aws_access_key", "akia asia abia acca a3t", r"(?:AKIA|ASIA|ABIA|ACCA|A3T[A-Z0-9])[A-Z0-9]{16}"),
        _within(
            "aws_secret_key",
            "secret",
            r"(?i:secret[_ -]?(?:access[_ -]?)?key)[^A-Za-z0-9/+\n]{1,8}+([A-Za-z0-9/+]{40})(?![\w/+=])",
            _mixed,
        ),
        _within(
            "azure_key",
            "accountkey= accesskey= sharedsecret=",
            r"(?i:AccountKey|SharedAccessKey|AccessKey|SharedSecret)=([A-Za-z0-9+/]{40,88}={0,2})",
            _mixed,
            1.0,
        ),
        _within("azure_sas", "sig=", r"[?&]sig=([A-Za-z0-9%+/]{40,70}(?:%3D|=))", _mixed),
        _token("azure_client_secret", "q~", r"[A-Za-z0-9_~.]{3}\dQ~[A-Za-z0-9_~.-]{31,34}+", _mixed),
        _token("azure_openai_key", "jqqj99", r"[A-Za-z0-9]{52}JQQJ99[A-Za-z0-9]{20,30}+"),
        _token("digitalocean_token", "_v1_", r"do[opr]_v1_[a-f0-9]{64}"),
    )


def _of_platforms() -> Iterable[Format]:
    """Return the formats of the services that developers build, publish and deploy with."""
    return (
        _token("npm_token", "npm_", r"npm_[A-Za-z0-9]{36}"),
        _within("npm_token", "_authtoken", r"(?i::_authToken)\s?=\s?\"?([\w-]{36,80}+)", _digits_too, 1.0),
        _token("pypi_token", "pypi-", rf"pypi-Ag{_B64}{{50,1000}}+"),
        _token("docker_token", "dckr_", rf"dckr_[po]at_{_B64}{{27,32}}+"),
        _token("databricks_token", "dapi", r"dapi[a-f0-9]{32}(?:-\d)?"),
        _token("shopify_token", "shp", r"shp(?:at|ca|pa|ss)_[a-fA-F0-9]{32}"),
        _token("linear_key", "lin_api_", r"lin_api_[A-Za-z0-9]{40}"),
        _token("notion_token", "ntn_ secret_", r"(?:ntn_[A-Za-z0-9]{40,50}+|secret_[A-Za-z0-9]{43})", _mixed),
        _token("vault_token", "hvs. hvb.", rf"hv[sb]\.{_B64}{{24,300}}+", _mixed),
        _token("grafana_token", "glsa_ glc_", r"(?:glsa_[A-Za-z0-9]{32}_[a-fA-F0-9]{8}|glc_[A-Za-z0-9+/=]{40,400}+)"),
        _token("postman_key", "pmak-", r"PMAK-[a-f0-9]{24}-[a-f0-9]{34}"),
        _token("age_key", "age-secret-key-1", r"AGE-SECRET-KEY-1[A-Z0-9]{58}"),
        _token("twilio_key", "sk", r"SK[0-9a-f]{32}"),
        _token("sendgrid_key", "sg.", rf"SG\.{_B64}{{16,32}}\.{_B64}{{30,60}}+"),
        _token("jwt", "eyj", rf"eyJ{_B64}{{10,2000}}+\.eyJ{_B64}{{4,8000}}+\.{_B64}{{16,2000}}+", _is_jwt),
    )


def _of_connections() -> Iterable[Format]:
    """Return the formats of passwords and tokens in addresses, connection strings and headers."""
    return (
        Format(
            "url_password",
            ("://",),
            # `postgres:postgres@` of every example is no secret.
            regex.compile(r"""://([^\s:/@"'<>`]{0,100}+):(?!\1@)([^\s/@"'<>`]{1,200}+)@[A-Za-z0-9\[.-]"""),
            0.9,
            _is_password,
            2,
            words=False,
        ),
        _within(
            "connection_string",
            "password= pwd=",
            r"(?i)(?:server|data source|host)\s?=[^;\n]{1,200}+;(?:[^;\n]{0,200}+;){0,8}?\s?"
            r"""(?:password|pwd)\s?=\s?([^;\s"']{3,100}+)""",
            _is_password,
            words=False,
        ),
        _within(
            "authorization_header",
            "authorization",
            r"(?i)authorization[\"']?\s?[:=]\s?[\"']?(?:bearer|basic|token)\s+([A-Za-z0-9+/_.=~-]{20,2000}+)",
            _mixed_or_hex,
        ),
    )


_CHECK_OF = {
    "any": _any,
    "mixed": _mixed,
    "digits": _digits_too,
    "random": _random,
    "discord": _is_discord,
    "basic": _is_pair,
    "mixed_after": _mixed_after,
    "password": _is_password,
    "django": _is_django,
    "seed": _any,
}


def _of_issuers() -> Iterable[Format]:
    """Yield the formats of the table of prefixes."""
    for name, anchors, pattern, check in TOKENS:
        yield _token(name, anchors, pattern, _CHECK_OF[check])
    for name, anchors, pattern, check, words in NAMED:
        yield _within(name, anchors, pattern, _CHECK_OF[check], words=words)


# Also left out: npm's (its time grows with the square of the text; ours stands above), and those for JWT, private keys,
# addresses and Twilio, because Gatehouse's own are more certain.
# Module of detect_secrets.plugins: anchors, and whether its patterns have to be kept from matching in longer tokens.
_PLUGINS: dict[str, tuple[tuple[str, ...], bool]] = {
    "artifactory": (("akc", "ap"), False),
    "aws": (("aws",), True),
    "azure_storage_key": (("accountkey=",), True),
    "cloudant": (("cloudant",), False),
    "discord": ((".",), True),
    "github_token": (("gho_", "ghp_", "ghu_", "ghs_", "ghr_"), True),
    "gitlab_token": (("gl", "gr1348941"), True),
    "ibm_cloud_iam": (("ibm", "iam", "cloud"), False),
    "ibm_cos_hmac": (("hmac", "cos"), False),
    "mailchimp": (("-us",), True),
    "openai": (("t3blbkfj",), True),
    "pypi_token": (("pypi-",), True),
    "sendgrid": (("sg.",), True),
    "slack": (("xox", "hooks.slack.com"), False),
    "softlayer": (("softlayer", "sl_", "sl-"), False),
    "square_oauth": (("sq0csp-",), True),
    "stripe": (("k_live_",), True),
    "telegram_token": ((":",), True),
}


_CHECKS = {"artifactory": _mixed, "cloudant": _any, "gitlab_token": _no_words}


def _of_detect_secrets() -> Iterable[Format]:
    """Yield detect-secrets' patterns, compiled so that they can be interrupted. None of its other code runs."""
    for name, (anchors, whole) in _PLUGINS.items():
        module = import_module(f"detect_secrets.plugins.{name}")
        for plugin in vars(module).values():
            if isinstance(plugin, type) and plugin.__module__ == module.__name__ and hasattr(plugin, "denylist"):
                for pattern in plugin.denylist:
                    # regex and re have the same values for these flags.
                    flags = int(pattern.flags) & (regex.I | regex.X)
                    source = f"{_BEGIN}(?:{pattern.pattern}){_END}" if whole else pattern.pattern
                    yield Format(name, anchors, regex.compile(source, flags), 0.9, _CHECKS.get(name, _digits_too))
