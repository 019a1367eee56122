"""Reads the fenced blocks of a Markdown page, with the invisible comments above them and the output below them."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path

_FENCE = re.compile(
    r"^(?P<indent> *)```(?P<language>[^\n`]*)\n(?P<code>.*?)^(?P=indent)```[ \t]*$", re.MULTILINE | re.DOTALL
)
_COMMENT = re.compile(r"<!--\s*(\S[^\n]*?)\s*-->\s*$")
# What may print what, where the second follows the first with nothing but blank lines between.
_PRINTS = {"python": ("text",), "sh": ("text", "json"), "bash": ("text", "json"), "console": ("text", "json")}


@dataclass(frozen=True)
class Block:
    """Holds one fenced block.

    Attributes:
        page: path in the repository.
        line: of its first fence.
        remarks: the comments right above it, by the word before the colon.
        output: what it prints: the `text` block right below it, or after a command also a `json` block.
        is_output: it is another block's output.
    """

    page: str
    line: int
    language: str
    code: str
    remarks: dict[str, str]
    output: Block | None = None
    is_output: bool = False

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def pages(repository: Path) -> list[str]:
    """Return the pages for readers, as paths in the repository."""
    found = ["README.md"]
    for pattern in ("[!.]*/README.md", "docs/*.md"):
        found += sorted(str(path.relative_to(repository)) for path in repository.glob(pattern))
    return found


def blocks(repository: Path, page: str) -> list[Block]:
    """Return all fenced blocks of `page`, in order."""
    text = (repository / page).read_text()
    found: list[Block] = []
    ends: list[int] = []
    for match in _FENCE.finditer(text):
        code = re.sub(rf"^{match['indent']}", "", match["code"], flags=re.MULTILINE)
        remarks = _remarks(text[: match.start()])
        line = text.count("\n", 0, match.start()) + 1
        language = match["language"].strip()
        follows = bool(found) and not text[ends[-1] : match.start()].strip()
        is_output = follows and language in _PRINTS.get(found[-1].language, ())
        block = Block(page, line, language, code, remarks, is_output=is_output)
        if is_output:
            found[-1] = replace(found[-1], output=block)
        found.append(block)
        ends.append(match.end())
    return found


def _remarks(before: str) -> dict[str, str]:
    remarks = {}
    while match := _COMMENT.search(before.rstrip()):
        word, _, rest = match[1].partition(":")
        remarks[word.strip()] = rest.strip()
        before = before.rstrip()[: match.start()]
    return remarks


def indented_code(text: str) -> list[int]:
    """Return the lines at which code without a fence, and so without a language, begins."""
    outside = _FENCE.sub(lambda match: "\n" * match[0].count("\n"), text)
    return [outside.count("\n", 0, match.start()) + 2 for match in re.finditer(r"(?<=\n)[ \t]*\n {4,}\S", outside)]
