"""Embeddings of tokens, which LangChain sends by default: the provider gets texts, masked like any others."""

from __future__ import annotations

import json
from pathlib import Path

import httpx
import pytest
from langchain_openai import OpenAIEmbeddings
from litellm.litellm_core_utils import tokenizers

from tests.support.gateway import Gateway
from tests.support.upstream import Upstream


def test_langchain_sends_tokens_and_the_provider_gets_masked_texts(
    governed: Gateway, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The tokenizers that LiteLLM ships, for tiktoken would download them.
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(Path(tokenizers.__file__).parent))
    embeddings = OpenAIEmbeddings(
        model="up-embedding",
        base_url=f"{governed.url}/v1",
        api_key=governed.new_key(),
        tiktoken_model_name="text-embedding-3-small",
    )
    assert embeddings.embed_query("the river Rhine, says ada@example.com") == [0.1, 0.2]
    (_, body) = upstream.requests[-1]
    (text,) = json.loads(body)["input"]
    assert text.startswith("the river Rhine, says <EMAIL_ADDRESS_")
    assert b"ada@" not in body


def test_ten_thousand_tokens_are_no_more_than_a_text(upstream_gateway: Gateway, upstream: Upstream) -> None:
    with upstream_gateway.client() as client:
        answer = client.post("/v1/embeddings", json={"model": "up-embedding", "input": [[9906] * 8000, [4435] * 2000]})
    assert answer.status_code == 200, answer.text
    assert json.loads(upstream.requests[-1][1])["input"] == ["Hello" * 8000, " World" * 2000]


@pytest.mark.parametrize(("model", "tokens"), [("up-embedding", [10**7]), ("up-rerank", [1]), ("demo-embedding", [1])])
def test_tokens_of_no_known_tokenizer_are_refused_by_name(
    upstream_gateway: Gateway, upstream: Upstream, model: str, tokens: list[int]
) -> None:
    with upstream_gateway.client() as client:
        answer: httpx.Response = client.post("/v1/embeddings", json={"model": model, "input": tokens})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "input"), answer.text
    assert upstream.requests == []
