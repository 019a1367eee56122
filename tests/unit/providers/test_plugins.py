"""The registry keeps providers, and finds the plug-ins of installed packages."""

from __future__ import annotations

import logging
import sys
import threading
from pathlib import Path
from typing import Any

import litellm
import pytest
from gatehouse.core.errors import SetupError
from gatehouse.loggers import BaseCustomLogger
from gatehouse.providers import (
    BaseCustomProvider,
    EchoProvider,
    PluginError,
    PluginRegistry,
    get_provider,
    get_registry,
    initialize_plugins,
    list_providers,
    register_provider,
    unregister,
)
from gatehouse.providers.plugins import changes_after

from tests.support.packages import install

MESSAGES = [{"role": "user", "content": "hello"}]

ACME = """
from gatehouse.loggers import BaseCustomLogger
from gatehouse.providers import Provider

class Acme(Provider):
    async def answer(self, request):
        return "acme: " + request.last_user_text

class Counting(BaseCustomLogger):
    calls = 0

    def log_success_event(self, kwargs, response_obj, start_time, end_time):
        Counting.calls += 1

counting = Counting()
"""


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("custom_provider_map", "callbacks", "success_callback", "failure_callback", "input_callback"):
        monkeypatch.setattr(litellm, name, [])
    monkeypatch.setattr(get_registry(), "_providers", {})
    monkeypatch.setattr(get_registry(), "_plugins", {})
    monkeypatch.setattr(litellm, "provider_list", list(litellm.provider_list))
    monkeypatch.setattr(litellm, "_custom_providers", list(litellm._custom_providers))


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder on the path, for packages."""
    monkeypatch.syspath_prepend(str(tmp_path))
    for module in ("acme_llm", "broken", "broken_log"):
        monkeypatch.delitem(sys.modules, module, raising=False)
    return tmp_path


def ask(model: str) -> str:
    return str(litellm.completion(model=model, messages=MESSAGES).choices[0].message.content)


def test_a_registered_provider_answers_and_an_unregistered_one_does_not() -> None:
    provider = register_provider("mine", EchoProvider)
    assert ask("mine/m") == "echo: hello"
    assert get_provider("mine") is provider
    assert list_providers() == ["mine"]
    unregister("mine")
    unregister("mine")
    assert get_provider("mine") is None
    assert list_providers() == []
    with pytest.raises(litellm.BadRequestError):
        ask("mine/m")


def test_an_instance_is_registered_as_it_is() -> None:
    provider = EchoProvider()
    assert register_provider("mine", provider) is provider


def test_litellms_own_class_is_welcome() -> None:
    class Theirs(litellm.CustomLLM):  # type: ignore[misc]
        def completion(self, *args: Any, **call: Any) -> Any:
            return litellm.ModelResponse(choices=[litellm.Choices(message=litellm.Message(content="theirs"))])

    register_provider("theirs", Theirs)
    assert ask("theirs/m") == "theirs"


def test_registering_the_same_again_changes_nothing_and_another_one_is_refused() -> None:
    first = register_provider("mine", EchoProvider)
    assert register_provider("mine", EchoProvider) is first
    assert register_provider("mine", first) is first
    assert len(litellm.custom_provider_map) == 1
    with pytest.raises(ValueError, match=r"'mine' is already registered \(gatehouse.providers.echo.EchoProvider\)"):
        register_provider("mine", BaseCustomProvider)
    second = register_provider("mine", BaseCustomProvider, replace=True)
    assert get_provider("mine") is second
    assert [item["custom_handler"] for item in litellm.custom_provider_map] == [second]


@pytest.mark.parametrize("name", ["", "a/b", " a", "ä", "-a", "a b"])
def test_a_name_that_no_model_can_have_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="a name has letters"):
        register_provider(name, EchoProvider)


def test_litellms_own_providers_cannot_be_replaced() -> None:
    with pytest.raises(ValueError, match="'openai' is one of LiteLLM's own"):
        register_provider("openai", EchoProvider)


@pytest.mark.parametrize("what", [object(), object, "gatehouse.providers.echo.provider", None])
def test_what_is_no_provider_is_refused(what: Any) -> None:
    with pytest.raises(TypeError, match="is not a BaseCustomProvider"):
        register_provider("mine", what)


def test_a_list_that_was_assigned_anew_gets_its_providers_back() -> None:
    register_provider("mine", EchoProvider)
    litellm.custom_provider_map = []
    initialize_plugins()
    assert ask("mine/m") == "echo: hello"


def test_many_threads_may_register_at_once() -> None:
    start = threading.Barrier(16)

    def register(number: int) -> None:
        start.wait()
        register_provider(f"p{number % 8}", EchoProvider)

    threads = [threading.Thread(target=register, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert list_providers() == sorted(f"p{number}" for number in range(8))
    assert sorted(item["provider"] for item in litellm.custom_provider_map) == list_providers()


def test_the_plug_ins_of_an_installed_package_are_found_once(site: Path) -> None:
    points = {"gatehouse.providers": {"acme": "acme_llm:Acme"}, "gatehouse.loggers": {"counting": "acme_llm:counting"}}
    install(site, "acme-llm", {"acme_llm": ACME}, points)
    behind = BaseCustomLogger()
    litellm.callbacks = [behind]
    for _ in range(3):
        plugins = initialize_plugins(strict=True)
    assert [(each.name, each.package) for each in plugins.loaded] == [
        ("acme", "acme-llm 1.0"),
        ("counting", "acme-llm 1.0"),
    ]
    assert plugins.failed == {}
    assert ask("acme/m") == "acme: hello"
    assert [type(each).__name__ for each in litellm.callbacks] == ["Counting", "BaseCustomLogger"]
    litellm.callbacks = [behind]
    initialize_plugins()
    assert [type(each).__name__ for each in litellm.callbacks] == ["Counting", "BaseCustomLogger"]


BROKEN = {
    "import": ("raise RuntimeError('no licence')", "broken:Anything", "RuntimeError: no licence"),
    "exit": ("import sys; sys.exit('bye')", "broken:Anything", "SystemExit: bye"),
    "missing module": ("", "not_there:Anything", "ModuleNotFoundError: No module named 'not_there'"),
    "missing name": ("", "broken:Anything", "AttributeError: module 'broken' has no attribute 'Anything'"),
    "no provider": ("Anything = 5", "broken:Anything", "5 is not a BaseCustomProvider"),
    "constructor": (
        "from gatehouse.providers import Provider\n"
        "class Anything(Provider):\n    def __init__(self): raise OSError('x')",
        "broken:Anything",
        "OSError: x",
    ),
}


@pytest.mark.parametrize(("source", "value", "reason"), BROKEN.values(), ids=list(BROKEN))
def test_a_broken_plug_in_is_named_and_takes_no_other_down(
    site: Path, caplog: pytest.LogCaptureFixture, source: str, value: str, reason: str
) -> None:
    install(site, "acme-llm", {"acme_llm": ACME}, {"gatehouse.providers": {"acme": "acme_llm:Acme"}})
    install(site, "broken-llm", {"broken": source}, {"gatehouse.providers": {"aaa": value}})
    with caplog.at_level(logging.ERROR):
        plugins = initialize_plugins()
    assert [each.name for each in plugins.loaded] == ["acme"]
    assert ask("acme/m") == "acme: hello"
    (failure,) = plugins.failed.values()
    assert failure.startswith(f"plug-in 'aaa' of broken-llm 1.0 (gatehouse.providers: {value}): ")
    assert reason in failure
    assert failure in caplog.text
    with pytest.raises(PluginError, match=r"plug-in 'aaa' of broken-llm 1\.0") as raised:
        initialize_plugins(strict=True)
    assert isinstance(raised.value, SetupError)
    assert reason in str(raised.value)


def test_a_logger_that_is_none_is_named(site: Path) -> None:
    install(site, "broken-log", {"broken_log": "it = 'x'"}, {"gatehouse.loggers": {"it": "broken_log:it"}})
    with pytest.raises(PluginError, match=r"plug-in 'it' of broken-log 1.0 .*is not a BaseCustomLogger"):
        initialize_plugins(strict=True)


def test_a_plug_in_takes_no_name_that_is_in_use(site: Path) -> None:
    install(site, "acme-llm", {"acme_llm": ACME}, {"gatehouse.providers": {"acme": "acme_llm:Acme"}})
    litellm.custom_provider_map = [{"provider": "acme", "custom_handler": EchoProvider()}]
    with pytest.raises(PluginError, match=r"plug-in 'acme' of acme-llm 1.0.*'acme' is already in custom_provider_map"):
        initialize_plugins(strict=True)
    litellm.custom_provider_map = []
    initialize_plugins(strict=True)
    litellm.custom_provider_map = [{"provider": "acme", "custom_handler": EchoProvider()}]
    with pytest.raises(PluginError, match=r"plug-in 'acme' of acme-llm 1.0.*'acme' is already in custom_provider_map"):
        initialize_plugins(strict=True)


def test_a_registry_of_ones_own_starts_empty() -> None:
    assert PluginRegistry().list_providers() == []
    assert get_registry() is get_registry()


def test_a_callback_that_changes_requests_after_the_decision_is_named() -> None:
    class Late(BaseCustomLogger):
        async def async_pre_call_hook(self, user_api_key_dict: Any, cache: Any, data: Any, call_type: Any) -> Any:
            return {**data, "model": "another"}

    class Child(Late):
        pass

    decider = BaseCustomLogger()
    litellm.callbacks = [Child(), decider, "prometheus", BaseCustomLogger()]
    assert changes_after(decider) is None
    litellm.callbacks = [decider, "prometheus", Child()]
    assert str(changes_after(decider)).endswith("Child")
