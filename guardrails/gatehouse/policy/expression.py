"""Finds the parts of a CEL expression: the facts that it names, and the parts that must be true or false.

CEL stops at the first operand that settles a condition, so trying a `when` on an example leaves the rest of it untried.
This module finds the rest. The CEL library decides what an expression means; the grammar here is the specification's
(github.com/google/cel-spec, doc/langdef.md, "Syntax") without messages, which the library does not have either.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

MAX_DEPTH = 60
"""The most nested parentheses. The library gives up between 50 and 200."""

_TOKEN = re.compile(
    r"""
    (?P<skip>\s+|//[^\n]*)
  | (?P<string>(?:[bB]?[rR]|[rR][bB])(?:\"\"\".*?\"\"\"|'''.*?'''|"[^"\n]*"|'[^'\n]*')
             |[bB]?(?:\"\"\"(?:\\.|[^\\])*?\"\"\"|'''(?:\\.|[^\\])*?'''|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'))
  | (?P<number>0[xX][0-9a-fA-F]+[uU]?|(?:\d+\.\d+|\.\d+|\d+)(?:[eE][+-]?\d+)?[uU]?)
  | (?P<name>[A-Za-z_][A-Za-z0-9_]*)
  | (?P<symbol>&&|\|\||[<>=!]=|[-+*/%<>!?:.,()\[\]{}])
    """,
    re.VERBOSE | re.DOTALL,
)
_MACROS = frozenset({"all", "exists", "exists_one", "existsOne", "map", "filter"})
_LITERALS = frozenset({"true", "false", "null"})
_RELATIONS = frozenset({"<", "<=", ">", ">=", "==", "!=", "in"})


class NotUnderstood(ValueError):
    """Report a text that is not a known CEL expression; the message says where."""


@dataclass(frozen=True, slots=True)
class Binding:
    """Hold a name that a macro such as `exists` gives to each item of `items`, an expression's text."""

    name: str
    items: str
    scope: tuple[Binding, ...] = ()


@dataclass(frozen=True, slots=True)
class Piece:
    """Hold a part of the expression, and the names that are bound at its place."""

    text: str
    scope: tuple[Binding, ...] = ()


@dataclass(slots=True)
class Structure:
    """List the parts of an expression.

    Attributes:
        paths: the name of each fact, such as `("caller", "team")`, once, in order.
        conditions: operands of `&&`, `||`, `!` and the test of `? :`; each must be true or false.
        values: parts that only have to evaluate: the branches of `? :`, and the lists of macros.
        comparisons: both sides of each `==` and `!=`.
    """

    paths: dict[tuple[str, ...], None] = field(default_factory=dict)
    conditions: list[Piece] = field(default_factory=list)
    values: list[Piece] = field(default_factory=list)
    comparisons: list[tuple[Piece, Piece]] = field(default_factory=list)


def structure_of(source: str) -> Structure:
    """Take an expression apart.

    Raises:
        NotUnderstood: the text is not an expression.
    """
    return _Parser(source).run()


class _Parser:
    def __init__(self, source: str) -> None:
        self._source = source
        self._tokens: list[tuple[str, str, int, int]] = []
        position = 0
        while position < len(source):
            match = _TOKEN.match(source, position)
            if match is None:
                raise NotUnderstood(f"{source[position : position + 20]!r} is not part of an expression")
            if match.lastgroup != "skip":
                self._tokens.append((match.lastgroup or "", match[0], match.start(), match.end()))
            position = match.end()
        self._next = 0
        self._depth = 0
        self._scope: tuple[Binding, ...] = ()
        self._found = Structure()

    def run(self) -> Structure:
        self._expression()
        if self._next < len(self._tokens):
            raise NotUnderstood(f"{self._tokens[self._next][1]!r} is not expected there")
        return self._found

    # Tokens

    def _peek(self) -> str:
        return self._tokens[self._next][1] if self._next < len(self._tokens) else ""

    def _take(self) -> tuple[str, str]:
        if self._next >= len(self._tokens):
            raise NotUnderstood("it ends too early")
        kind, text, _, _ = self._tokens[self._next]
        self._next += 1
        return kind, text

    def _accept(self, *symbols: str) -> bool:
        if self._peek() in symbols and self._peek():
            self._next += 1
            return True
        return False

    def _expect(self, symbol: str) -> None:
        if not self._accept(symbol):
            raise NotUnderstood(f"{symbol!r} is expected before {self._peek() or 'the end'!r}")

    def _piece(self, first: int) -> Piece:
        """Return the text from token `first` to the current one."""
        if first >= self._next:
            raise NotUnderstood("it ends too early")
        return Piece(self._source[self._tokens[first][2] : self._tokens[self._next - 1][3]], self._scope)

    # Grammar, from the loosest binding to the tightest

    def _expression(self) -> None:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise NotUnderstood(f"more than {MAX_DEPTH} parentheses in parentheses")
        first = self._next
        self._operands("||")
        if self._peek() == "?":
            self._found.conditions.append(self._piece(first))
            self._take()
            self._branch()
            self._expect(":")
            self._branch()
        self._depth -= 1

    def _branch(self) -> None:
        first = self._next
        self._expression()
        self._found.values.append(self._piece(first))

    def _operands(self, symbol: str) -> None:
        pieces = []
        while True:
            first = self._next
            if symbol == "||":
                self._operands("&&")
            else:
                self._relation()
            pieces.append(self._piece(first))
            if not self._accept(symbol):
                break
        if len(pieces) > 1:
            self._found.conditions.extend(pieces)

    def _relation(self) -> None:
        first = self._next
        self._arithmetic()
        while self._peek() in _RELATIONS:
            left = self._piece(first)
            _, operator = self._take()
            right = self._next
            self._arithmetic()
            if operator in ("==", "!="):
                self._found.comparisons.append((left, self._piece(right)))

    def _arithmetic(self) -> None:
        # `+ - * / %` bind differently. That changes the value, but neither the facts named nor the conditions.
        self._unary()
        while self._accept("+", "-", "*", "/", "%"):
            self._unary()

    def _unary(self) -> None:
        negations = 0
        while self._accept("!", "-"):
            negations += self._tokens[self._next - 1][1] == "!"
        first = self._next
        self._member()
        if negations:
            self._found.conditions.append(self._piece(first))

    def _member(self) -> None:
        first = self._next
        path = self._primary()
        while True:
            if self._accept("."):
                items = Piece(self._source[self._tokens[first][2] : self._tokens[self._next - 2][3]], self._scope)
                kind, name = self._take()
                if kind != "name":
                    raise NotUnderstood(f"a name is expected after '.', not {name!r}")
                if self._accept("("):
                    self._named(path)
                    path = ()
                    self._macro(items) if name in _MACROS else self._list(")")
                elif path:
                    path = (*path, name)
            elif self._accept("["):
                key = self._tokens[self._next] if self._next < len(self._tokens) else ("", "", 0, 0)
                self._expression()
                self._expect("]")
                plain = key[0] == "string" and re.fullmatch(r"""(["'])(\w+)\1""", key[1])
                if path and plain and self._tokens[self._next - 2] == key:
                    path = (*path, plain[2])
                else:
                    self._named(path)
                    path = ()
            else:
                self._named(path)
                return

    def _primary(self) -> tuple[str, ...]:
        kind, text = self._take()
        if kind == "name":
            if text in _LITERALS:
                return ()
            if self._accept("("):
                self._list(")")
                return ()
            return () if any(binding.name == text for binding in self._scope) else (text,)
        if kind in ("string", "number"):
            return ()
        if text == "(":
            self._expression()
            self._expect(")")
        elif text == "[":
            self._list("]")
        elif text == "{":
            while not self._accept("}"):
                self._expression()
                self._expect(":")
                self._expression()
                if not self._accept(","):
                    self._expect("}")
                    break
        else:
            raise NotUnderstood(f"{text!r} is not expected there")
        return ()

    def _list(self, end: str) -> None:
        while not self._accept(end):
            self._expression()
            if not self._accept(","):
                self._expect(end)
                return

    def _macro(self, items: Piece) -> None:
        """Parse a macro such as `list.exists(name, condition)`, which binds the name in its arguments."""
        kind, name = self._take()
        if kind != "name" or name in _LITERALS:
            raise NotUnderstood(f"a name is expected as a macro's first argument, not {name!r}")
        self._expect(",")
        outside = self._scope
        self._scope = (*outside, Binding(name, items.text, items.scope))
        self._branch()
        while self._accept(","):
            self._branch()
        self._expect(")")
        self._scope = outside

    def _named(self, path: tuple[str, ...]) -> None:
        if path:
            self._found.paths.setdefault(path)
