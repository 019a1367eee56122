"""The base class of custom loggers: LiteLLM's callback class, whose hooks also run when a class inherits them.

LiteLLM's proxy looks for some hooks in the registered class alone (`vars(type(callback))`): one that a parent defines
never runs, silently. Each class derived from this one gets such hooks as its own. And of the events that exist in a
synchronous and an asynchronous form, an author writes one.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, Final

from litellm.integrations.custom_logger import CustomLogger
from litellm.litellm_core_utils.litellm_logging import Logging

from gatehouse.providers import background

_LOOKED_FOR_IN_THE_CLASS_ITSELF: Final = (
    "async_pre_call_hook",
    "async_post_call_streaming_iterator_hook",
    "async_post_call_response_headers_hook",
)


class BaseCustomLogger(CustomLogger):  # type: ignore[misc]  # LiteLLM is untyped for us
    """A callback in LiteLLM's terms; override what you need of its `CustomLogger`.

    In programs and in the gateway: `log_success_event` or `async_log_success_event`, and `log_failure_event` or
    `async_log_failure_event`; the form that is not written is derived (in a thread, or on a loop of our own).
    In the gateway alone: `async_pre_call_hook` (change a request or refuse it), `async_post_call_success_hook` (change
    an answer), `async_post_call_streaming_iterator_hook` (change a stream), `async_post_call_failure_hook`.
    """

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        for name in _LOOKED_FOR_IN_THE_CLASS_ITSELF:
            owner = next(each for each in cls.__mro__ if name in vars(each))
            if owner is not cls and not owner.__module__.startswith("litellm."):
                setattr(cls, name, _inherited(cls, name))

    def log_success_event(self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any) -> None:
        """A call was answered; once, at the end of a stream. `kwargs["standard_logging_object"]` is its record."""
        if self._writes("async_log_success_event") and not _asynchronous(kwargs):
            background.loop().run(self.async_log_success_event(kwargs, response_obj, start_time, end_time))

    async def async_log_success_event(self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any) -> None:
        """The same, of an asynchronous call and in the gateway."""
        if self._writes("log_success_event"):
            await background.in_thread(self.log_success_event, kwargs, response_obj, start_time, end_time)

    def log_failure_event(self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any) -> None:
        """A call failed; `kwargs["exception"]` says why."""
        if self._writes("async_log_failure_event") and not _asynchronous(kwargs):
            background.loop().run(self.async_log_failure_event(kwargs, response_obj, start_time, end_time))

    async def async_log_failure_event(self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any) -> None:
        """The same, of an asynchronous call and in the gateway."""
        if self._writes("log_failure_event") and not _told_synchronously(kwargs):
            await background.in_thread(self.log_failure_event, kwargs, response_obj, start_time, end_time)

    def _writes(self, name: str) -> bool:
        return getattr(type(self), name) is not getattr(BaseCustomLogger, name)


def _asynchronous(kwargs: Any) -> bool:
    """Whether the asynchronous form hears of this call: LiteLLM tells some asynchronous calls to both."""
    return str(kwargs.get("call_type")).startswith("a")


def _told_synchronously(kwargs: Any) -> bool:
    """Whether the synchronous form hears of this failure: LiteLLM takes images, speech and some others for such."""
    return bool(Logging.is_sync_litellm_request(kwargs.get("litellm_params") or {}))


def _inherited(cls: type, name: str) -> Callable[..., Any]:
    """The hook that `cls` inherits, as its own: it goes on along the class's order, as `super()` does."""

    @wraps(getattr(cls, name))
    def hook(self: Any, *args: Any, **call: Any) -> Any:
        return getattr(super(cls, self), name)(*args, **call)

    return hook
