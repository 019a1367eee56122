"""What a request only names because the provider holds it: a file, a conversation, a prompt, a container.

Nobody who reads the request sees what it is, and what is behind the name may be another tomorrow.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from gatehouse.shapes.fields import Reader
from gatehouse.shapes.freejson import free
from gatehouse.shapes.parts import Path, View

FILE: Final = "a file"
CONVERSATION: Final = "a conversation"
PROMPT: Final = "a prompt"
CONTAINER: Final = "a container"
RECORDING: Final = "a recording"
IMAGE: Final = "an image"

# As the providers' tools and settings call them; in what a function is given, these names mean nothing to a provider.
_NAMES: Final[Mapping[str, str]] = {
    **dict.fromkeys(("file_id", "file_ids", "file_uri", "fileUri", "fileId", "fileIds"), FILE),
    **dict.fromkeys(("vector_store_id", "vector_store_ids", "vectorStoreIds"), "a vector store"),
    **dict.fromkeys(("container", "container_id"), CONTAINER),
    **dict.fromkeys(("cached_content", "cachedContent"), "a cached prompt"),
    **dict.fromkeys(("prompt_id",), PROMPT),
    **dict.fromkeys(
        ("previous_response_id", "conversation", "conversation_id", "previous_interaction_id"), CONVERSATION
    ),
    "skill_id": "a skill",
}
# Where an object stands under one of these names, it may also ask for a new one.
_OR_NEW: Final = frozenset({"container", "conversation"})


def stored(what: str, reader: Reader) -> Reader:
    """The name of what the provider holds, which `reader` reads."""

    def read(view: View, value: Any, path: Path, role: str) -> None:
        _note(view, value, path, what)
        reader(view, value, path, role)

    return read


def settings(view: View, value: Any, path: Path, role: str) -> None:
    """Free JSON that a provider acts on: the settings of its own tools, and fields that no API has."""
    free(view, value, path, role)
    _look(view, value, path)


def _look(view: View, value: Any, path: Path) -> None:
    name = path[-1] if path else None
    what = _NAMES.get(name) if isinstance(name, str) else None
    if isinstance(value, dict):
        if what is not None and name in _OR_NEW:
            _note(view, value.get("id"), (*path, "id"), what)
        for inner_name, inner in value.items():
            if inner_name == "skill_id" and value.get("type") == "anthropic":
                continue  # Anthropic's own, like its tools
            _look(view, inner, (*path, inner_name))
    elif what is not None:
        _note(view, value, path, what)
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            _look(view, inner, (*path, index))


def _note(view: View, value: Any, path: Path, what: str) -> None:
    if value not in (None, "", [], {}):
        view.name_stored(path, what)
