"""Two loggers that change answers, to use and to learn from: one writes before them, one takes words out of them.

Both work on whole answers and on streams; see `TextModifier` for where LiteLLM lets them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from fastapi import HTTPException
from litellm.types.utils import EmbeddingResponse, ImageResponse

from gatehouse.loggers.texts import TextChange, TextModifier


class ResponseModifier(TextModifier):
    """Writes `prefix` before every answer; before its first word, where the answer is a stream."""

    def __init__(self, prefix: str = "[Verified] ") -> None:
        super().__init__()
        self.prefix = prefix

    def start(self, field: str) -> TextChange | None:
        return _Prefix(self.prefix) if field in ("content", "text") else None


class _Prefix:
    def __init__(self, prefix: str) -> None:
        self._prefix = prefix

    def feed(self, text: str) -> str:
        if not text:
            return text
        prefix, self._prefix = self._prefix, ""
        return prefix + text

    def end(self) -> str:
        return ""


class ContentFilter(TextModifier):
    """Puts `replacement` in the place of every blocked word, also where a stream cuts the word in two.

    A stream is behind by the length of the longest word. Upper and lower case are the same; a word inside another word
    stays, where the script puts spaces between words. An answer in another shape (Messages, Responses, audio) is
    refused. To keep words out on every route of the gateway, use policy.yaml's `screens`, which also see through
    disguises.

    Args:
        blocked_words: words or phrases.

    Raises:
        ValueError: there is none, or an empty one.
    """

    def __init__(self, blocked_words: Sequence[str], replacement: str = "[FILTERED]") -> None:
        super().__init__()
        if isinstance(blocked_words, str) or not blocked_words or not all(word.strip() for word in blocked_words):
            raise ValueError("ContentFilter: blocked_words is a list of words, none of them empty.")
        longest_first = sorted(blocked_words, key=len, reverse=True)
        self._pattern = re.compile("|".join(map(_alone, longest_first)), re.IGNORECASE)
        self._longest = len(longest_first[0])
        self._replacement = replacement

    def start(self, field: str) -> TextChange | None:
        return _Replacing(self._pattern, self._longest, self._replacement)

    def unread(self, answer: Any) -> Any:
        if isinstance(answer, EmbeddingResponse | ImageResponse):
            return answer
        raise HTTPException(501, "ContentFilter reads chat and text completions only. Ask for one of these.")


class _Replacing:
    """Holds back what may still become, or be, a blocked word."""

    def __init__(self, pattern: re.Pattern[str], longest: int, replacement: str) -> None:
        self._pattern, self._longest, self._replacement = pattern, longest, replacement
        self._before = ""  # the last character that was passed on, for the beginning of a word
        self._held = ""

    def feed(self, text: str) -> str:
        self._held += text
        # A word that begins before this is here whole, and so is the character after it.
        return self._pass_on(len(self._held) - self._longest)

    def end(self) -> str:
        return self._pass_on(len(self._held))

    def _pass_on(self, count: int) -> str:
        if count <= 0:
            return ""
        seen, done = self._before + self._held, len(self._before)
        until, passed = done + count, ""
        for found in self._pattern.finditer(seen, done):
            if found.start() >= until:
                break
            passed += seen[done : found.start()] + self._replacement
            done = found.end()
        passed += seen[done:until]
        done = max(done, until)
        self._before, self._held = seen[done - 1 : done], seen[done:]
        return passed


def _alone(word: str) -> str:
    """The word as a pattern; not inside another word, where it begins or ends with a letter of a script with spaces."""
    begins, ends = (_has_case(letter) or letter.isdecimal() for letter in (word[0], word[-1]))
    return (r"(?<!\w)" if begins else "") + re.escape(word) + (r"(?!\w)" if ends else "")


def _has_case(letter: str) -> bool:
    return letter.lower() != letter.upper()
