"""Reads YAML files that a person writes, within bounds, and reports every mistake with its file and line.

YAML parsers take the last value of a repeated key. Here such a key is a mistake, as its author may mean the first.
"""

from __future__ import annotations

import difflib
import types
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError

from gatehouse.core.errors import SetupError

MAX_BYTES = 1_000_000
MAX_NODES = 100_000
"""Values in a file after every alias is written out. 1,000 rules have about 10,000; nested anchors reach any number."""
MAX_DEPTH = 30

_M = TypeVar("_M", bound=BaseModel)
_Location = tuple[int | str, ...]


@dataclass(frozen=True, slots=True)
class Problem:
    """Describe one mistake: its line, counted from 1, what is wrong and what was expected."""

    line: int
    message: str


class DocumentError(SetupError):
    """Report a file that cannot be used. `problems` holds every mistake; the message tells the first."""

    def __init__(self, path: Path, problems: Iterable[Problem]) -> None:
        self.path = path
        self.problems = tuple(sorted(problems, key=lambda problem: problem.line))
        first, others = self.problems[0], len(self.problems) - 1
        more = f" (and {others} more)" if others else ""
        stop = "" if first.message.endswith("?") and not more else "."
        super().__init__(f"{path}:{first.line}: {first.message}{more}{stop}")


@dataclass(frozen=True, slots=True)
class Document:
    """Hold a parsed file: its bytes, its plain value, and the place of each value."""

    path: Path
    raw: bytes
    value: Any
    root: yaml.Node | None

    def line_of(self, location: _Location) -> int:
        """Return the line of the innermost key or item on the way to `location`."""
        node, line = self.root, 1 if self.root is None else self.root.start_mark.line + 1
        for part in location:
            mark, node = next(_children(node, part), (None, None))
            if mark is None:
                break
            line = mark.start_mark.line + 1
        return line

    def validated(self, model: type[_M]) -> _M:
        """Return the file as a `model`.

        Raises:
            DocumentError: with every mistake.
        """
        try:
            return model.model_validate({} if self.value is None else self.value)
        except ValidationError as error:
            raise DocumentError(
                self.path, [self._problem(model, each) for each in error.errors(include_url=False)]
            ) from None

    def _problem(self, model: type[BaseModel], error: Any) -> Problem:
        location: _Location = error["loc"]
        where = ".".join(str(part) for part in location if part != "[key]") or "the file"
        if error["type"] == "missing":
            what = f"{where} is missing"
        elif error["type"] == "extra_forbidden":
            owner = _model_at(model, location[:-1])
            what = f"{where} is not a known key" + did_you_mean(location[-1], owner.model_fields if owner else ())
        elif not location and error["type"] == "model_type":
            what = "the file should be a mapping of keys to values, such as `version: 1`"
        else:
            what = f"{where}: {error['msg'].removeprefix('Value error, ')}"
        return Problem(self.line_of(location), what)


def read_document(path: Path) -> Document:
    """Read and parse a YAML file.

    Raises:
        DocumentError: it is missing, too large, not YAML, or repeats a key.
    """
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise SetupError(f"{path}: {error.strerror}. Restore the file or name another.") from None
    return parse_document(path, raw)


def parse_document(path: Path, raw: bytes) -> Document:
    """Parse the bytes of a YAML file; `path` is only for messages.

    Raises:
        DocumentError: it is too large, not YAML, or repeats a key.
    """
    if len(raw) > MAX_BYTES:
        raise DocumentError(path, [Problem(1, f"{len(raw):,} bytes are too many; at most {MAX_BYTES:,} are read")])
    try:
        # libyaml's composer recurses on the C stack, and a deep enough file kills the process.
        if (line := _too_deep(raw)) is not None:
            raise DocumentError(path, [Problem(line, f"more than {MAX_DEPTH} levels; write it out flat")])
        root = yaml.compose(raw, Loader=yaml.CSafeLoader)
        if problems := list(_structural_problems(root)):
            raise DocumentError(path, problems)
        # Build the value from the nodes that were checked, so that the value is what was checked.
        value = yaml.CSafeLoader(b"").construct_document(root) if root is not None else None
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise DocumentError(path, [Problem(line, f"{error.problem or error.context}. Correct the YAML")]) from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise DocumentError(path, [Problem(1, f"{str(error).splitlines()[0]}. Correct the YAML")]) from None
    return Document(path, raw, value, root)


def did_you_mean(word: object, known: Iterable[str]) -> str:
    """Return `; did you mean X?` or the list of choices; empty where there are none."""
    names = sorted(known)
    close = difflib.get_close_matches(str(word), names, n=1)
    if close:
        return f"; did you mean {close[0]}?"
    return f"; known are {', '.join(names)}" if 0 < len(names) <= 12 else ""


def _too_deep(raw: bytes) -> int | None:
    """Return the line where the nesting exceeds `MAX_DEPTH`."""
    depth = 0
    for event in yaml.parse(raw, Loader=yaml.CSafeLoader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_DEPTH:
            return event.start_mark.line + 1 if event.start_mark else 1
    return None


def _structural_problems(root: yaml.Node | None) -> Iterator[Problem]:
    """Walk the file as if every alias were written out, and stop where it becomes too large."""
    stack = [(root, 1)] if root is not None else []
    seen: set[int] = set()
    visited = 0
    while stack:
        node, depth = stack.pop()
        visited += 1
        line = node.start_mark.line + 1
        if visited > MAX_NODES or depth > MAX_DEPTH:
            yield Problem(line, "anchors and nesting make this file too large; write it out flat")
            return
        if isinstance(node, yaml.MappingNode):
            if id(node) not in seen:
                seen.add(id(node))
                yield from _duplicates(node)
            stack.extend((child, depth + 1) for pair in node.value for child in pair)
        elif isinstance(node, yaml.SequenceNode):
            stack.extend((child, depth + 1) for child in node.value)


def _duplicates(node: yaml.MappingNode) -> Iterator[Problem]:
    lines: dict[tuple[str, str], int] = {}
    for key, _ in node.value:
        if isinstance(key, yaml.ScalarNode):
            line = key.start_mark.line + 1
            if (key.tag, key.value) in lines:
                first = lines[key.tag, key.value]
                yield Problem(line, f"the key {key.value!r} is given twice, first in line {first}; keep one")
            lines.setdefault((key.tag, key.value), line)


def _children(node: yaml.Node | None, part: int | str) -> Iterator[tuple[yaml.Node, yaml.Node]]:
    """Yield each child as the node whose line is reported and the node to continue from."""
    if isinstance(node, yaml.MappingNode):
        yield from ((key, value) for key, value in reversed(node.value) if key.value == str(part))
    elif isinstance(node, yaml.SequenceNode):
        if isinstance(part, int):
            yield from ((item, item) for item in node.value[part : part + 1])
        else:  # a list that the model reads as the keys of a mapping
            yield from ((item, item) for item in node.value if item.value == part)


def _model_at(model: type[BaseModel], location: _Location) -> type[BaseModel] | None:
    """Return the model that describes the value at `location`."""
    current: Any = model
    for part in location:
        if isinstance(current, type) and issubclass(current, BaseModel):
            field = current.model_fields.get(str(part))
            current = field.annotation if field else None
        else:
            arguments = [each for each in get_args(current) if each is not Ellipsis]
            current = arguments[-1] if arguments else None
        if get_origin(current) in (Union, types.UnionType):
            current = next((each for each in get_args(current) if each is not type(None)), None)
    return current if isinstance(current, type) and issubclass(current, BaseModel) else None
