"""Compiles a rule's `when`, and refuses one that would not work, such as a missing fact or text compared with a number.

A typo in a rule must be a mistake when the file is loaded, not a denial of every call, nor a rule that never matches.
Every part of the condition is tried on a sample call, because CEL skips parts that cannot change the result.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import cel

from gatehouse.policy.document import did_you_mean
from gatehouse.policy.expression import Binding, NotUnderstood, Piece, Structure, structure_of
from gatehouse.policy.facts import SAMPLE, Facts, wanted_by


class WhenError(ValueError):
    """Report a `when` that would not work; the message gives the reason and what was expected."""


@dataclass(frozen=True, slots=True)
class Condition:
    """Hold a `when` that was compiled and tried.

    Attributes:
        paths: the facts that it names, such as `caller.team`.
    """

    source: str
    program: cel.Program
    paths: tuple[tuple[str, ...], ...]


# Most rules of a changed file are unchanged, and need no second trial.
@lru_cache(maxsize=4_096)
def condition(source: str, entities: frozenset[str]) -> Condition:
    """Compile a `when` and try it.

    Args:
        entities: the names that `pii` counts.

    Raises:
        WhenError: it cannot be read, names an unknown fact, or is not true or false.
    """
    try:
        program = cel.compile(source)
        structure = structure_of(source)
    except NotUnderstood as error:
        raise WhenError(f"cannot be read: {error}") from None
    except ValueError as error:
        raise WhenError(f"cannot be read: {_syntax(error)}") from None
    everything = SAMPLE.as_dict(entities)
    for path in structure.paths:
        _exists(path, everything)
    wanted = wanted_by(structure.paths)  # as the gateway will do, so that a fact it does not recognise fails here
    sample, neutral = SAMPLE.as_dict(entities, wanted), Facts().as_dict(entities, wanted)
    _try_pieces(structure, sample)
    _true_or_false(source, _value(Piece(source), sample))
    try:
        _true_or_false(source, _value(Piece(source), neutral))
    except WhenError as error:
        raise WhenError(
            f"fails for a call of which little is known: {error}. Check first that the fact is set"
        ) from None
    return Condition(source, program, tuple(structure.paths))


def reason_of(error: Exception) -> str:
    """Return the CEL library's message in one line."""
    if isinstance(error, KeyError):
        return f"there is no {error}"
    return str(error).split(" CEL does not coerce")[0].split(". Check ")[0].splitlines()[0].rstrip(".")


def _syntax(error: ValueError) -> str:
    lines = str(error).splitlines()
    found = next((line for line in lines if "ERROR:" in line), lines[0])
    return found.rpartition("<input>:")[2] if "<input>:" in found else found


def _exists(path: tuple[str, ...], facts: dict[str, dict[str, Any]]) -> None:
    root, *rest = path
    if root not in facts:
        owners = [f"{part}.{root}" for part, values in facts.items() if root in values]
        hint = f"; did you mean {owners[0]}?" if owners else did_you_mean(root, facts)
        raise WhenError(f"{'.'.join(path)} is not a fact{hint}")
    if rest and rest[0] not in facts[root]:
        hint = did_you_mean(rest[0], facts[root]).replace("did you mean ", f"did you mean {root}.")
        raise WhenError(f"{root}.{rest[0]} is not a fact{hint}")
    if len(rest) > 1:
        raise WhenError(f"{'.'.join(path)} is not a fact; {root}.{rest[0]} has nothing inside")


def _try_pieces(structure: Structure, facts: dict[str, dict[str, Any]]) -> None:
    for piece in structure.conditions:
        if (variables := _bound(piece.scope, facts)) is not None:
            _true_or_false(piece.text, _value(piece, variables))
    for piece in structure.values:
        if (variables := _bound(piece.scope, facts)) is not None:
            _value(piece, variables)
    for left, right in structure.comparisons:
        if (variables := _bound(left.scope, facts)) is not None:
            one, other = _kind(_value(left, variables)), _kind(_value(right, variables))
            if one != other:
                raise WhenError(f"{left.text} is {one} and {right.text} is {other}: the two are never equal")


def _bound(scope: tuple[Binding, ...], facts: dict[str, dict[str, Any]]) -> dict[str, Any] | None:
    """Return the sample with the names that macros bind; None where the macro runs over an empty list."""
    variables: dict[str, Any] = dict(facts)
    for binding in scope:
        outer = _bound(binding.scope, facts)
        items = _value(Piece(binding.items), outer) if outer is not None else None
        if not isinstance(items, list | dict) or not items:
            return None
        variables[binding.name] = next(iter(items))
    return variables


def _value(piece: Piece, variables: dict[str, Any]) -> Any:
    try:
        return cel.evaluate(piece.text, variables)
    except Exception as error:  # the library raises Python's exceptions: KeyError, TypeError, ZeroDivisionError, ...
        raise WhenError(f"{piece.text}: {reason_of(error)}") from None


def _true_or_false(text: str, value: Any) -> None:
    if not isinstance(value, bool):
        raise WhenError(f"{text} is {_kind(value)}, but should be true or false")


def _kind(value: Any) -> str:
    if value is None:
        return "null"
    for kinds, name in (
        (bool, "true or false"),
        (int | float, "a number"),
        (str, "text"),
        (list, "a list"),
        (dict, "a map"),
    ):
        if isinstance(value, kinds):
            return name
    return type(value).__name__
