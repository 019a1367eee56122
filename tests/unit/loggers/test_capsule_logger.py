"""`CapsuleLogger` in a program that calls LiteLLM seals one capsule for each call, however it ends."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
from collections.abc import Iterator
from contextlib import suppress
from hashlib import sha3_256
from pathlib import Path
from typing import Any

import litellm
import pytest
import qp_capsule
from gatehouse.core.errors import SetupError
from gatehouse.loggers import CapsuleLogger
from gatehouse.loggers.capsules.litellm_queue import settle
from gatehouse.loggers.capsules.logger import CapsuleLost, answer_hash, prompt_hash
from gatehouse.loggers.capsules.store import Unavailable
from litellm.exceptions import InternalServerError
from litellm.integrations.custom_logger import CustomLogger

from tests.support.capsule_files import capsules_of, reference_verifies, verified
from tests.support.process import wait_until
from tests.support.upstream import Upstream

SECRET = "the launch code is swordfish"
SAID = "swordfish confirmed"
MESSAGES = [{"role": "user", "content": SECRET}]
TOOLS = [{"type": "function", "function": {"name": "lookup", "parameters": {"type": "object", "properties": {}}}}]


@pytest.fixture(scope="module")
def server() -> Iterator[Upstream]:
    server = Upstream()
    yield server
    server.close(force=True)  # LiteLLM keeps its connections open


@pytest.fixture
def upstream(server: Upstream) -> Upstream:
    server.reset()
    return server


@pytest.fixture
def call(upstream: Upstream) -> dict[str, Any]:
    return {"model": "openai/up", "api_base": upstream.url, "api_key": "x", "messages": MESSAGES, "max_retries": 0}


@pytest.fixture(autouse=True)
def nothing_left_to_tell() -> None:
    """Deliver the callbacks that calls of other tests left behind to those tests' loggers."""
    assert settle(30)


@pytest.fixture
def logger(tmp_path: Path) -> Iterator[CapsuleLogger]:
    logger = CapsuleLogger(tmp_path / "capsules.db")
    litellm.callbacks = [logger]
    yield logger
    logger.close()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "capsules.db"


def canonical(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def recorded(file: Path) -> list[dict[str, Any]]:
    """Return every capsule of the file; check that it verifies."""
    verified(file)
    return [json.loads(capsule.canonical) for capsule in capsules_of(file)]


def endings(file: Path) -> list[tuple[str, str | None]]:
    return [(capsule["outcome"]["status"], capsule["outcome"]["error"]) for capsule in recorded(file)]


# --- one capsule for each call


def test_a_call_leaves_one_capsule_that_says_what_it_was(
    logger: CapsuleLogger, file: Path, call: dict[str, Any]
) -> None:
    answer = litellm.completion(**call, user="u-17", metadata={"session_id": "s-1"}, litellm_call_id="mine")
    logger.flush()
    (capsule,) = recorded(file)
    assert capsule["type"] == "chat"
    assert capsule["domain"] == "chat"
    assert capsule["trigger"]["source"] == "litellm"
    assert capsule["trigger"]["user_id"] == "u-17"
    assert capsule["trigger"]["correlation_id"] == "mine"
    assert capsule["context"]["agent_id"] == "litellm"
    assert capsule["context"]["session_id"] == "s-1"
    assert capsule["reasoning"]["model"] == "up"
    assert capsule["reasoning"]["prompt_hash"] == prompt_hash(MESSAGES)
    assert capsule["execution"]["resources_used"] == {
        "model": "up", "provider": "openai", "tokens_in": 3, "tokens_out": 2, "tokens_total": 5, "cost_usd": None,
        "latency_ms": capsule["execution"]["duration_ms"],
    }  # fmt: skip
    assert capsule["context"]["environment"]["model"] == "up"
    assert capsule["context"]["environment"]["messages_hash"] == sha3_256(canonical(MESSAGES)).hexdigest()
    (tool_call,) = capsule["execution"]["tool_calls"]
    assert (tool_call["tool"], tool_call["success"], tool_call["error"]) == ("litellm.completion", True, None)
    assert tool_call["arguments"] == {"model": "up", "message_count": 1}
    metrics = capsule["outcome"]["metrics"]
    assert (metrics["tokens_in"], metrics["tokens_out"]) == (3, 2)
    assert metrics["latency_ms"] == capsule["execution"]["duration_ms"]
    assert capsule["outcome"]["status"] == "success"
    assert capsule["outcome"]["result"] == {"answer_hash": answer_hash(answer)}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("content", "request_kept", "answer_kept"),
    [
        ("full", "and reach me at jane@example.com", "Mail joe@example.com"),
        ("redacted", "and reach me at <EMAIL_ADDRESS_", "Mail <EMAIL_ADDRESS_"),
    ],
)
def test_texts_are_kept_where_that_is_asked_for(
    tmp_path: Path, upstream: Upstream, call: dict[str, Any], stream: bool, content: str, request_kept: str,
    answer_kept: str,
) -> None:  # fmt: skip
    upstream.says = lambda _: "Mail joe@example.com"
    logger = CapsuleLogger(tmp_path / "capsules.db", content=content)
    litellm.callbacks = [logger]
    said = {"role": "user", "content": [{"type": "text", "text": "and reach me at jane@example.com"}]}
    answer = litellm.completion(
        **call | {"messages": [*MESSAGES, {"role": "assistant", "content": "Yes?"}, said]}, stream=stream
    )
    if stream:
        assert list(answer)
    logger.close()
    (capsule,) = recorded(tmp_path / "capsules.db")
    assert capsule["trigger"]["request"].startswith(request_kept)
    assert capsule["outcome"]["result"].startswith(answer_kept)
    assert capsule["execution"]["tool_calls"][0]["result"] == capsule["outcome"]["result"]
    assert capsule["context"]["environment"]["content"] == content
    assert len(capsule["context"]["environment"]["answer_hash"]) == 64
    assert SECRET not in json.dumps(capsule)
    assert content == "full" or "example.com" not in json.dumps(capsule)


def test_a_content_that_there_is_not_is_refused_at_once(file: Path) -> None:
    with pytest.raises(ValueError, match="everything"):
        CapsuleLogger(file, content="everything")


def test_capsules_of_the_protocols_own_library_are_written_through_its_chain(
    tmp_path: Path, upstream: Upstream, call: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QUANTUMPIPES_DATA_DIR", str(tmp_path / "keys"))
    theirs = qp_capsule.Capsules(str(tmp_path / "theirs.db"))
    logger = CapsuleLogger(theirs, capsule_type=qp_capsule.CapsuleType.AGENT)
    litellm.callbacks = [logger]
    litellm.completion(**call)
    upstream.status = 500
    with pytest.raises(InternalServerError):
        litellm.completion(**call)
    logger.close()

    async def found() -> Any:
        assert (await theirs.chain.verify()).valid
        first, second = await theirs.chain.storage.list(limit=10)
        await theirs.close()
        return sorted((first, second), key=lambda each: each.sequence)

    first, second = asyncio.run(found())
    assert [each.outcome.status for each in (first, second)] == ["success", "failure"]
    assert (first.type, first.reasoning.model) == (qp_capsule.CapsuleType.AGENT, "up")
    assert second.previous_hash == first.hash
    assert (logger.written, logger.lost) == (2, 0)


def test_what_cannot_keep_capsules_is_refused_at_once() -> None:
    with pytest.raises(SetupError, match="list cannot keep capsules"):
        CapsuleLogger([])  # type: ignore[arg-type]


def test_a_stream_is_one_capsule_with_the_hash_of_the_whole_answer(
    logger: CapsuleLogger, file: Path, call: dict[str, Any]
) -> None:
    whole = litellm.completion(**call)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in litellm.completion(**call, stream=True))
    logger.flush()
    hashes = {capsule["outcome"]["result"]["answer_hash"] for capsule in recorded(file)}
    assert endings(file) == [("success", None)] * 2
    assert hashes == {answer_hash(whole)}


async def test_asynchronous_calls_and_streams_leave_one_each(
    logger: CapsuleLogger, file: Path, call: dict[str, Any]
) -> None:
    await litellm.acompletion(**call)
    async for _ in await litellm.acompletion(**call, stream=True):
        pass
    async for _ in litellm.completion(**call, stream=True):
        pass
    await litellm.aembedding(model="openai/up", api_base=call["api_base"], api_key="x", input=[SECRET])
    await litellm.aresponses(model="openai/up", api_base=call["api_base"], api_key="x", input=SECRET)
    await logger.aflush()
    assert endings(file) == [("success", None)] * 5
    routes = [capsule["context"]["environment"]["route"] for capsule in recorded(file)]
    assert sorted(routes) == ["acompletion", "acompletion", "aembedding", "aresponses", "completion"]


def test_a_stream_left_early_leaves_one(logger: CapsuleLogger, file: Path, call: dict[str, Any]) -> None:
    stream = litellm.completion(**call, stream=True)
    next(stream)
    logger.flush()
    assert logger.written == 0
    del stream
    gc.collect()
    wait_until(lambda: logger.written == 1, "the stream that was left is recorded")
    (capsule,) = recorded(file)
    assert (capsule["outcome"]["status"], capsule["outcome"]["error"]) == ("partial", "not_reported")
    assert capsule["reasoning"]["prompt_hash"] == prompt_hash(MESSAGES)


async def test_an_asynchronous_stream_left_early_and_a_cancelled_call_leave_one_each(
    logger: CapsuleLogger, file: Path, call: dict[str, Any], upstream: Upstream
) -> None:
    async for _ in await litellm.acompletion(**call, stream=True):
        break
    upstream.delay_s = 30
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(litellm.acompletion(**call), 1)
    upstream.delay_s = 0
    for _ in range(300):
        gc.collect()
        if logger.written == 2:
            break
        await asyncio.sleep(0.1)
    assert endings(file) == [("partial", "not_reported")] * 2


async def test_failures_leave_one_each_with_the_errors_name_and_no_text(
    logger: CapsuleLogger, file: Path, call: dict[str, Any], upstream: Upstream
) -> None:
    upstream.status = 500
    with pytest.raises(InternalServerError):
        litellm.completion(**call)
    with pytest.raises(InternalServerError):
        await litellm.acompletion(**call)
    with pytest.raises(InternalServerError):
        async for _ in await litellm.acompletion(**call, stream=True):
            pass
    await logger.aflush()
    assert endings(file) == [("failure", "InternalServerError")] * 3
    assert {capsule["outcome"]["metrics"]["http_status"] for capsule in recorded(file)} == {500}


@pytest.mark.parametrize("first", ["sync", "async"])
def test_a_call_of_which_both_hooks_tell_has_one_capsule(logger: CapsuleLogger, file: Path, first: str) -> None:
    kwargs = {"litellm_call_id": "a", "start_time": None, "model": "m", "messages": MESSAGES, "call_type": "arerank"}
    told = {"kwargs": kwargs, "response_obj": None, "start_time": None, "end_time": None}
    for which in (first, "sync", "async"):
        if which == "sync":
            logger.log_success_event(**told)
        else:
            asyncio.run(logger.async_log_success_event(**told))
    logger.log_failure_event(**told)
    logger.flush()
    assert endings(file) == [("success", None)]


def test_two_calls_under_one_id_of_the_callers_are_two_capsules(
    logger: CapsuleLogger, file: Path, call: dict[str, Any]
) -> None:
    for _ in range(2):
        litellm.completion(**call, litellm_call_id="always-the-same")
    logger.flush()
    assert len(recorded(file)) == 2


def test_a_custom_providers_calls_are_recorded_too(
    logger: CapsuleLogger, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from gatehouse.providers.echo import provider

    monkeypatch.setattr(litellm, "custom_provider_map", [{"provider": "echo", "custom_handler": provider}])
    litellm.completion(model="echo/demo", messages=MESSAGES)
    assert list(litellm.completion(model="echo/demo", messages=MESSAGES, stream=True))
    asyncio.run(litellm.acompletion(model="echo/demo", messages=MESSAGES))
    logger.flush()
    assert endings(file) == [("success", None)] * 3


def test_hooks_of_a_subclass_run_as_its_own(file: Path, call: dict[str, Any]) -> None:
    class Ours(CapsuleLogger):
        pass

    logger = Ours(file)
    litellm.callbacks = [logger]
    asyncio.run(litellm.acompletion(**call))
    logger.close()
    assert endings(file) == [("success", None)]


# --- nothing of what was said


async def test_no_word_of_prompts_answers_and_errors_is_in_the_file_or_the_log(
    logger: CapsuleLogger, file: Path, call: dict[str, Any], upstream: Upstream, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, logger="gatehouse")
    upstream.says = lambda _: SAID
    call |= {"tools": TOOLS}
    litellm.completion(**call)
    await litellm.acompletion(**call)
    async for _ in await litellm.acompletion(**call, stream=True):
        pass
    upstream.tool = ("lookup", json.dumps({"code": "swordfish"}))
    answer = litellm.completion(**call)
    # A conversation that goes on with LiteLLM's own message object.
    litellm.completion(**call | {"messages": [*MESSAGES, answer.choices[0].message]})
    with suppress(litellm.exceptions.BadRequestError):
        litellm.completion(model=f"no such provider, {SECRET}"[:12], messages=MESSAGES)
    await logger.aclose()
    rows = recorded(file)
    assert len(rows) == 6
    assert all(row["reasoning"]["prompt_hash"] for row in rows)
    # Threads bring them in any order; both answers with `upstream.tool` asked for it.
    assert {call["tool"] for row in rows for call in row["execution"]["tool_calls"]} == {
        "litellm.completion",
        "litellm.acompletion",
        "lookup",
    }
    assert b"swordfish" not in b"".join(path.read_bytes() for path in file.parent.iterdir() if path.is_file())
    assert "swordfish" not in caplog.text


def test_with_litellms_own_redaction_the_prompts_hash_is_still_that_of_the_prompt(
    logger: CapsuleLogger, file: Path, call: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(litellm, "turn_off_message_logging", True)
    litellm.completion(**call)
    logger.flush()
    (capsule,) = recorded(file)
    assert capsule["reasoning"]["prompt_hash"] == prompt_hash(MESSAGES)
    assert capsule["outcome"]["result"] is None  # of the answer LiteLLM shows nothing


# --- 200 at once


async def test_200_calls_that_finish_at_once_are_200_capsules_that_qp_capsule_verifies(
    logger: CapsuleLogger, file: Path, call: dict[str, Any], tmp_path: Path
) -> None:
    tasks = [litellm.acompletion(**call, metadata={"session_id": f"task {n}"}) for n in range(100)]
    threads = [
        asyncio.to_thread(litellm.completion, **call, metadata={"session_id": f"thread {n}"}) for n in range(100)
    ]
    await asyncio.gather(*tasks, *threads)
    await logger.aclose()
    rows = recorded(file)
    assert len({row["context"]["session_id"] for row in rows}) == len(rows) == 200
    assert {row["outcome"]["status"] for row in rows} == {"success"}
    assert reference_verifies(file, tmp_path / "theirs") == 200


# --- errors


class Broken:
    """Fails every time it is asked to store."""

    def __init__(self, error: Exception, times: int = 10**9) -> None:
        self.error = error
        self.times = times
        self.documents: list[Any] = []

    def append(self, documents: Any, at: Any) -> None:
        if documents and self.times:
            self.times -= 1
            raise self.error
        self.documents += documents

    def close(self) -> None:
        pass


def test_swallowed_errors_are_one_line_without_content(call: dict[str, Any], caplog: pytest.LogCaptureFixture) -> None:
    logger = CapsuleLogger(Broken(RuntimeError(SECRET)))
    litellm.callbacks = [logger]
    assert litellm.completion(**call).choices[0].message.content
    logger.close()
    lines = [record.getMessage() for record in caplog.records if record.name == "gatehouse.capsules"]
    assert lines == ["1 capsules could not be written: the store raised RuntimeError"]
    assert (logger.written, logger.lost) == (0, 1)


async def test_unswallowed_errors_are_raised_to_litellm_which_logs_them_and_to_whoever_flushes(
    call: dict[str, Any], upstream: Upstream, caplog: pytest.LogCaptureFixture
) -> None:
    logger = CapsuleLogger(Broken(RuntimeError(SECRET)), swallow_errors=False)
    litellm.callbacks = [logger]
    litellm_log = logging.getLogger("LiteLLM")
    litellm_log.addHandler(caplog.handler)
    try:
        # LiteLLM lets no error of a callback through to its caller.
        assert (await litellm.acompletion(**call)).choices[0].message.content
        assert litellm.completion(**call).choices[0].message.content
        upstream.status = 500
        with pytest.raises(InternalServerError):
            litellm.completion(**call)
        with pytest.raises(CapsuleLost, match="3 calls have no capsule"):
            await logger.aflush()
    finally:
        litellm_log.removeHandler(caplog.handler)
    assert "CapsuleLost: the store raised RuntimeError" in caplog.text
    await logger.aclose()  # said once


def test_a_store_that_cannot_write_for_a_while_loses_nothing(call: dict[str, Any]) -> None:
    store = Broken(Unavailable("it is locked"), times=3)
    logger = CapsuleLogger(store)
    litellm.callbacks = [logger]
    for _ in range(5):
        litellm.completion(**call)
    logger.close()
    assert (len(store.documents), logger.lost) == (5, 0)


def test_a_callback_that_breaks_beside_it_takes_nothing_away(
    logger: CapsuleLogger, file: Path, call: dict[str, Any]
) -> None:
    class Bad(CustomLogger):
        def log_success_event(self, *args: Any, **kwargs: Any) -> None:
            raise RuntimeError("bad")

    litellm.callbacks = [Bad(), logger]
    litellm.completion(**call)
    logger.flush()
    assert endings(file) == [("success", None)]


@pytest.mark.parametrize("wrong", [{"capsule_type": "poem"}, {"domain": ""}, {"agent_id": "a" * 300}])
def test_names_that_the_protocol_does_not_have_are_refused(wrong: dict[str, str], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        CapsuleLogger(tmp_path / "capsules.db", **wrong)


def test_the_chain_and_the_type_are_as_given(file: Path, call: dict[str, Any]) -> None:
    from qp_capsule import CapsuleType

    logger = CapsuleLogger(file, agent_id="planner", domain="research", capsule_type=CapsuleType.AGENT)
    litellm.callbacks = [logger]
    litellm.completion(**call)
    logger.close()
    (capsule,) = recorded(file)
    assert (capsule["type"], capsule["domain"], capsule["context"]["agent_id"]) == ("agent", "research", "planner")


def test_what_is_hashed_is_what_the_page_says() -> None:
    from hashlib import sha3_256

    text = '{"messages":[{"content":"Hi ☃","role":"user"}]}'
    assert prompt_hash([{"role": "user", "content": "Hi ☃"}]) == sha3_256(text.encode()).hexdigest()
    said = '[{"text":"Hello","tools":[]}]'
    answer = {"choices": [{"message": {"role": "assistant", "content": "Hello"}}]}
    assert answer_hash(answer) == sha3_256(said.encode()).hexdigest()
