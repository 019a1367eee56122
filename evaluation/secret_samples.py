"""Makes secrets and texts that look like secrets, from a seed.

This repository contains no key: each one is its issuer's prefix and random characters, put together at run time.
"""

from __future__ import annotations

import base64
import hashlib
import json
import random
import re
import string
import uuid
from collections.abc import Iterator
from pathlib import Path

from evaluation.disguises import DISGUISES

_ALPHABETS = {
    "a": string.ascii_letters + string.digits,
    "b": string.ascii_letters + string.digits + "-_",
    "c": string.ascii_letters + string.digits + "+/",
    "h": "0123456789abcdef",
    "d": string.digits,
    "l": string.ascii_lowercase + string.digits,
    "u": string.ascii_uppercase + string.digits,
    "L": string.ascii_letters,
}
# `{a36}` is 36 characters of alphabet a; the text between `<` and `>` is the secret. The frozen set holds
# these too, so a format that is added or changed belongs somewhere else.
FORMATS = {
    "openai": "<sk-proj-{b20}_{a53}T3BlbkFJ{b74}>",
    "openai service account": "<sk-svcacct-{b58}T3BlbkFJ{b58}>",
    "openai legacy": "<sk-{a20}T3BlbkFJ{a20}>",
    "anthropic": "<sk-ant-api03-{b93}AA>",
    "openrouter": "<sk-or-v1-{h64}>",
    "deepseek": "<sk-{h32}>",
    "virtual key": "<sk-{a22}>",
    "gatehouse": "<sk-gatehouse-{b43}>",
    "github": "<ghp_{a36}>",
    "github oauth": "<gho_{a36}>",
    "github server": "<ghs_{a36}>",
    "github fine-grained": "<github_pat_{a22}_{a59}>",
    "gitlab": "<glpat-{b20}>",
    "gitlab runner": "<glrt-{b20}>",
    "google": "<AIza{b35}>",
    "google oauth": "<GOCSPX-{b28}>",
    "huggingface": "<hf_{L34}>",
    "groq": "<gsk_{a52}>",
    "replicate": "<r8_{a37}>",
    "slack bot": "<xoxb-{d12}-{d13}-{a24}>",
    "slack app": "<xapp-1-A{u10}-{d13}-{h64}>",
    "slack webhook": "https://hooks.slack.com/services/<T{u10}/B{u10}/{a24}>",
    "discord webhook": "https://discord.com/api/webhooks/{d18}/<{b68}>",
    "stripe": "<sk_live_{a24}>",
    "stripe new": "<sk_live_51{a97}>",
    "stripe restricted": "<rk_live_{a24}>",
    "stripe webhook": "<whsec_{a32}>",
    "aws id": "<AKIA{u16}>",
    "aws session id": "<ASIA{u16}>",
    "aws secret": "aws_secret_access_key = <{c40}>",
    "aws secret json": '"SecretAccessKey": "<{c40}>"',
    "azure storage": "DefaultEndpointsProtocol=https;AccountName=x{l8};AccountKey=<{c86}==>;EndpointSuffix=x.net",
    "azure client": "<{a3}8Q~{a34}>",
    "digitalocean": "<dop_v1_{h64}>",
    "npm": "<npm_{a36}>",
    "npmrc": "//registry.npmjs.org/:_authToken=<{h8}-{h4}-{h4}-{h4}-{h12}>",
    "pypi": "<pypi-AgEIcHlwaS5vcmcC{b130}>",
    "docker": "<dckr_pat_{b27}>",
    "databricks": "<dapi{h32}>",
    "shopify": "<shpat_{h32}>",
    "linear": "<lin_api_{a40}>",
    "vault": "<hvs.{b90}>",
    "grafana": "<glsa_{a32}_{h8}>",
    "age": "<AGE-SECRET-KEY-1{u58}>",
    "twilio": "<SK{h32}>",
    "sendgrid": "<SG.{b22}.{b43}>",
    "mailchimp": "<{h32}-us14>",
    "telegram": "<{d10}:AA{b33}>",
    "square": "<sq0csp-{b43}>",
    "postgres": "postgres://app:<{a12}>@db.internal:5432/app",
    "redis": "redis://:<{a20}>@cache:6379/0",
    "mongodb": "mongodb+srv://svc:<{a16}>@cluster0.{l5}.mongodb.net/?retryWrites=true",
    "basic auth": "https://deploy:<{a14}>@git.internal/org/repo.git",
    "ado": "Server=tcp:db.internal,1433;Database=app;User Id=app;Password=<{a14}>;Encrypt=True",
    "bearer": "Authorization: Bearer <{a40}>",
}
_AROUND = (
    "{}",
    "export TOKEN={}",
    "Why do I get a 401 with {} on the staging server?",
    '{{"name": "prod", "credentials": "{}"}}',
    "config:\n  retries: 3\n  token: {}\n  timeout: 30",
    "Here it is: `{}`. Please do not share it.",
)
_DISGUISED = ("zero_width", "fullwidth", "base64", "percent")


def drawn(template: str, rng: random.Random) -> str:
    """Fill a format with random characters."""
    return re.sub(r"\{(\w)(\d+)\}", lambda part: "".join(rng.choices(_ALPHABETS[part[1]], k=int(part[2]))), template)


def pem(rng: random.Random, kind: str) -> str:
    """Return a private key of that kind, which opens nothing."""
    body = base64.b64encode(rng.randbytes(600)).decode()
    lines = "\n".join(body[at : at + 64] for at in range(0, len(body), 64))
    return f"<-----BEGIN {kind}-----\n{lines}\n-----END {kind}----->"


def jwt(rng: random.Random) -> str:
    """Return a JSON Web Token that no key has signed."""
    parts = [{"alg": "RS256", "typ": "JWT"}, {"sub": str(rng.randrange(10**6)), "exp": rng.randrange(10**9, 2 * 10**9)}]
    raw = [json.dumps(each).encode() for each in parts]
    return (
        "<" + ".".join(base64.urlsafe_b64encode(each).decode().rstrip("=") for each in [*raw, rng.randbytes(64)]) + ">"
    )


def secrets(seed: int) -> Iterator[tuple[str, str, tuple[int, int]]]:
    """Yield texts with one secret: its kind, the text, and the place of the secret."""
    rng = random.Random(seed)  # noqa: S311 - for a test, and the same each time
    values = [(kind, drawn(template, rng)) for _ in range(3) for kind, template in FORMATS.items()]
    values += [("jwt", jwt(rng)) for _ in range(4)]
    values += [("private key", pem(rng, kind)) for kind in ("PRIVATE KEY", "RSA PRIVATE KEY", "OPENSSH PRIVATE KEY")]
    values.append(("private key in JSON", pem(rng, "PRIVATE KEY").replace("\n", "\\n")))
    for index, (kind, value) in enumerate(values):
        text = _AROUND[index % len(_AROUND)].format(value)
        start, end = text.index("<"), text.rindex(">") - 1
        yield kind, text[:start] + text[start + 1 : end + 1] + text[end + 2 :], (start, end)
    for index, (kind, value) in enumerate(values[:40:4]):
        name = _DISGUISED[index % len(_DISGUISED)]
        disguised = DISGUISES[name](value.replace("<", "").replace(">", ""))
        yield f"{kind}, {name}", f"Use {disguised} please", (4, 4 + len(disguised))


def look_alikes(seed: int) -> Iterator[str]:
    """Yield texts without a secret: hashes, identifiers, images, numbers, placeholders and ordinary code."""
    rng = random.Random(seed)  # noqa: S311 - for a test, and the same each time
    for index in range(10):
        raw = rng.randbytes(40)
        yield f"commit {hashlib.sha1(raw, usedforsecurity=False).hexdigest()}\nAuthor: Ann <ann@example.com>"
        yield f"sha256:{hashlib.sha256(raw).hexdigest()}  dist/app-{index}.tar.gz"
        yield f'"md5": "{hashlib.md5(raw, usedforsecurity=False).hexdigest()}"'
        yield f"request id {uuid.UUID(bytes=raw[:16], version=4)}"
        yield f"data:image/png;base64,iVBORw0KGgo{base64.b64encode(rng.randbytes(300)).decode()}"
        yield f"--hash=sha512:{hashlib.sha512(raw).hexdigest()} \\"
        yield f"trace {rng.randbytes(16).hex()} span {rng.randbytes(8).hex()} at {rng.randrange(10**9, 2 * 10**9)}"
        yield f"{rng.randrange(10**9, 10**10)}:{hashlib.sha256(raw).hexdigest()}"
        yield f"order {rng.randrange(10**11)} shipped, tracking number 1Z{drawn('{u16}', rng)}"
        yield f"GET /assets/index-{drawn('{b8}', rng)}.js?v={drawn('{h20}', rng)} 200 {rng.randrange(10**5)}"
    yield from (Path(__file__).parent / "cases" / "no_secrets.txt").read_text().splitlines()
