"""132 kinds of secrets, each in three texts, and ordinary text that holds none.

Each is its issuer's prefix and form around random characters, put together at run time: the repository holds no key. A
kind without a prefix of its own stands in the text that gives it away, such as a variable's name.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping

from evaluation.samples import Sample
from evaluation.secret_samples import FORMATS, drawn, jwt, look_alikes, pem

SEED = 20_261_130

# As in FORMATS: `{a36}` is 36 characters of alphabet a, and the secret stands between `<` and `>`.
_WITH_PREFIX = {
    "nvidia": "<nvapi-{b64}>",
    "fireworks": "<fw_{a24}>",
    "langsmith": "<lsv2_pt_{h32}_{h10}>",
    "langfuse secret": "<sk-lf-{h8}-{h4}-{h4}-{h4}-{h12}>",
    "pinecone": "<pcsk_{a5}_{a63}>",
    "voyage": "<pa-{b43}>",
    "elevenlabs": "<sk_{h48}>",
    "tavily": "<tvly-{a32}>",
    "cerebras": "<csk-{l48}>",
    "wandb": "<wandb_v1_{b80}>",
    "bitbucket app password": "<ATBB{a32}>",
    "atlassian": "<ATATT3xFfGF0{b171}={u8}>",
    "bedrock long": "<ABSKQmVkcm9ja0FQSUtleS{c100}=>",
    "google refresh": "<1//0{b90}>",
    "cloudflare origin ca": "<v1.0-{h24}-{h146}>",
    "heroku": "<HRKU-AA{b58}>",
    "fly.io": "<FlyV1 fm2_{c140}>",
    "vercel": "<vcp_{a56}>",
    "netlify": "<nfp_{a36}>",
    "render": "<rnd_{a28}>",
    "supabase": "<sbp_{h40}>",
    "supabase secret": "<sb_secret_{b22}_{b8}>",
    "planetscale": "<pscale_tkn_{b43}>",
    "neon": "<napi_{l64}>",
    "terraform cloud": "<{a14}.atlasv1.{b67}>",
    "doppler": "<dp.pt.{a43}>",
    "pulumi": "<pul-{h40}>",
    "rubygems": "<rubygems_{h48}>",
    "crates.io": "<cio{a32}>",
    "nuget": "<oy2{l43}>",
    "discord bot": "<MT{a24}.{b6}.{b38}>",
    "square access": "<EAAA{b60}>",
    "paypal braintree": "<access_token$production${l16}${h32}>",
    "mailgun": "<key-{h32}>",
    "resend": "<re_{a8}_{a24}>",
    "new relic": "<NRAK-{u27}>",
    "sentry user": "<sntryu_{h64}>",
    "sentry org": "<sntrys_eyJpYXQiOjE{a70}_{a43}>",
    "dynatrace": "<dt0c01.{u24}.{u64}>",
    "launchdarkly": "<sdk-{h8}-{h4}-{h4}-{h4}-{h12}>",
    "figma": "<figd_{b40}>",
    "airtable": "<pat{a14}.{h64}>",
    "asana": "<1/{d16}:{h32}>",
    "1password": "<ops_eyJ{b300}>",
    "facebook": "<EAA{a150}>",
    "twitter bearer": "<AAAAAAAAAAAAAAAAAAAAA{a80}>",
    "mapbox secret": "<sk.eyJ1Ijoi{b60}.{b22}>",
    "alibaba": "<LTAI{a20}>",
    "tencent": "<AKID{a32}>",
}
_IN_TEXT = {
    "mistral": "MISTRAL_API_KEY=<{a32}>",
    "cohere": "COHERE_API_KEY=<{a40}>",
    "cloudflare api token": 'CLOUDFLARE_API_TOKEN="<{b40}>"',
    "snowflake": "SNOWFLAKE_PASSWORD=<{a18}>",
    "teams webhook": "https://contoso.webhook.office.com/webhookb2/{h8}-{h4}-{h4}-{h4}-{h12}@{h8}-{h4}-{h4}-{h4}-{h12}/IncomingWebhook/<{h32}>/{h8}-{h4}-{h4}-{h4}-{h12}",
    "postmark": "X-Postmark-Server-Token: <{h8}-{h4}-{h4}-{h4}-{h12}>",
    "datadog app": "DD_APP_KEY=<{h40}>",
    "pagerduty": "Authorization: Token token=<u+{b18}>",
    "okta": "Authorization: SSWS <00{b40}>",
    "ethereum private key": "PRIVATE_KEY=<0x{h64}>",
    "jdbc parameter": "jdbc:postgresql://db:5432/app?user=app&password=<{a14}>&ssl=true",
    "curl user": "curl -u deploy:<{a16}> https://git.internal/api/v1/user",
    "x-api-key header": "x-api-key: <{a40}>",
    "password in env": "DB_PASSWORD=<{a16}>",
    "password in yaml": "database:\n  user: app\n  password: <{a14}>",
    "password in python": 'connect(host="db", user="app", password="<{a14}>")',
    "password in prose": "The password of the staging database is <{a12}>, please change it.",
    "api_key in json": '{"api_key": "<{a32}>", "region": "eu"}',
    "django secret key": "SECRET_KEY = 'django-insecure-<{b42}>'",
    "docker auth": '{"auths": {"registry.internal": {"auth": "<{a30}==>"}}}',
    "netrc": "machine git.internal login deploy password <{a20}>",
    "kubeconfig token": "users:\n- name: admin\n  user:\n    token: <{a64}>",
    "htpasswd": "deploy:<$apr1${a8}${a22}>",
    "shadow": "root:<$6${a16}${c86}>:19700:0:99999:7:::",
}
_WORDS = (
    "abandon ability absorb cabin daring eager fabric gadget habit icon jacket kangaroo ladder machine narrow oak "
    "palace quality rabbit sadness table umbrella vacant wagon yard zebra"
).split()
_AROUND = ("{}", "export TOKEN={}", "Why do I get a 401 with {} on staging?")
_PEM_KINDS = ("PRIVATE KEY", "OPENSSH PRIVATE KEY")
_TIMES = 3


def kinds() -> Mapping[str, str]:
    """Return the format of each kind that has one."""
    return FORMATS | _WITH_PREFIX | _IN_TEXT


def _made(rng: random.Random) -> Iterator[tuple[str, str]]:
    yield from ((kind, drawn(template, rng)) for kind, template in kinds().items())
    yield "jwt", jwt(rng)
    yield from (("pem " + kind.lower(), pem(rng, kind)) for kind in _PEM_KINDS)
    yield "bip39 seed", f"seed phrase: <{' '.join(rng.choices(_WORDS, k=12))}>"


def secret_texts(seed: int = SEED) -> Iterator[Sample]:
    """Yield each kind in three texts; the span is the secret, and its entity is the kind."""
    rng = random.Random(seed)  # noqa: S311 - for a test, and the same each time
    for nth in range(_TIMES):
        for kind, value in _made(rng):
            text = value if kind in _IN_TEXT else _AROUND[nth].format(value)
            start, end = text.index("<"), text.rindex(">") - 1
            yield Sample(text[:start] + text[start + 1 : end + 1] + text[end + 2 :], ((kind, start, end),))


def no_secret_texts(seed: int = SEED) -> Iterator[Sample]:
    """Yield texts that look like they held a secret: hashes, identifiers, documented examples, references to one."""
    yield from (Sample(text, ()) for text in look_alikes(seed))
    rng = random.Random(seed)  # noqa: S311 - for a test, and the same each time
    for _ in range(_TIMES):
        yield from (Sample(drawn(text, rng), ()) for text in _NO_SECRETS)


_NO_SECRETS = (
    "password = os.environ['DB_PASSWORD']",
    "DB_PASSWORD=${DB_PASSWORD:?set it in .env}",
    "password: {{ vault_db_password }}",
    "POSTGRES_PASSWORD: postgres",
    "postgres://postgres:postgres@localhost:5432/postgres",
    "mysql://root:root@127.0.0.1/test",
    "amqp://guest:guest@rabbitmq:5672/",
    "token = await get_token(session, scope='read:all')",
    "api_key: str | None = None",
    'parser.add_argument("--token", help="token of the service")',
    "The password must have at least 12 characters.",
    "Authorization: Bearer <token>",
    "x-api-key: YOUR-API-KEY",
    "curl -u user:password https://api.example.com/",
    'integrity="sha384-{c64}"',
    "{h40} refs/heads/main",
    '"resolved": "https://registry.npmjs.org/lodash/-/lodash-4.17.21.tgz", "integrity": "sha512-{c86}=="',
    "id: {h8}-{h4}-{h4}-{h4}-{h12}",
    "cache-key: v2-deps-{h64}",
    "Set-Cookie: theme=dark; Path=/; Max-Age=31536000",
    "pk_live_{a24} is publishable and may be shown",
    "const tokenizer = new Tokenizer(secretSanta, passphrasePrompt);",
    "the sk- prefix, the ghp_ prefix and the AKIA prefix are checked",
    "eyJhbGciOiJub25lIn0 is a header without a token",
    "-----BEGIN CERTIFICATE-----\n{c64}\n{c64}\n-----END CERTIFICATE-----",
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI{c43} deploy@build",
    "task-{h32} finished, risk-{h32} closed",
    "desk-{l20}, mask-{l24} and disk-{l22} are volume names",
)
