"""Library mode and the process it lives in: a script's last report arrives, a forked child works, and what does not use
LiteLLM does not import it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.support.library_gateway import LibraryGateway

_SCRIPT = """
import os, sys, time
from gatehouse_adapter.litellm import Governor

governor = Governor(sys.argv[1], "script", "sk-key", call_timeout_seconds=30)

def call(text, **options):
    messages = [{"role": "user", "content": text}]
    return governor.completion("openai/gpt-4o", messages, mock_response="two words", **options)

call("before the fork")
child = os.fork()
if child == 0:
    call("in the child")
    governor.flush(30)
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
stream = call("after the fork", stream=True)
next(stream)
# By a host name, on a connection that is not there any more: what is hardest while an interpreter exits.
time.sleep(4)
stream.close()
"""


@pytest.fixture
def gateway() -> Iterator[LibraryGateway]:
    server = LibraryGateway()
    yield server
    server.close()


def run(code: str, *args: str) -> subprocess.CompletedProcess[str]:
    environ = {**os.environ, "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
    return subprocess.run(
        [sys.executable, "-W", "error::ResourceWarning", "-c", code, *args],
        capture_output=True,
        text=True,
        timeout=200,
        env=environ,
        check=False,
    )


def test_a_forked_child_makes_calls_of_its_own_and_the_last_report_of_a_script_arrives(gateway: LibraryGateway) -> None:
    done = run(_SCRIPT, gateway.url.replace("127.0.0.1", "localhost"))
    assert (done.returncode, done.stderr) == (0, "")
    asked = [asked["body"]["messages"][0]["content"] for asked in gateway.asked]
    assert asked == ["before the fork", "in the child", "after the fork"]
    assert [told["status"] for told in gateway.told] == ["success", "success", "partial"]
    assert len({told["call_id"] for told in gateway.told}) == 3


def test_the_base_adapter_does_not_import_litellm() -> None:
    done = run("import sys, gatehouse_adapter; sys.exit('litellm' in sys.modules)")
    assert (done.returncode, done.stderr) == (0, "")
