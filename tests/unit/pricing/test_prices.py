"""An estimate is never too low: neither its tokens, nor its prices, nor content that it cannot read."""

from __future__ import annotations

import asyncio
import json
import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import litellm
import pytest
import tiktoken
import yaml
from gatehouse.core.errors import GovernanceError, InvalidRequest
from gatehouse.dialects.canonical import CallerNames, CanonicalRequest, canonical_request
from gatehouse.dialects.parts import UnknownShape
from gatehouse.dialects.requested import MOST, requested
from gatehouse.policy.limits import Estimate
from gatehouse.pricing import estimate as estimate_module
from gatehouse.pricing.estimate import IMAGE_TOKENS, UNKNOWN_OUTPUT, UNKNOWN_WINDOW, Prices
from gatehouse.pricing.structure import CL100K, O200K
from gatehouse.proxy.catalog import Deployments
from gatehouse.proxy.tokenizer import TokenCounter
from hypothesis import given, settings
from hypothesis import strategies as st
from litellm.litellm_core_utils.token_counter import get_encoding, high_detail_image_token_upper_bound

CONFIG = Path(__file__).resolve().parents[3] / "config.yaml"
TEN, DEAR = 0.00001, 0.00009

MODELS: list[dict[str, Any]] = [
    *(each for each in yaml.safe_load(CONFIG.read_text())["model_list"] if each["model_name"].startswith("demo")),
    {"model_name": "gpt-4o", "litellm_params": {"model": "openai/gpt-4o"}},
    {"model_name": "gpt-4", "litellm_params": {"model": "openai/gpt-4"}},
    {"model_name": "mini", "litellm_params": {"model": "openai/gpt-4o-mini"}},
    {"model_name": "embed", "litellm_params": {"model": "openai/text-embedding-3-small"}},
    {"model_name": "moderate", "litellm_params": {"model": "openai/omni-moderation-latest"}},
    {"model_name": "rerank", "litellm_params": {"model": "cohere/rerank-v3.5"}},
    {"model_name": "rerank-by-token", "litellm_params": {"model": "voyage/rerank-2"}},
    {"model_name": "speak", "litellm_params": {"model": "openai/tts-1"}},
    {"model_name": "hear", "litellm_params": {"model": "openai/whisper-1"}},
    {"model_name": "hear-free", "litellm_params": {"model": "openai/mine"}, "model_info": {"input_cost_per_second": 0}},
    {"model_name": "paint", "litellm_params": {"model": "openai/mine"}, "model_info": {"output_cost_per_image": 0.04}},
    {"model_name": "paint-by-token", "litellm_params": {"model": "openai/gpt-image-1"}},
    {"model_name": "sonnet", "litellm_params": {"model": "anthropic/claude-sonnet-4-5-20250929"}},
    {"model_name": "reserve", "litellm_params": {"model": "openai/gpt-4o"}},
    {"model_name": "reserve-unpriced", "litellm_params": {"model": "openai/gpt-4o"}},
    {"model_name": "unpriced", "litellm_params": {"model": "openai/who-knows"}},
    {"model_name": "half", "litellm_params": {"model": "openai/half"}, "model_info": {"input_cost_per_token": TEN}},
    {
        "model_name": "beside",
        "litellm_params": {"model": "openai/x", "input_cost_per_token": TEN, "output_cost_per_token": DEAR},
    },
    {"model_name": "long", "litellm_params": {"model": "bedrock/anthropic.claude-sonnet-4-20250514-v1:0"}},
    {"model_name": "two", "litellm_params": {"model": "openai/gpt-4o"}},
    {"model_name": "two", "litellm_params": {"model": "openai/gpt-4"}},
    {"model_name": "based", "litellm_params": {"model": "azure/ours"}, "model_info": {"base_model": "azure/gpt-4o"}},
    {"model_name": "azure-unbased", "litellm_params": {"model": "azure/ours"}},
    {"model_name": "local/*", "litellm_params": {"model": "ollama_chat/*"}},
    {"model_name": "openai/*", "litellm_params": {"model": "openai/*"}},
]  # fmt: skip
for each in MODELS:
    each["litellm_params"] = {"api_key": "sk-x", "api_base": "http://127.0.0.1:9", **each["litellm_params"]}


@pytest.fixture(scope="module")
def router() -> Iterator[Any]:
    before = litellm.custom_provider_map
    litellm.custom_provider_map = [
        {"provider": name, "custom_handler": litellm.CustomLLM()} for name in ("echo", "mock_api")
    ]
    litellm.utils.custom_llm_setup()
    yield litellm.Router(
        model_list=MODELS,
        fallbacks=[{"reserve": ["gpt-4"]}, {"reserve-unpriced": ["unpriced"]}, {"gpt-4": ["reserve"]}],
        model_group_alias={"alias": "gpt-4"},
    )
    litellm.custom_provider_map = before


@pytest.fixture(scope="module")
def prices(router: Any) -> Prices:
    return Prices(Deployments(lambda: router), TokenCounter())


def estimate(prices: Prices, body: dict[str, Any], call_type: str = "acompletion") -> Estimate:
    return prices.estimate(read(call_type, body))


def read(call_type: str, body: dict[str, Any]) -> CanonicalRequest:
    return canonical_request(call_type, body, CallerNames.of(body))


def chat(model: str = "gpt-4o", text: Any = "How are you?", **more: Any) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": text}], **more}


# Tokens.

REQUESTS: list[dict[str, Any]] = [
    {"messages": [{"role": "user", "content": "hi"}]},
    {"messages": [{"role": role, "content": f"This is turn {n}."} for n in range(9) for role in ("user", "assistant")]},
    {"messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "name": "Ada", "content": "x" * 5000}]},
    {"messages": [{"role": "user", "content": [{"type": "text", "text": word} for word in "so many parts".split()]}]},
    {"messages": [{"role": "user", "content": "Überraschung 日本語のテキスト 😀😀 \u200b\u0301 <|endoftext|>"}]},
    {
        "messages": [
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [
                    {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": '{"city": "Rome"}'}}
                ],
            },
            {"role": "tool", "tool_call_id": "call_1", "content": '{"degrees": 21}'},
        ]
    },
    {
        "messages": [{"role": "user", "content": "Weather?"}],
        "tools": [
            {
                "type": "function",
                "function": {
                    "name": f"get_weather_{n}",
                    "description": "The weather of a city.",
                    "parameters": {
                        "type": "object",
                        "properties": {
                            "city": {"type": "string", "description": "Where."},
                            "unit": {"type": "string", "enum": ["C", "F"]},
                            "days": {"type": "integer", "minimum": 1, "maximum": 14},
                        },
                        "required": ["city"],
                    },
                },
            }
            for n in range(12)
        ],
    },
]


@pytest.mark.parametrize("model", ["gpt-4o", "gpt-4", "sonnet", "demo"])
@pytest.mark.parametrize("request_body", REQUESTS)
def test_tokens_are_not_below_litellms_own_count(prices: Prices, model: str, request_body: dict[str, Any]) -> None:
    counted = litellm.token_counter(
        model="gpt-4o" if model == "gpt-4o" else "gpt-4",
        messages=request_body["messages"],
        tools=request_body.get("tools"),
    )
    found = estimate(prices, {"model": model, **request_body}).input_tokens
    written = len(get_encoding(CL100K).encode_ordinary(json.dumps(request_body, ensure_ascii=False)))
    assert counted <= found <= written * 1.4  # and no more than the whole body's JSON, as Claude may count it


any_text = (
    st.text()
    | st.text(st.sampled_from("ab \n.1<|é日😀"))
    | st.builds(lambda t, n: t * n, st.text(), st.integers(1, 50))
)


@given(st.lists(any_text, max_size=4), st.sampled_from([CL100K, O200K]))
@settings(max_examples=200)
def test_a_count_is_never_below_tiktokens(texts: list[str], encoding: str) -> None:
    exact = sum(len(tiktoken.get_encoding(encoding).encode(text, disallowed_special=())) for text in texts)
    counter = TokenCounter()
    assert counter.count(texts, encoding) == exact  # counted
    assert counter.count(texts, encoding) == exact  # remembered


HUGE = ["a" * 300_000, " " * 300_000, "日" * 100_000, "lorem ipsum " * 30_000, "😀" * 50_000, "\n" * 200_000]


@pytest.mark.parametrize("text", HUGE, ids=lambda text: repr(text[:6]))
async def test_a_huge_text_is_counted_by_its_bytes_at_once_and_exactly_by_a_thread(text: str) -> None:
    counter = TokenCounter()
    exact = len(get_encoding(CL100K).encode_ordinary(text))
    started = time.thread_time()  # what others do on this machine takes nothing of it
    at_once = counter.count([text])
    assert time.thread_time() - started < 0.1
    assert at_once >= exact
    await counter.prepare([text])
    assert counter.count([text]) == exact


async def test_the_event_loop_goes_on_while_a_thread_counts() -> None:
    counter = TokenCounter()
    texts = [f"{n}" + " " * 1_000_000 for n in range(4)]  # what takes longest to count
    longest, began = 0.0, time.perf_counter()
    counting = asyncio.create_task(counter.prepare(texts))
    while not counting.done():
        started = time.perf_counter()
        await asyncio.sleep(0.001)
        longest = max(longest, time.perf_counter() - started)
    assert longest < (time.perf_counter() - began) / 3
    assert len(counter) == 4


def test_many_new_texts_together_are_bounded_too() -> None:
    texts = [f"{n} " + "qzxv1 " * 2_000 for n in range(50)]
    counter = TokenCounter()
    started = time.thread_time()
    tokens = counter.count(texts)
    assert time.thread_time() - started < 0.2
    assert tokens >= sum(len(get_encoding(CL100K).encode_ordinary(text)) for text in texts)


def test_what_is_remembered_is_bounded() -> None:
    counter = TokenCounter(cache_bytes=35_000)
    for n in range(1_000):
        counter.count([f"text {n}"])
    assert len(counter) == 100


def test_encodings_do_not_share_their_counts() -> None:
    counter, text = TokenCounter(), "これは日本語のテキストです"
    assert counter.count([text], CL100K) != counter.count([text], O200K)


def conversation(turns: int) -> dict[str, Any]:
    words = CONFIG.read_text().split()
    says = [" ".join(words[n * 7 % 100 : n * 7 % 100 + 150]) + f" {n}" for n in range(turns)]
    return {
        "model": "demo",
        "messages": [{"role": ("user", "assistant")[n % 2], "content": says[n]} for n in range(turns)],
    }


def test_the_last_turn_of_a_long_conversation_costs_far_below_a_millisecond(prices: Prices) -> None:
    body = conversation(20)
    asked = read("acompletion", body)
    assert prices.estimate(asked).input_tokens > 4_000
    best = math.inf
    for _ in range(200):
        started = time.perf_counter()
        prices.estimate(asked)
        best = min(best, time.perf_counter() - started)
    assert best < 0.0005


@pytest.mark.parametrize(
    ("text", "least"),
    [
        ([{"type": "image_url", "image_url": {"url": "https://x.example/a.png"}}], IMAGE_TOKENS),
        ([{"type": "image_url", "image_url": {"url": "https://x.example/a.png"}}] * 3, 3 * IMAGE_TOKENS),
        ([{"type": "image_url", "image_url": {"url": "https://x.example/a.png", "detail": "original"}}], 10_000),
        ([{"type": "file", "file": {"file_id": "file-abc"}}], 128_000),
        ([{"type": "file", "file": {"file_data": "data:application/pdf;base64," + "A" * 4000}}], 4_000),
        ([{"type": "input_audio", "input_audio": {"data": "A" * 20_000, "format": "mp3"}}], 1_000),
    ],
)  # fmt: skip
def test_a_file_is_never_nothing(prices: Prices, text: Any, least: int) -> None:
    without = estimate(prices, chat(text=[]))
    found = estimate(prices, chat(text=text))
    assert found.input_tokens - without.input_tokens >= least
    assert found.estimated_usd is not None
    assert without.estimated_usd is not None
    assert found.estimated_usd > without.estimated_usd


def test_a_picture_in_full_detail_counts_so_in_responses_too(prices: Prices) -> None:
    picture = {"type": "input_image", "image_url": "https://x.example/a.png", "detail": "original"}
    body = {"model": "gpt-4o", "input": [{"role": "user", "content": [picture]}]}
    assert estimate(prices, body, "aresponses").input_tokens > 10_000


def test_a_picture_is_dearer_where_the_provider_counts_more_tokens(prices: Prices) -> None:
    picture = [{"type": "image_url", "image_url": {"url": "https://x.example/a.png"}}]
    assert estimate(prices, chat("mini", picture)).input_tokens > 48_000


@pytest.mark.parametrize(
    "more",
    [{"previous_response_id": "resp_1"}, {"extra_body": {"conversation": "conv_1"}}, {"prompt": {"id": "pmpt_1"}}],
)
def test_what_the_provider_adds_counts_as_the_whole_window(prices: Prices, more: dict[str, Any]) -> None:
    assert estimate(prices, {"model": "gpt-4o", "input": "hi", **more}, "aresponses").input_tokens > 128_000
    assert estimate(prices, {"model": "unpriced", "input": "hi", **more}, "aresponses").input_tokens > UNKNOWN_WINDOW


def test_numbers_in_what_a_model_reads_count_too(prices: Prices) -> None:
    said = {"type": "tool_use", "id": "t", "name": "f", "input": {"numbers": [1] * 5_000}}
    body = {"model": "sonnet", "max_tokens": 5, "messages": [{"role": "assistant", "content": [said]}]}
    exact = len(get_encoding(CL100K).encode_ordinary(json.dumps([1] * 5_000)))
    assert estimate(prices, body, "anthropic_messages").input_tokens >= exact


# The answer's length.


@pytest.mark.parametrize(
    ("call_type", "body", "tokens"),
    [
        ("acompletion", chat(), 16_384),
        ("acompletion", chat("demo"), 1_024),
        ("acompletion", chat("unpriced"), UNKNOWN_OUTPUT),
        ("acompletion", chat(max_tokens=10), 10),
        ("acompletion", chat(max_tokens=10, stream=True), 10),
        ("acompletion", chat(max_tokens=10, max_completion_tokens=20), 20),
        ("acompletion", chat(max_tokens=10.0), 10),
        ("acompletion", chat(max_tokens=10, extra_body={"max_tokens": 300}), 300),
        ("acompletion", chat(max_tokens=10, extra_body={"n": 3}), 30),
        ("acompletion", chat(max_tokens=10, n=4), 40),
        ("acompletion", chat(n=2), 32_768),
        ("acompletion", chat(max_tokens=None, n=None), 16_384),
        ("acompletion", chat(max_tokens=0), 16_384),
        ("acompletion", chat(max_tokens=-1), 16_384),
        ("acompletion", chat(max_tokens=-1, max_completion_tokens=5), 16_384),
        ("acompletion", chat(max_tokens=10**30), MOST),
        ("acompletion", chat(max_tokens=10**9, n=10**30), MOST),
        ("acompletion", chat(max_tokens=99_999), 99_999),
        ("atext_completion", {"model": "gpt-4o", "prompt": ["a", "b", "c"], "max_tokens": 10, "n": 2}, 60),
        ("atext_completion", {"model": "gpt-4o", "prompt": "a", "max_tokens": 10, "best_of": 5, "n": 2}, 50),
        ("anthropic_messages", {"model": "sonnet", "max_tokens": 7, "messages": []}, 7),
        ("aresponses", {"model": "gpt-4o", "input": "a", "max_output_tokens": 7}, 7),
        ("aembedding", {"model": "embed", "input": ["a", "b"]}, 0),
        ("amoderation", {"model": "moderate", "input": "a"}, 0),
        ("aspeech", {"model": "speak", "input": "a", "voice": "alloy"}, 0),
        ("aimage_generation", {"model": "paint", "prompt": "a"}, 0),
    ],
)
def test_an_answer_counts_as_long_as_it_may_be(
    prices: Prices, call_type: str, body: dict[str, Any], tokens: int
) -> None:
    assert estimate(prices, body, call_type).max_output_tokens == tokens


BAD = ["10", "", True, False, math.nan, math.inf, -math.inf, 1.5, [], [1], {}, {"max": 1}]


@pytest.mark.parametrize("field", ["max_tokens", "max_completion_tokens", "max_output_tokens", "n", "best_of"])
@pytest.mark.parametrize("bad", BAD)
def test_what_cannot_be_read_is_refused_by_name(field: str, bad: Any) -> None:
    for body in ({field: bad}, {"extra_body": {field: bad}}, {"max_tokens": 5, "n": 1, field: bad}):
        with pytest.raises(InvalidRequest, match=field):
            requested(body)


@pytest.mark.parametrize("none", [0, -1, -(10**30)])
def test_fewer_than_one_answer_is_refused(none: int) -> None:
    with pytest.raises(InvalidRequest, match="n:"):
        requested({"n": none})


junk = st.recursive(
    st.none() | st.booleans() | st.integers() | st.integers(10**300, 10**310) | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
FIELDS = """max_tokens max_completion_tokens max_output_tokens n best_of prompt input messages tools service_tier speed
    modalities audio fallbacks extra_body previous_response_id conversation system response_format""".split()


@given(
    st.dictionaries(st.sampled_from(FIELDS), junk),
    st.sampled_from(
        ["acompletion", "atext_completion", "anthropic_messages", "aresponses", "aembedding", "junk", "aspeech"]
    ),
    st.text(max_size=20) | st.sampled_from(["gpt-4o", "two", "unpriced", "openai/gpt-4o"]),
)
@settings(max_examples=300)
def test_a_hostile_body_is_refused_or_estimated(
    prices: Prices, body: dict[str, Any], call_type: str, model: str
) -> None:
    try:
        asked = read(call_type, {**body, "model": model})
    except (GovernanceError, UnknownShape):
        return
    found = prices.estimate(asked)
    least = sum(len(get_encoding(O200K).encode_ordinary(part.text)) for part in asked.texts if model == "gpt-4o")
    assert least <= found.input_tokens
    assert 0 <= found.max_output_tokens <= MOST
    assert found.estimated_usd is None or (math.isfinite(found.estimated_usd) and found.estimated_usd >= 0)


# Prices.


@pytest.mark.parametrize(
    ("body", "inside", "outside", "source"),
    [
        (chat("demo"), 1e-6, 2e-6, "config"),
        (chat("gpt-4o"), 2.5e-6, 1e-5, "litellm"),
        (chat("openai/gpt-4o"), 2.5e-6, 1e-5, "litellm"),  # a wildcard
        (chat("alias"), 3e-5, 6e-5, "litellm"),
        (chat("two"), 3e-5, 6e-5, "litellm"),  # the dearest of two
        (chat("reserve"), 3e-5, 6e-5, "litellm"),  # of what it falls back to
        (chat("beside"), TEN, DEAR, "config"),
        (chat("based"), 2.5e-6, 1e-5, "litellm"),
        (chat("local/llama3"), 0.0, 0.0, "litellm"),
        (chat("gpt-4o", service_tier="priority"), 4.25e-6, 1.7e-5, "litellm"),
        (chat("gpt-4o", service_tier="flex"), 2.5e-6, 1e-5, "litellm"),
        (chat("sonnet"), 3e-6, 1.5e-5, "litellm"),
        (
            chat("sonnet", [{"type": "text", "text": "x", "cache_control": {"type": "ephemeral"}}]),
            6e-6,
            1.5e-5,
            "litellm",
        ),
        (chat("unpriced"), None, None, "none"),
        (chat("half"), None, None, "none"),
        (chat("azure-unbased"), None, None, "none"),
        (chat("openai/who-knows"), None, None, "none"),
        (chat("local/of-my-own"), None, None, "none"),
        (chat("reserve-unpriced"), None, None, "none"),
        (chat("not-served"), None, None, "none"),
    ],
)
def test_the_dearest_price_counts_and_an_unknown_one_is_none(
    prices: Prices, body: dict[str, Any], inside: float | None, outside: float | None, source: str
) -> None:
    found = estimate(prices, body)
    assert (found.input_usd_per_token, found.output_usd_per_token) == (inside, outside)
    assert found.price_source == source
    if inside is None or outside is None:
        assert found.estimated_usd is None
    else:
        usd = inside * found.input_tokens + outside * found.max_output_tokens
        assert found.estimated_usd == pytest.approx(usd)


@pytest.mark.parametrize(
    ("documents", "searches"),
    [(["a word"], 1), (["a word"] * 100, 1), (["a word"] * 101, 2), (["word " * 501], 1), (["word " * 501] * 100, 2)],
)
def test_a_search_has_a_hundred_documents_and_a_long_one_counts_several_times(
    prices: Prices, documents: list[str], searches: int
) -> None:
    found = estimate(prices, {"model": "rerank", "query": "Which?", "documents": documents}, "arerank")
    assert found.estimated_usd == pytest.approx(0.002 * searches)


def test_the_query_is_read_with_each_document(prices: Prices) -> None:
    query, document = "Which of these is about rivers and the sea? " * 20, "The Rhine flows into the North Sea."
    asked = {"model": "rerank-by-token", "query": query, "documents": [{"text": document}] * 10}
    found = estimate(prices, asked, "arerank")
    least = 10 * TokenCounter().count([query, document], CL100K)
    assert least <= found.input_tokens < least * 1.6
    assert found.estimated_usd == pytest.approx(found.input_tokens * 5e-8)


def test_reranking_nothing_is_estimated_too(prices: Prices) -> None:
    assert estimate(prices, {"model": "rerank"}, "arerank").estimated_usd == pytest.approx(0.002)


def test_a_price_for_long_requests_applies_to_them(prices: Prices) -> None:
    assert estimate(prices, chat("long")).input_usd_per_token == 3e-6
    long = estimate(prices, chat("long", "word " * 60_000))
    assert long.input_tokens > 200_000
    assert (long.input_usd_per_token, long.output_usd_per_token) == (6e-6, 2.25e-5)


@pytest.mark.parametrize(
    ("call_type", "body", "usd"),
    [
        ("aspeech", {"model": "speak", "input": "a" * 1000, "voice": "alloy"}, 0.015),
        ("aimage_generation", {"model": "paint", "prompt": "a cat"}, 0.04),
        ("aimage_generation", {"model": "paint", "prompt": "a cat", "n": 3}, 0.12),
        ("aimage_generation", {"model": "paint-by-token", "prompt": "a cat"}, None),
        ("aimage_generation", {"model": "gpt-4o", "prompt": "a cat"}, None),
        ("aspeech", {"model": "gpt-4o", "input": "a", "voice": "alloy"}, None),
        ("atranscription", {"model": "hear", "file": ("a.mp3", b"0" * 1000, "audio/mpeg")}, None),
        ("atranscription", {"model": "hear-free", "file": ("a.mp3", b"0" * 1000, "audio/mpeg")}, 0.0),
        ("amoderation", {"model": "moderate", "input": "a"}, 0.0),
        ("call_mcp_tool", {"name": "search", "arguments": {"q": "x"}, "model": "unpriced"}, 0.0),
    ],
)
def test_what_is_not_paid_by_tokens_has_its_own_unit_or_no_price(
    prices: Prices, call_type: str, body: dict[str, Any], usd: float | None
) -> None:
    found = estimate(prices, body, call_type)
    assert found.estimated_usd == (usd if usd is None else pytest.approx(usd))


def test_litellms_working_copy_with_its_noughts_is_no_price_list(
    prices: Prices, monkeypatch: pytest.MonkeyPatch
) -> None:
    """LiteLLM's look-up answers zero for unknown models, and its working copy also holds the models that it serves."""
    assert litellm.get_model_info("anthropic/claude-sonnet-4-20250514")["input_cost_per_token"] == 0
    nought = {"litellm_provider": "openai", "input_cost_per_token": 0.0, "output_cost_per_token": 0.0}
    monkeypatch.setitem(litellm.model_cost, "openai/served-for-nought", nought)
    assert estimate(prices, chat("openai/served-for-nought")).estimated_usd is None


def test_models_that_come_and_go_at_run_time_are_seen() -> None:
    router = litellm.Router(model_list=[MODELS[3]])
    prices = Prices(Deployments(lambda: router), TokenCounter())
    assert not prices.knows("new")
    assert estimate(prices, chat("new")).estimated_usd is None

    def deployment(price: float) -> Any:
        params = litellm.types.router.LiteLLM_Params(model="openai/new", api_key="sk-x")
        info = {"id": "the-new-one", "input_cost_per_token": price, "output_cost_per_token": price}
        return litellm.types.router.Deployment(model_name="new", litellm_params=params, model_info=info)

    router.add_deployment(deployment(TEN))
    assert prices.knows("new")
    assert estimate(prices, chat("new")).input_usd_per_token == TEN
    assert not prices.knows("the-new-one")  # a deployment's id is no name of a model
    assert not prices.knows("openai/new")
    router.upsert_deployment(deployment(DEAR))
    assert estimate(prices, chat("new")).input_usd_per_token == DEAR
    router.fallbacks = [{"gpt-4o": ["new"]}]
    assert estimate(prices, chat("gpt-4o")).input_usd_per_token == DEAR
    router.delete_deployment("the-new-one")
    assert not prices.knows("new")


def test_a_team_name_for_a_model_is_known() -> None:
    info = {"team_id": "t", "team_public_model_name": "ours", "input_cost_per_token": TEN, "output_cost_per_token": TEN}
    model = {
        "model_name": "model_name_t_1",
        "litellm_params": {"model": "openai/x", "api_key": "k"},
        "model_info": info,
    }
    router = litellm.Router(model_list=[model])
    assert estimate(Prices(Deployments(lambda: router), TokenCounter()), chat("ours")).input_usd_per_token == TEN


def test_without_a_router_the_list_is_the_price() -> None:
    prices = Prices(Deployments(lambda: None), TokenCounter())
    assert estimate(prices, chat("gpt-4o")).input_usd_per_token == 2.5e-6
    assert estimate(prices, chat("openai/gpt-4o")).input_usd_per_token == 2.5e-6
    assert not prices.knows("who-knows")


def test_names_that_callers_make_up_take_no_memory(router: Any) -> None:
    found = Deployments(lambda: router)
    for n in range(2_500):
        found.of(f"made-up-{n}")
    found.of("x" * 10_000)
    assert len(found._found) == 2_000


def test_a_picture_of_a_small_model_costs_no_less_than_litellm_says() -> None:
    assert high_detail_image_token_upper_bound(2_834) <= estimate_module._MINI_IMAGE_TOKENS
