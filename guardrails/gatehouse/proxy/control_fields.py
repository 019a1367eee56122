"""The names that LiteLLM itself obeys when a request says them: a table that was made from one release of LiteLLM.

Promises: each name that the installed release takes out of a request stands in the table (tests/unit holds it against
the release's source), and a gateway with another release does not start.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from importlib.resources import files
from typing import Final

# LiteLLM takes what begins so for its own, whatever follows.
_PREFIXES: Final = ("litellm_", "_litellm_", "user_api_key", "x-litellm")


@dataclass(frozen=True, slots=True)
class ControlFields:
    """What callers may not say to LiteLLM.

    Attributes:
        release: of LiteLLM that the table was made from.
        obeyed: refused wherever LiteLLM could look for them.
        top: refused at the top of a body, where no API that the route speaks has them.
        numbers: parameters of some provider that say nothing but a number or a switch.
        in_metadata: refused in a request's metadata, beside those of `obeyed`.
    """

    release: str
    obeyed: frozenset[str]
    top: frozenset[str]
    numbers: frozenset[str]
    in_metadata: frozenset[str]

    def obeys(self, name: str) -> bool:
        """Whether LiteLLM could obey a field of this name at any depth of a container of fields."""
        return name in self.obeyed or name.startswith(_PREFIXES)

    def takes(self, name: str) -> bool:
        """Whether LiteLLM takes a field of this name from the top of a body."""
        return name in self.top or self.obeys(name)

    def obeys_in_metadata(self, name: str) -> bool:
        """Whether LiteLLM could obey an entry of this name in a request's metadata."""
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
    """The installed release of LiteLLM, where the table was made from another; None where it is the same."""
    installed = version("litellm")
    return installed if installed != control_fields().release else None
