"""The names in a request that LiteLLM itself obeys: a table made from one release of LiteLLM.

Promises: the table has each name that this release takes out of a request (a unit test compares it with the release's
source), and a gateway with another release does not start.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from importlib.resources import files
from typing import Final

# LiteLLM treats every name with one of these prefixes as its own.
_PREFIXES: Final = ("litellm_", "_litellm_", "user_api_key", "x-litellm")


@dataclass(frozen=True, slots=True)
class ControlFields:
    """Hold the names that callers may not send to LiteLLM.

    Attributes:
        release: the release of LiteLLM that the table was made from.
        obeyed: names refused at every place where LiteLLM could look for them.
        top: names refused at the top of a body, unless an API of the route has them.
        numbers: some provider's parameters that hold only a number or a switch.
        in_metadata: names refused in a request's metadata, besides those of `obeyed`.
    """

    release: str
    obeyed: frozenset[str]
    top: frozenset[str]
    numbers: frozenset[str]
    in_metadata: frozenset[str]

    def obeys(self, name: str) -> bool:
        """Tell whether LiteLLM could obey a field of this name at any depth of a container of fields."""
        return name in self.obeyed or name.startswith(_PREFIXES)

    def takes(self, name: str) -> bool:
        """Tell whether LiteLLM takes a field of this name from the top of a body."""
        return name in self.top or self.obeys(name)

    def obeys_in_metadata(self, name: str) -> bool:
        """Tell whether LiteLLM could obey an entry of this name in a request's metadata."""
        return name in self.in_metadata or self.obeys(name)


@cache
def control_fields() -> ControlFields:
    """Read the table."""
    sections: dict[str, set[str]] = {}
    release, names = "", set[str]()
    for line in files("gatehouse.proxy").joinpath("control_fields.txt").read_text().splitlines():
        if line.startswith("litellm ="):
            release = line.partition("=")[2].strip()
        elif line.startswith("["):
            names = sections.setdefault(line.strip("[]"), set())
        elif not line.startswith("#"):
            names.update(line.split())
    return ControlFields(
        release,
        *(frozenset(sections[name]) for name in ("control", "top", "number", "metadata")),
    )


def other_release() -> str | None:
    """Return the installed release of LiteLLM where the table was made from another; else None."""
    installed = version("litellm")
    return installed if installed != control_fields().release else None
