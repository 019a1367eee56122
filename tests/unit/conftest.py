"""Keeps the tests of this folder from asking the internet, and from leaving LiteLLM a callback."""

import os
import sys
from collections.abc import Iterator

import pytest

# LiteLLM's price list is the packaged one, as in the gateway. LiteLLM reads this when it is imported, which some of the
# modules here do.
os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")

# LiteLLM copies `litellm.callbacks` to lists of its own and never takes one off them.
_LISTS = (
    "callbacks",
    "input_callback",
    "success_callback",
    "failure_callback",
    "_async_input_callback",
    "_async_success_callback",
    "_async_failure_callback",
)


@pytest.fixture(autouse=True)
def _no_callback_stays() -> Iterator[None]:
    loaded = sys.modules.get("litellm")
    before = {name: list(getattr(loaded, name)) for name in _LISTS} if loaded is not None else {}
    yield
    loaded = sys.modules.get("litellm")
    for name in _LISTS if loaded is not None else ():
        setattr(loaded, name, before.get(name, []))
