"""Several processes write `CapsuleLogger`'s file, also at their ends, and every change of it is found."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import stat
import subprocess
import sys
from collections import Counter
from functools import partial
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
from gatehouse.capsule import keys as folder_of_keys
from gatehouse.capsule.keyring import read_keyring
from gatehouse.capsule.keys import KEYRING_NAME
from gatehouse.cli import app
from gatehouse.cli import capsules as _commands  # noqa: F401  # it puts itself on `app`
from gatehouse.core.clock import now
from gatehouse.core.errors import SetupError
from gatehouse.ledger.inspection import verify_export
from gatehouse.loggers.capsules.logger import CapsuleLogger, CapsuleLost
from gatehouse.loggers.capsules.opening import keys_beside, open_store
from gatehouse.loggers.capsules.sqlite import SqliteStore
from typer.testing import CliRunner

from tests.support.capsule_files import capsule, capsules_of, reference_verifies, verified, written_before
from tests.support.gateway import REPOSITORY

ENVIRON = {**os.environ, "LITELLM_LOCAL_MODEL_COST_MAP": "True", "PYTHONPATH": str(REPOSITORY)}

# A program that calls models of a provider of its own, so that no server is needed.
PROGRAM = """
    import asyncio, multiprocessing, sys
    import litellm
    from gatehouse.loggers import CapsuleLogger

    class Answers(litellm.CustomLLM):
        def completion(self, *args, model_response=None, **kwargs):
            model_response.choices = [litellm.Choices(message=litellm.Message(content="yes"), finish_reason="stop")]
            return model_response

        async def acompletion(self, *args, **kwargs):
            return self.completion(*args, **kwargs)

    litellm.custom_provider_map = [{"provider": "own", "custom_handler": Answers()}]
    logger = CapsuleLogger(sys.argv[1])
    litellm.callbacks = [logger]
    CALL = {"model": "own/m", "messages": [{"role": "user", "content": "swordfish?"}]}
"""


def start(code: str, file: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", dedent(code), str(file)],
        env=ENVIRON, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=file.parent,
    )  # fmt: skip


def run(file: Path, body: str) -> None:
    process = start(dedent(PROGRAM) + dedent(body), file)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors


def endings(file: Path) -> list[tuple[str, str | None]]:
    outcomes = [json.loads(capsule.canonical)["outcome"] for capsule in capsules_of(file)]
    return [(outcome["status"], outcome["error"]) for outcome in outcomes]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "capsules.db"


# --- processes


def test_a_process_that_ends_at_once_and_its_forks_have_written_every_call(file: Path) -> None:
    # More calls than LiteLLM runs of its own queue when a process ends; nobody flushes, and one stream is under way.
    run(
        file,
        """
        from litellm.types.utils import GenericStreamingChunk

        def streaming(*args, **kwargs):
            for text in ("a", "b"):
                yield GenericStreamingChunk(text=text, is_finished=False, finish_reason="", usage=None, index=0,
                                            tool_use=None)
        litellm.custom_provider_map[0]["custom_handler"].streaming = streaming
        stream = litellm.completion(**CALL, stream=True)
        next(stream)

        def work(number):
            for _ in range(number):
                litellm.completion(**CALL)

        work(20)
        workers = [multiprocessing.get_context("fork").Process(target=work, args=(10,), daemon=True) for _ in range(2)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join(60)
            assert worker.exitcode == 0, worker.exitcode

        async def main():
            await asyncio.gather(*[litellm.acompletion(**CALL) for _ in range(300)])
        asyncio.run(main())
        """,
    )
    assert verified(file) == 341
    assert Counter(endings(file)) == {("success", None): 340, ("partial", "process_ended"): 1}


WRITES = """
    import sys, threading
    from pathlib import Path
    from gatehouse.loggers.capsules.opening import open_store
    from gatehouse.loggers.capsules.writer import Writer
    from tests.support.capsule_files import capsule

    nothing = lambda: None
    writer = Writer(open_store(Path(sys.argv[1])), before_exit=nothing, before_fork=nothing, in_child=nothing)
    def write():
        for n in range(50):
            writer.take(lambda n=n: capsule(n))
    threads = [threading.Thread(target=write) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
"""


def test_four_processes_on_one_new_file_lose_nothing_and_fork_nothing(file: Path, tmp_path: Path) -> None:
    running = [start(WRITES, file) for _ in range(4)]
    for process in running:
        _, errors = process.communicate(timeout=200)
        assert process.returncode == 0, errors
    assert verified(file) == 800
    assert reference_verifies(file, tmp_path / "theirs") == 800


def test_importing_it_brings_in_nothing_of_the_proxy_and_nothing_that_is_not_needed(tmp_path: Path) -> None:
    code = """
        import sys
        import litellm
        before = set(sys.modules)
        import gatehouse.loggers
        assert set(sys.modules) - before == {"gatehouse", "gatehouse.loggers"}, set(sys.modules) - before
        logger = gatehouse.loggers.CapsuleLogger(sys.argv[1])
        logger._writer.take(dict).exception()
        heavy = "presidio_analyzer fastapi starlette uvicorn prisma psycopg redis spacy prometheus_client typer cel"
        found = {name for name in sys.modules if name.split(".")[0] in heavy.split()}
        assert not found, found
        assert "litellm.proxy.proxy_server" not in sys.modules
    """
    done = subprocess.run(
        [sys.executable, "-c", dedent(code), str(tmp_path / "capsules.db")],
        env=ENVIRON, capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


# --- where it is, and whose key


def test_without_an_argument_it_is_capsules_db_in_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    store = open_store(None)
    monkeypatch.chdir("/")  # where it is was settled when it was made
    append(store, 1)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["capsules.db", "capsules.db.keys"]


def test_the_file_and_the_key_are_their_owners_alone(file: Path) -> None:
    append(open_store(file), 1)
    mode = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (file, *keys_beside(file).iterdir())}
    assert mode["capsules.db"] == mode["epoch-0.key"] == 0o600
    assert stat.S_IMODE(keys_beside(file).stat().st_mode) == 0o700


def test_a_key_that_is_given_signs(file: Path, tmp_path: Path) -> None:
    append(open_store(file, tmp_path / "elsewhere"), 1)
    assert not keys_beside(file).exists()
    assert capsules_of(file)[0].signed_by == folder_of_keys.load(tmp_path / "elsewhere").signer.signed_by


def test_another_key_than_the_chains_is_refused(file: Path, tmp_path: Path) -> None:
    append(open_store(file), 1)
    with pytest.raises(SetupError, match="was signed by another key"):
        append(open_store(file, tmp_path / "other"), 1)
    assert verified(file) == 1


def test_a_key_that_others_may_read_is_not_used(file: Path) -> None:
    append(open_store(file), 1)
    (keys_beside(file) / "epoch-0.key").chmod(0o644)
    with pytest.raises(SetupError, match="others than its owner may read"):
        append(open_store(file), 1)


def test_a_file_of_somebody_elses_is_not_written_to(file: Path) -> None:
    with sqlite3.connect(file) as connection:
        connection.execute("create table capsules (id text)")
    with pytest.raises(SetupError, match="it holds something else"):
        append(open_store(file), 1)
    file.write_text("not a database, but long enough to have a header, and then some more of it " * 20)
    with pytest.raises(SetupError, match="Name another file"):
        append(open_store(file), 1)
    with pytest.raises(SetupError, match="no"):
        CapsuleLogger(file, swallow_errors=False)


def test_an_address_of_something_else_is_refused_without_its_password() -> None:
    for address in ("mysql://u:swordfish@h/d", "postgresql://u:sword%fish@h/d"):
        with pytest.raises(SetupError) as refused:
            CapsuleLogger(address)
        assert "fish" not in str(refused.value)


def test_a_batch_that_is_given_again_is_written_once(file: Path) -> None:
    store = open_store(file)
    batch = [capsule(1), capsule(2)]
    for _ in range(2):
        store.append(batch, now())
    store.close()
    assert verified(file) == 2


def test_a_record_that_cannot_be_sealed_takes_no_other_with_it(file: Path) -> None:
    logger = CapsuleLogger(file)
    taken = [
        logger._writer.take(partial(dict, each)) for each in (capsule(1), capsule(2) | {"type": "poem"}, capsule(3))
    ]
    with pytest.raises(CapsuleLost, match="type is none of the protocol's"):
        taken[1].result(30)
    logger.close()
    assert (logger.written, logger.lost, verified(file)) == (2, 1, 2)


def test_a_file_of_before_is_verified_and_appended_to(tmp_path: Path) -> None:
    file = written_before(tmp_path)
    assert "chain chat: 3 records" in gatehouse("verify", file)
    store = open_store(file)
    store.append([capsule(4), capsule(5, "other"), capsule(6)], now())
    store.close()
    said = gatehouse("verify", file)
    assert "chain chat: 5 records" in said
    assert "chain other: 2 records" in said
    assert {json.loads(gatehouse("export", file, "--chain", chain))[0]["signed_by"] for chain in ("chat", "other")} == {
        folder_of_keys.load(keys_beside(file)).signer.signed_by
    }
    tamper(file, "update capsules set signed_by = 'x' where sequence = 1 and chain = 'chat'")
    assert "record 1 " in gatehouse("verify", file, code=1)


# --- whoever changes it is found


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("sound") / "capsules.db"
    append(open_store(file), 8)
    return file


@pytest.fixture
def copied(sound: Path, tmp_path: Path) -> Path:
    shutil.copytree(sound.parent, tmp_path / "copy")
    return tmp_path / "copy" / "capsules.db"


TAMPERINGS = {
    "an edited record": (
        "update capsules set canonical = cast(replace(cast(canonical as text), 'call 3', 'call 9') as blob)"
        " where sequence = 3",
        "record 3 ",
    ),
    "a removed record": ("delete from capsules where sequence = 4", "gap"),
    "a forged signature": (
        "update capsules set signature = replace(signature, 'a', 'b') where sequence = 2",
        "bad sig",
    ),
    "a cut-off end": ("delete from capsules where sequence > 5", "tail cut off"),
    "a changed end": ("update chains set size = 7", "wrong head"),
    "another chain's record": ("update capsules set chain = 'other' where sequence = 7", "tail cut off"),
}


@pytest.mark.parametrize("name", TAMPERINGS)
def test_whoever_changes_the_file_is_found(copied: Path, name: str) -> None:
    change, finding = TAMPERINGS[name]
    tamper(copied, change)
    assert finding in gatehouse("verify", copied, code=1)


def test_the_file_itself_refuses_changes(copied: Path) -> None:
    for change in ("update capsules set hash = ''", "delete from capsules"):
        with sqlite3.connect(copied) as connection, pytest.raises(sqlite3.IntegrityError, match="append-only"):
            connection.execute(change)


def test_a_checkpoint_that_was_kept_finds_an_end_that_was_cut_off_with_its_count(copied: Path, tmp_path: Path) -> None:
    kept = tmp_path / "kept.checkpoint"
    kept.write_text(gatehouse("checkpoint", copied))
    assert "8 records, 1 checkpoint" in gatehouse("verify", copied, "--checkpoint", kept)
    tamper(
        copied,
        "delete from capsules where sequence > 5",
        "update chains set size = 6, hash = (select hash from capsules where sequence = 5)",
    )
    assert "verified: 6 records" in gatehouse("verify", copied)
    assert "tail cut off" in gatehouse("verify", copied, "--checkpoint", kept, code=1)
    tamper(copied, "update capsules set hash = 'x' where sequence = 1")
    assert "it is broken, and is not signed for" in gatehouse("checkpoint", copied, code=1)


def test_verification_needs_no_more_than_to_read_a_copy(copied: Path) -> None:
    for left in copied.parent.glob("capsules.db-*"):
        left.unlink()
    copied.chmod(0o400)
    copied.parent.chmod(0o500)
    try:
        assert "verified: 8 records" in gatehouse("verify", copied)
    finally:
        copied.parent.chmod(0o700)


def test_an_export_is_verified_without_the_file(copied: Path, tmp_path: Path) -> None:
    export = tmp_path / "calls.json"
    gatehouse("export", copied, "-o", export)
    with export.open("rb") as opened:
        report = verify_export(opened, read_keyring(keys_beside(copied) / KEYRING_NAME), chain="chat")
    assert (report.records, report.finding) == (8, None)


def test_a_chain_is_read_a_page_at_a_time(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    append(open_store(file), 25)
    pages: list[str] = []
    monkeypatch.setattr("gatehouse.loggers.capsules.store.BATCH", 10)
    store = SqliteStore(file, keys_beside(file))
    store.ends()
    store._connection.set_trace_callback(pages.append)
    rows = store.capsules("chat")
    next(rows)
    assert len(pages) == 1
    assert len(list(rows)) == 24
    assert len(pages) == 3
    store.close()


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["verify", "nowhere.db"], 2, "there is no such file"),
        (["verify", "{file}", "--chain", "other"], 2, "there is no such chain. There are: chat"),
        (["export", "{file}", "--chain", "other"], 1, "there is no such chain"),
        (["checkpoint", "{file}", "--chain", "other"], 1, "there is no capsule in it"),
        (["verify", "mysql://x"], 2, "not one of Postgres"),
    ],
)
def test_what_cannot_be_checked_is_said(sound: Path, arguments: list[str], code: int, says: str) -> None:
    assert says in gatehouse(*[argument.format(file=sound) for argument in arguments], code=code)


def append(store: Any, count: int) -> None:
    try:
        store.append([capsule(number) for number in range(count)], now())
    finally:
        store.close()


def tamper(file: Path, *changes: str) -> None:
    connection = sqlite3.connect(file)
    connection.execute("drop trigger if exists capsules_are_not_changed")
    connection.execute("drop trigger if exists capsules_are_not_removed")
    for change in changes:
        connection.execute(change)
    connection.commit()
    connection.close()


def gatehouse(*arguments: object, code: int = 0) -> str:
    """Run `gatehouse capsules`; return its output. It must end with that code."""
    done = CliRunner().invoke(app, ["capsules", *map(str, arguments)])
    said = done.output
    if isinstance(done.exception, SetupError):
        said += str(done.exception)
    assert done.exit_code == code, said
    return said
