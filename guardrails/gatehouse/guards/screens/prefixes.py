"""Lists keys and tokens that their issuers give a prefix or a shape of their own, and keys that the text around names.

The lengths are those of the issuers' documentation and of keys that they have issued. A row is the rule's id, its
anchors (in small letters; a text without any of them is not searched), the pattern, and the name of a further check.
"""

from __future__ import annotations

from typing import Final

_UUID = "[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}"

# Whole tokens.
TOKENS: Final = (
    # Models and what is around them.
    ("fireworks_key", "fw_", r"fw_[A-Za-z0-9]{22,40}+", "mixed"),
    ("langsmith_key", "lsv2_", r"lsv2_(?:pt|sk)_[a-f0-9]{32}_[a-f0-9]{8,12}", "any"),
    ("langfuse_key", "sk-lf-", rf"sk-lf-{_UUID}", "any"),
    ("pinecone_key", "pcsk_", r"pcsk_[A-Za-z0-9]{4,8}_[A-Za-z0-9]{50,80}+", "any"),
    ("voyage_key", "pa-", r"pa-[A-Za-z0-9_-]{40,50}+", "mixed"),
    ("elevenlabs_key", "sk_", r"sk_[a-f0-9]{48}", "any"),
    ("tavily_key", "tvly-", r"tvly-(?:dev-|prod-)?[A-Za-z0-9-]{20,70}+", "digits"),
    ("cerebras_key", "csk-", r"csk-[a-z0-9]{40,60}+", "digits"),
    ("wandb_key", "wandb_v1_", r"wandb_v1_[A-Za-z0-9_]{40,120}+", "any"),
    ("together_key", "tgp_v1_", r"tgp_v1_[A-Za-z0-9_-]{40,60}+", "any"),
    ("exa_key", "exa_", rf"exa_{_UUID}", "any"),
    ("firecrawl_key", "fc-", r"fc-[a-f0-9]{32}", "any"),
    ("helicone_key", "sk-helicone-", r"sk-helicone-[a-z0-9-]{20,60}+", "digits"),
    ("aws_bedrock_key", "absk", r"ABSK[A-Za-z0-9+/]{100,280}+={0,2}", "mixed"),
    ("aws_bedrock_key", "bedrock-api-key-", r"bedrock-api-key-[A-Za-z0-9+/]{60,4000}+={0,2}", "mixed"),
    # Clouds and hosts.
    ("google_refresh_token", "1//0", r"1//0[A-Za-z0-9_-]{40,100}+", "mixed"),
    ("cloudflare_origin_key", "v1.0-", r"v1\.0-[a-f0-9]{24}-[a-f0-9]{146}", "any"),
    ("cloudflare_token", "cfut_ cfat_ cfk_", r"cf(?:ut|at|k)_[A-Za-z0-9]{36,60}+", "digits"),
    ("heroku_key", "hrku-", rf"HRKU-(?:AA[A-Za-z0-9_-]{{50,70}}+|{_UUID})", "any"),
    ("fly_token", "fm1_ fm2_ fo1_", r"(?:fm[12]_[A-Za-z0-9+/=,_-]{60,4000}+|fo1_[A-Za-z0-9_-]{43})", "mixed"),
    ("vercel_token", "vcp_ vci_ vca_ vcr_ vck_", r"vc[piark]_[A-Za-z0-9]{24,80}+", "mixed"),
    ("vercel_blob_token", "vercel_blob_rw_", r"vercel_blob_rw_[A-Za-z0-9_]{30,80}+", "any"),
    ("netlify_token", "nfp_ nfc_ nfo_ nfu_ nfb_", r"nf[pcoub]_[A-Za-z0-9]{36,40}+", "mixed"),
    ("render_key", "rnd_", r"rnd_[A-Za-z0-9]{28,40}+", "mixed"),
    ("supabase_token", "sbp_", r"sbp_(?:oauth_|v0_)?[a-f0-9]{40}", "any"),
    ("supabase_secret", "sb_secret_", r"sb_secret_[A-Za-z0-9_-]{28,60}+", "any"),
    ("planetscale_token", "pscale_", r"pscale_(?:tkn|oauth|pw|app_secret)_[A-Za-z0-9_.=-]{30,70}+", "any"),
    ("neon_key", "napi_", r"napi_[a-z0-9]{40,80}+", "digits"),
    ("alibaba_key", "ltai", r"LTAI[A-Za-z0-9]{12,26}+", "mixed"),
    ("tencent_key", "akid", r"AKID[A-Za-z0-9]{28,40}+", "mixed"),
    ("scaleway_key", "scw", r"SCW[A-Z0-9]{17}", "digits"),
    ("yandex_key", "aqvn", r"AQVN[A-Za-z0-9_-]{35,38}+", "mixed"),
    ("digitalocean_spaces_key", "do00", r"DO00[A-Z0-9]{16}", "digits"),
    # Code, packages and deployment.
    ("bitbucket_password", "atbb", r"ATBB[A-Za-z0-9]{32}", "mixed"),
    ("atlassian_token", "atatt3 atctt3", r"AT[AC]TT3[A-Za-z0-9_=-]{60,250}+", "mixed"),
    ("terraform_token", ".atlasv1.", r"[A-Za-z0-9]{14}\.atlasv1\.[A-Za-z0-9_=-]{60,70}+", "any"),
    ("doppler_token", "dp.", r"dp\.(?:pt|st|ct|sa|scim|audit)\.(?:[a-z0-9_-]{2,35}\.)?[A-Za-z0-9]{40,44}+", "any"),
    ("pulumi_token", "pul-", r"pul-[a-f0-9]{40}", "any"),
    ("rubygems_key", "rubygems_", r"rubygems_[a-f0-9]{48}", "any"),
    ("crates_token", "cio", r"cio[A-Za-z0-9]{32}", "mixed"),
    ("nuget_key", "oy2", r"oy2[a-z0-9]{43}", "digits"),
    ("clojars_token", "clojars_", r"CLOJARS_[A-Za-z0-9]{60}", "any"),
    ("buildkite_token", "bkua_", r"bkua_[a-z0-9]{40}", "digits"),
    ("circleci_token", "ccipat_ ccipro_", r"CCIP(?:AT|RO)_[A-Za-z0-9]{10,40}_[a-fA-F0-9]{40}", "any"),
    ("sonar_token", "sqp_ sqa_ squ_", r"sq[pau]_[a-f0-9]{40}", "any"),
    ("snyk_token", "snyk_", r"snyk_(?:uat|sat)\.[a-f0-9]{8}\.[A-Za-z0-9_.-]{40,120}+", "any"),
    ("jfrog_token", "cmvmdgtu", r"cmVmdGtu[A-Za-z0-9+/=_-]{40,60}+", "any"),
    # Chat, mail and payment.
    ("discord_token", ".", r"[MNO][A-Za-z0-9_-]{23,27}\.[A-Za-z0-9_-]{6}\.[A-Za-z0-9_-]{27,40}+", "discord"),
    ("square_token", "eaaa sq0atp-", r"(?:EAAA[A-Za-z0-9_-]{60}|sq0atp-[A-Za-z0-9_-]{22})", "mixed"),
    ("braintree_token", "access_token$", r"access_token\$(?:production|sandbox)\$[0-9a-z]{16}\$[0-9a-f]{32}", "any"),
    ("mailgun_key", "key-", r"key-[a-f0-9]{32}", "any"),
    ("mailgun_key", "-", r"[a-f0-9]{32}-[a-f0-9]{8}-[a-f0-9]{8}(?!-)", "any"),
    ("resend_key", "re_", r"re_[A-Za-z0-9]{8}_[A-Za-z0-9]{20,28}+", "mixed"),
    ("brevo_key", "xkeysib-", r"xkeysib-[a-f0-9]{64}-[A-Za-z0-9]{16}", "any"),
    ("plaid_token", "access-", rf"access-(?:sandbox|development|production)-{_UUID}", "any"),
    ("razorpay_key", "rzp_live_", r"rzp_live_[A-Za-z0-9]{14,24}+", "mixed"),
    ("flutterwave_key", "flwseck", r"FLWSECK(?:_TEST)?-[a-zA-Z0-9]{12,32}+-X", "digits"),
    ("coinbase_key", "organizations/", rf"organizations/{_UUID}/apiKeys/{_UUID}", "any"),
    # Watching, tickets and design.
    (
        "new_relic_key",
        "nrak- nrii- nrjs- nrra- nriq- nraa-",
        r"NR(?:AK|II|IQ|RA|AA|JS)-[A-Za-z0-9_-]{19,42}+",
        "digits",
    ),
    ("new_relic_key", "nral", r"[a-f0-9]{36}NRAL", "any"),
    ("sentry_token", "sntryu_ sntrya_", r"sntry[ua]_[a-f0-9]{64}", "any"),
    ("sentry_token", "sntrys_", r"sntrys_eyJ[A-Za-z0-9+/=_-]{60,400}+", "mixed"),
    ("dynatrace_token", "dt0", r"dt0[a-z][0-9]{2}\.[A-Z0-9]{24}\.[A-Z0-9]{64}", "any"),
    ("pagerduty_key", "u+", r"u\+[A-Za-z0-9_+-]{18}", "mixed"),
    ("launchdarkly_key", "sdk- api- mob-", rf"(?:sdk|api|mob)-{_UUID}", "any"),
    ("figma_token", "figd_ figu_ figo_", r"fig[duo]_[A-Za-z0-9_-]{38,60}+", "mixed"),
    ("airtable_token", "pat", r"pat[A-Za-z0-9]{14}\.[a-f0-9]{64}", "any"),
    ("asana_token", "1/ 2/ 0/", r"[0-2]/[0-9]{12,20}(?:/[0-9]{12,20})?:[a-f0-9]{32}", "any"),
    ("hubspot_token", "pat-na1- pat-eu1- pat-na2-", rf"pat-(?:na|eu|ap)[0-9]-{_UUID}", "any"),
    ("contentful_token", "cfpat-", r"CFPAT-[A-Za-z0-9_-]{40,50}+", "any"),
    ("typeform_token", "tfp_", r"tfp_[A-Za-z0-9_.-]{40,60}+", "mixed"),
    ("readme_key", "rdme_", r"rdme_[a-z0-9]{60,80}+", "digits"),
    ("posthog_key", "phx_ phs_", r"ph[xs]_[A-Za-z0-9]{40,60}+", "mixed"),
    ("grafana_key", "eyjrijoi", r"eyJrIjoi[A-Za-z0-9+/=_-]{60,400}+", "mixed"),
    # Identity, networks and money.
    ("1password_token", "ops_eyj", r"ops_eyJ[A-Za-z0-9+/=_-]{100,1500}+", "mixed"),
    (
        "1password_key",
        "a3-",
        r"A3-[A-Z0-9]{6}-(?:[A-Z0-9]{11}|[A-Z0-9]{6}-[A-Z0-9]{5})(?:-[A-Z0-9]{5}){3}",
        "digits",
    ),
    ("okta_token", "ssws 00", r"(?<=SSWS )00[A-Za-z0-9_-]{38,42}+", "mixed"),
    ("facebook_token", "eaa", r"EAA[A-Za-z0-9]{80,400}+", "mixed"),
    ("facebook_app_token", "|", r"[0-9]{13,17}\|[A-Za-z0-9_-]{27}", "mixed_after"),
    ("twitter_bearer", "aaaaaaaaaaaaaaaaaaaaa", r"A{21,24}([A-Za-z0-9%]{60,160}+)", "mixed"),
    ("mapbox_secret", "sk.eyj", r"sk\.eyJ[A-Za-z0-9_-]{40,120}+\.[A-Za-z0-9_-]{20,24}+", "mixed"),
    ("tailscale_key", "tskey-", r"tskey-[a-z]{2,12}-[A-Za-z0-9]{8,30}(?:-[A-Za-z0-9]{20,60}+)?", "any"),
    ("wireguard_key", "privatekey", r"(?<=PrivateKey = )[A-Za-z0-9+/]{43}=", "mixed"),
)

# Names of services whose keys have no shape of their own: such a name, a word for a key, and the key.
_SERVICES = (
    "mistral|cohere|co_api|together|fireworks|deepgram|assemblyai|stability|replicate|wandb|cloudflare|cf_|heroku|vercel|"
    "netlify|fly_|render|datadog|dd_|newrelic|new_relic|postmark|mailgun|mailjet|braintree|paypal|plaid|twilio|nexmo|"
    "vonage|snowflake|planetscale|okta|auth0|pagerduty|opsgenie|airtable|trello|jira|confluence|bitbucket|travis|codecov|"
    "circleci|rollbar|bugsnag|algolia|fastly|segment|mixpanel|amplitude|intercom|zendesk|freshdesk|hubspot|salesforce|"
    "facebook|twitter|instagram|linkedin|spotify|twitch|tiktok|binance|kraken|kucoin|coinbase|etherscan|infura|alchemy|"
    "serper|serpapi|brave|bing|yelp|foursquare|weather|newsapi|alibaba|aliyun|tencent|huawei|oracle|linode|vultr|hetzner|"
    "scaleway|ovh|lambda_labs|runpod|qdrant|weaviate|zilliz|milvus|upstash|redis_cloud|mongo|elastic|kafka|confluent|"
    "pinecone|voyage|jina|unstructured|azure|openai|anthropic|gemini|groq|nvidia|dashscope|qwen|moonshot|zhipu|minimax|ai21"
)
_WORD_FOR_KEY = "(?:key|token|secret|_pat|password)"
_EQUALS = r"""["'`]?(?:\s?(?:[:=]|=>|is)\s?|\s)["'`]?"""

# Secrets that the text around them shows; the only group is the secret. The last entry says whether words of
# placeholders count in it.
NAMED: Final = (
    (
        "service_key",
        "key token secret _pat password",
        # Few words for a key stand before something that looks like one: only there is the name looked for.
        rf"(?i){_WORD_FOR_KEY}(?={_EQUALS}[A-Za-z0-9_-]{{20}})"
        rf"(?<=(?<![A-Za-z0-9])(?:{_SERVICES})[A-Za-z0-9_ .-]{{0,30}})"
        rf"{_EQUALS}([A-Za-z0-9_-]{{20,100}}+)(?![A-Za-z0-9/+.(\[])",
        "random",
        True,
    ),
    (
        "teams_webhook",
        "webhook.office.com",
        rf"https://[\w-]{{1,60}}\.webhook\.office\.com/webhookb2/"
        rf"({_UUID}@{_UUID}/IncomingWebhook/[a-f0-9]{{32}}/{_UUID}(?:/[\w-]{{1,60}})?)",
        "any",
        True,
    ),
    (
        "api_key_header",
        "-key -token",
        r"""(?i)(?<![a-z0-9])(?:x-[a-z]{0,20}-?(?:api-?)?(?:key|token)|api-key|x-auth-token|private-token)"""
        r"""["']?\s?:\s?["']?([A-Za-z0-9_.~+/=-]{20,400}+)(?![A-Za-z0-9(\[])""",
        "random",
        True,
    ),
    (
        "named_key",
        "api_key api-key apikey access_token accesstoken auth_token authtoken client_secret clientsecret",
        r"""(?i)(?<![a-z0-9])(?:\w{1,40}[_-])?(?:api[_-]?key|access[_-]?token|auth[_-]?token|client[_-]?secret)"""
        r"""["']?\s?(?:[:=]|=>)\s?["']([A-Za-z0-9_-]{20,100}+)["']""",
        "random",
        True,
    ),
    (
        "ethereum_key",
        "priv secret",
        r"""(?i)(?:private[_ -]?key|priv[_ -]?key|secret[_ -]?key)"""
        r"""["']?\s?(?:[:=]|is)?\s?["']?((?:0x)?[a-f0-9]{64})(?![A-Za-z0-9])""",
        "any",
        True,
    ),
    (
        "seed_phrase",
        "mnemonic seed recovery backup wallet",
        r"""(?i)(?:mnemonic|(?:seed|recovery|backup|wallet)[ _-]?(?:phrase|words?))(?: (?:is|are))?"""
        r"""["']?\s{0,2}[:=]?\s{0,2}["']?((?:[a-z]{3,8}[ ,\n]{1,2}){11,23}[a-z]{3,8})(?![ ,]{1,2}[a-z]|[A-Za-z])""",
        "seed",
        False,
    ),
    (
        "jdbc_password",
        "jdbc:",
        r"""(?i)jdbc:[a-z0-9:]{2,40}[^\s"'<>`]{1,300}?[?;&](?:password|pwd)=([^\s&;"'<>`]{3,100}+)""",
        "password",
        False,
    ),
    (
        "curl_password",
        "curl",
        r"""(?i)curl(?=\s)[^\n|;]{0,300}?(?:\s-u|\s--user|\s--proxy-user)[ =]?"""
        r"""["']?[^\s:"'@/]{1,100}:([^\s"'`|;]{3,200}+)""",
        "password",
        False,
    ),
    (
        "docker_auth",
        '"auth"',
        r'"auth"\s?:\s?"([A-Za-z0-9+/]{16,400}+={0,2})"',
        "basic",
        True,
    ),
    (
        "netrc_password",
        "machine",
        r"(?i)(?<![a-z])machine\s{1,4}\S{1,200}\s{1,8}login\s{1,4}\S{1,200}\s{1,8}password\s{1,4}(\S{3,300}+)",
        "password",
        False,
    ),
    (
        "kubernetes_key",
        "client-key-data",
        r"""client-key-data:\s?["']?([A-Za-z0-9+/]{60,8000}+={0,2})""",
        "any",
        True,
    ),
    (
        "kubernetes_token",
        "token:",
        r"""(?m)user:\s{1,20}(?:[a-z-]{1,40}:[^\n]{0,400}\n\s{0,20}){0,6}?token:\s?["']?([A-Za-z0-9._-]{16,2000}+)""",
        "random",
        True,
    ),
    (
        "password_hash",
        "$apr1$ $1$ $5$ $6$ $y$ $7$ $2a$ $2b$ $2y$ $2x$",
        r"(?<![A-Za-z0-9$])(\$(?:apr1|1|5|6|y|7|2[abxy])\$[./A-Za-z0-9=,$]{24,140}+)",
        "mixed",
        True,
    ),
    ("django_secret", "secret_key", r"""SECRET_KEY["']?\s?[:=]\s?["']([^"'\n]{32,120}+)["']""", "django", True),
)

# Tokens that documentation and emulators publish.
PUBLISHED: Final = frozenset(
    (
        "sk_test_" + "4eC39HqLyjWDarjtT1zdp7dc",
        "sk_test_" + "BQokikJOvBiI2HlWgH4olfQ2",
        "sk_test_" + "tR3PYbcVNZZ796tH88S4VQ2u",
        "ghp_" + "16C7e42F292c6912E7710c838347Ae178B4a",
        "AIza" + "SyDaGmWKa4JsXZ-HjGw7ISLn_3namBGewQe",
        "xoxb-" + "17653672481-19874698323-pdFZKVeTuE8sk7oOcHrzqqgy",
        "SG." + "ngeVfQFYQlKU0ufo8x5d1A.TwL2iGABf9DHoTf-09kqeF8tAmbihYzrnopKc-1s5cr",
        "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==",
        "C2y6yDjf5/R+ob0N8A7Cgv30VRDJIXEuFGCJNmmQsuF2bGzOlPXgbU0fbUVvMxDH1vBfBRrK1dpm0eVqCjJvQ==",
        "mF_9.B5f-4.1JqM",
        "cGFzc3dvcmQ6cGFzc3dvcmQ=",
    )
)
