"""Lists the names that the installed LiteLLM takes out of a request, from its syntax trees, signatures and own list.

Reading all of its files takes half a minute of one core, so only the test that holds the checked-in table against them
does it.
"""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import litellm
from litellm.litellm_core_utils.get_litellm_params import get_litellm_params
from litellm.types.utils import all_litellm_params
from litellm.utils import get_optional_params

_ROOT = Path(litellm.__file__).parent

# What LiteLLM calls the dictionaries that hold a request, or what is left of one, on its way to a provider.
_REQUESTS = frozenset(
    """
    data kwargs _kwargs request_data request_kwargs request_body litellm_params optional_params non_default_params
    completion_kwargs extra_body
    """.split()
)
_METADATA = frozenset("metadata _metadata litellm_metadata request_metadata clean_metadata metadata_dict".split())

# Files that no request to a governed route runs through: management, other routes, what makes guardrails and loggers.
_ELSEWHERE = re.compile(
    r"repositories/|types/|integrations/|secret_managers|files/|batches/|fine_tuning/|vector_store|videos|ocr"
    r"|realtime_api|containers|skills|evals|a2a_protocol|assistants|rag|search|experimental_mcp|google_genai"
    r"|interactions|enterprise|decisions|sandbox|harness"
    r"|proxy/(_types|proxy_cli|_experimental|management_endpoints|management_helpers|agent_endpoints|ui_crud"
    r"|vector_store|search|rag|spend_tracking|openai_files|openai_evals|batches|fine_tuning|public|discovery|credential"
    r"|db|client|example|video|ocr|container|analytics|config_management|prompts/|memory|health_endpoints"
    r"|realtime_endpoints|hooks/batch|google_endpoints"
    r"|guardrails/(guardrail_hooks|guardrail_endpoints|init|guardrail_registry|guardrail_initializers|usage))"
    r"|llms/[^/]+/(files|batches|fine_tuning|vector_stores?|videos?|ocr|realtime|containers|skills|search|evals"
    r"|agents|interactions|google_genai|count_tokens)/"
)

_ENTRIES: tuple[Callable[..., Any], ...] = (
    litellm.completion,
    litellm.acompletion,
    litellm.text_completion,
    litellm.atext_completion,
    litellm.embedding,
    litellm.aembedding,
    litellm.moderation,
    litellm.amoderation,
    litellm.rerank,
    litellm.arerank,
    litellm.image_generation,
    litellm.aimage_generation,
    litellm.speech,
    litellm.aspeech,
    litellm.transcription,
    litellm.atranscription,
    litellm.responses,
    litellm.aresponses,
    litellm.anthropic_messages,
    litellm.Router.completion,
    litellm.Router.acompletion,
    get_optional_params,
    get_litellm_params,
)


def names() -> tuple[set[str], set[str]]:
    """Return every name that LiteLLM takes out of a request, and every name that it takes out of its metadata."""
    requests, metadata = set(all_litellm_params), set()
    for entry in _ENTRIES:
        requests.update(inspect.signature(entry).parameters)
    for path in sorted(_ROOT.rglob("*.py")):
        elsewhere = _ELSEWHERE.match(path.relative_to(_ROOT).as_posix())
        for variable, name in _taken(ast.parse(path.read_bytes())):
            if variable in _REQUESTS and not elsewhere and name.strip():
                requests.add(name)
            if variable in _METADATA and re.fullmatch(r"[\w.-]+", name):
                metadata.add(name)
    return requests, metadata


def _taken(tree: ast.AST) -> Iterator[tuple[str, str]]:
    """Yield the variable and the name of each `x.get("name")`, `x.pop("name")`, `x["name"]` and `"name" in x`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.args:
            if node.func.attr in ("get", "pop", "setdefault"):
                yield from _pair(node.func.value, node.args[0])
        elif isinstance(node, ast.Subscript):
            yield from _pair(node.value, node.slice)
        elif isinstance(node, ast.Compare) and isinstance(node.ops[0], ast.In | ast.NotIn):
            yield from _pair(node.comparators[0], node.left)


def _pair(container: ast.AST, key: ast.AST) -> Iterator[tuple[str, str]]:
    variable = container.id if isinstance(container, ast.Name) else getattr(container, "attr", None)
    if isinstance(variable, str) and isinstance(key, ast.Constant) and isinstance(key.value, str):
        yield variable, key.value


_READ_OF_HEADERS = re.compile(
    r"""headers?(?:\.get\(|\[)\s*["']([A-Za-z][\w-]+)["']|["']((?:x|anthropic|openai|litellm|helicone|langfuse)-[\w-]+)["']""",
    re.IGNORECASE,
)


@cache
def header_names() -> tuple[str, ...]:
    """Return every name that looks like a header's, where LiteLLM's proxy could read one."""
    found: set[str] = set()
    for folder in ("proxy", "litellm_core_utils", "llms", "types"):
        for path in (_ROOT / folder).rglob("*.py"):
            for match in _READ_OF_HEADERS.finditer(path.read_text()):
                found.add((match[1] or match[2]).lower())
    return tuple(sorted(found))
