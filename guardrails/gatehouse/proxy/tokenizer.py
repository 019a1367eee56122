"""Counts the tokens of a request with the tokenizers that ship inside LiteLLM; needs no network.

The count is never below the tokenizer's. Each text is counted once: an agent sends its whole conversation again with
every turn, and a lookup by digest takes a microsecond. A thread counts much new text; without one its bytes count, of
which every token has at least one. So the event loop is never held for long.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from hashlib import blake2b
from threading import Lock
from typing import Any, Final

from cachetools import LRUCache
from litellm.litellm_core_utils.token_counter import get_encoding

from gatehouse.pricing.estimate import KnowsDeployments
from gatehouse.pricing.structure import CL100K, O200K

_ENCODINGS: Final = (CL100K, O200K)

# New text that is counted at once: 14 ms at the slowest (nothing but blanks), 4 ms of English.
_MAX_AT_ONCE: Final = 65_536
# New text that is worth a change of threads: 7 ms at the slowest.
_MIN_FOR_THREAD: Final = 32_768
# New text of one request that a thread counts: a second at the slowest.
_MAX_IN_THREAD: Final = 4_194_304
# What one text costs the cache: a key of 17 bytes, a number, and their places in two dictionaries. Measured: 160 to
# 190, and up to twice that while they grow.
_ENTRY_BYTES: Final = 350


class TokenCounter:
    """Count tokens and remember the counts.

    Args:
        cache_bytes: about how much memory the counts may take.
    """

    def __init__(self, cache_bytes: int = 16 * 1024 * 1024) -> None:
        self._encodings: dict[str, Any] = {name: get_encoding(name) for name in _ENCODINGS}
        self._counts = LRUCache[bytes, int](max(cache_bytes // _ENTRY_BYTES, 1))
        self._alone = Lock()  # bodies are read in threads too
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="gatehouse-tokens")

    def __len__(self) -> int:
        return len(self._counts)

    def count(self, texts: Iterable[str], encoding: str = CL100K) -> int:
        """Return the tokens of all the texts. New text beyond 64 kB counts as many tokens as it has bytes."""
        tokens, left = 0, _MAX_AT_ONCE
        for text in texts:
            if not text:
                continue
            raw = _bytes(text)
            key = _key(raw, encoding)
            known = self._known(key)
            if known is not None:
                tokens += known
            elif len(raw) <= left:
                left -= len(raw)
                known = self._tokens(text, encoding)
                self._remember(key, known)
                tokens += known
            else:
                tokens += len(raw)
        return tokens

    def text(self, tokens: Sequence[int], encoding: str) -> str | None:
        """Return the text of tokens; None where one is unknown. A half of a character becomes a replacement mark."""
        try:
            return str(self._encodings[encoding].decode(tokens))
        except (KeyError, OverflowError):
            return None

    async def prepare(self, texts: Sequence[str], encoding: str = CL100K) -> None:
        """Count much new text in a thread, so that `count` is fast and exact."""
        if sum(map(len, texts)) < _MIN_FOR_THREAD:
            return
        new: dict[bytes, str] = {}
        size = 0
        for text in dict.fromkeys(texts):
            raw = _bytes(text)
            key = _key(raw, encoding)
            if key not in self._counts and key not in new and size + len(raw) <= _MAX_IN_THREAD:
                size += len(raw)
                new[key] = text
        if size < _MIN_FOR_THREAD:
            return
        counted = await asyncio.get_running_loop().run_in_executor(
            self._pool, lambda: [self._tokens(text, encoding) for text in new.values()]
        )
        for key, tokens in zip(new, counted, strict=True):
            self._remember(key, tokens)

    def _tokens(self, text: str, encoding: str) -> int:
        return len(self._encodings[encoding].encode_ordinary(text))

    def _known(self, key: bytes) -> int | None:
        with self._alone:
            return self._counts.get(key)

    def _remember(self, key: bytes, tokens: int) -> None:
        with self._alone:
            self._counts[key] = tokens


class Detokenizer:
    """Turn tokens of a model into text, where all deployments that may answer for it have one known tokenizer."""

    def __init__(self, deployments: KnowsDeployments, counter: TokenCounter) -> None:
        self._deployments = deployments
        self._counter = counter

    def __call__(self, model: str, tokens: Sequence[int]) -> str | None:
        known = {each.encoding if each.factor == 1.0 else None for each in self._deployments.of(model)}
        encoding = known.pop() if len(known) == 1 else None
        return None if encoding is None else self._counter.text(tokens, encoding)


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _key(raw: bytes, encoding: str) -> bytes:
    return blake2b(raw, digest_size=16).digest() + encoding[:1].encode()
