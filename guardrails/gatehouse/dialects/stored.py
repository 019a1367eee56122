"""Reads references to what the provider holds: a file, a conversation, a prompt, a container.

The request does not show what it refers to, and the provider may hold something else under the name tomorrow.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from gatehouse.dialects.freejson import free
from gatehouse.dialects.parts import BodyView, Path, Reader

FILE: Final = "a file"
VECTOR_STORE: Final = "a vector store"
CONVERSATION: Final = "a conversation"
PROMPT: Final = "a prompt"
CACHED_PROMPT: Final = "a cached prompt"
CONTAINER: Final = "a container"
SKILL: Final = "a skill"
RECORDING: Final = "a recording"
IMAGE: Final = "an image"

# The names in the providers' tools and settings. In a function's arguments they mean nothing to a provider.
_NAMES: Final[Mapping[str, str]] = {
    **dict.fromkeys(("file_id", "file_ids", "file_uri", "fileUri", "fileId", "fileIds"), FILE),
    **dict.fromkeys(
        # OpenAI's and Azure's, Google's, xAI's, Mistral's, Bedrock's
        """vector_store_id vector_store_ids vectorStoreIds file_search_store_names fileSearchStoreNames rag_corpus
        ragCorpus collection_ids library_ids knowledgeBaseId""".split(),
        VECTOR_STORE,
    ),
    **dict.fromkeys(("container", "container_id"), CONTAINER),
    **dict.fromkeys(("cached_content", "cachedContent"), CACHED_PROMPT),
    **dict.fromkeys(("prompt_id",), PROMPT),
    **dict.fromkeys(
        ("previous_response_id", "conversation", "conversation_id", "previous_interaction_id"), CONVERSATION
    ),
    "skill_id": SKILL,
}
# Addresses that providers read with the operator's own credentials: Google's and Amazon's buckets, Google's files.
_IN_ACCOUNT: Final = re.compile(
    r"(?:gs|s3)://|https?://(?:[^/?#]*@)?generativelanguage\.googleapis\.com", re.ASCII | re.IGNORECASE
)
# Google's names of stores are recognizable by themselves; the fields that hold them have ordinary names.
_GOOGLES_STORE: Final = re.compile(r"\s*projects/[^\s/]+/\S*(?:dataStores|engines|ragCorpora)/\S+\s*", re.ASCII)
_MAX_ADDRESS_CHARS: Final = 2_048


def stored(what: str, reader: Reader) -> Reader:
    """Make a reader of the name of something that the provider holds, which `reader` reads."""

    def read(view: BodyView, value: Any, path: Path, role: str) -> None:
        _note(view, value, path, what)
        reader(view, value, path, role)

    return read


def in_account(address: str) -> bool:
    """Tell whether an address leads to a file that the provider reads with the operator's own credentials."""
    return _IN_ACCOUNT.search(address[:_MAX_ADDRESS_CHARS]) is not None


def is_reference(text: str) -> bool:
    """Tell whether a text is only such an address, so that a provider may read the file instead of the text."""
    address = text[: _MAX_ADDRESS_CHARS + 1].strip()
    return len(address) <= _MAX_ADDRESS_CHARS and _IN_ACCOUNT.match(address) is not None and len(address.split()) == 1


def settings(view: BodyView, value: Any, path: Path, role: str) -> None:
    """Read free JSON that a provider acts on: the settings of its own tools, and fields that no API has."""
    free(view, value, path, role)
    _look(view, value, path)


def _look(view: BodyView, value: Any, path: Path) -> None:
    name = path[-1] if path else None
    what = _NAMES.get(name) if isinstance(name, str) else None
    if isinstance(value, dict):
        if what is not None:  # without an id it asks for a new one, or is a schema
            _note(view, value.get("id"), (*path, "id"), what)
        for inner_name, inner in value.items():
            if inner_name == "skill_id" and value.get("type") == "anthropic":
                continue  # the content is Anthropic's own, like its tools
            _look(view, inner, (*path, inner_name))
    elif what is not None:
        _note(view, value, path, what)
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            _look(view, inner, (*path, index))
    elif isinstance(value, str) and is_reference(value):
        _note(view, value, path, FILE)
    elif isinstance(value, str) and _GOOGLES_STORE.fullmatch(value[:_MAX_ADDRESS_CHARS]):
        _note(view, value, path, VECTOR_STORE)


def _note(view: BodyView, value: Any, path: Path, what: str) -> None:
    if value not in (None, "", [], {}):
        view.name_stored(path, what)
