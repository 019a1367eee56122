"""The audit log holds whole lines, whatever is written into it, also when a writer dies."""

from __future__ import annotations

import errno
import json
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from gatehouse.core.errors import SetupError
from gatehouse.core.text import clean
from gatehouse.ledger.audit_log import FILE_NAME, AuditLog, encode
from hypothesis import given
from hypothesis import strategies as st


def record(call_id: str, **data: Any) -> dict[str, Any]:
    return {
        "timestamp": "2026-01-01T00:00:00+00:00",
        "event_type": "chat_completion_success",
        "data": {"call_id": call_id, **data},
    }


def ids(folder: Path) -> list[str]:
    return [json.loads(line)["data"]["call_id"] for line in (folder / FILE_NAME).read_bytes().splitlines()]


def test_a_line_torn_by_a_dying_writer_is_cut_off_at_start(tmp_path: Path) -> None:
    AuditLog(tmp_path).append([record("a")])
    with (tmp_path / FILE_NAME).open("ab") as file:
        file.write(b'{"timestamp": "2026-01-01T00:0' + b"x" * 100_000)
    AuditLog(tmp_path).append([record("b")])
    assert ids(tmp_path) == ["a", "b"]


def test_a_full_disk_leaves_no_part_of_a_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = AuditLog(tmp_path)
    log.append([record("a")])
    real = os.write

    def half(fd: int, data: bytes) -> int:
        monkeypatch.setattr(os, "write", full)
        return real(fd, data[: len(data) // 2])

    def full(fd: int, data: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", half)
    with pytest.raises(OSError, match="No space left"):
        log.append([record("b"), record("c")])
    monkeypatch.setattr(os, "write", real)
    log.append([record("d")])
    assert ids(tmp_path) == ["a", "d"]


def test_several_writers_never_mix_their_lines(tmp_path: Path) -> None:
    def write(writer: int) -> None:
        log = AuditLog(tmp_path)
        for number in range(50):
            log.append([record(f"{writer}-{number}-{part}", filler="x" * 5000) for part in range(3)])

    threads = [threading.Thread(target=write, args=(writer,)) for writer in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(ids(tmp_path))) == 4 * 50 * 3


def test_logs_of_one_folder_have_one_id_and_of_two_folders_two(tmp_path: Path) -> None:
    assert AuditLog(tmp_path).log_id == AuditLog(tmp_path).log_id
    assert AuditLog(tmp_path).log_id != AuditLog(tmp_path / "other").log_id


def test_gateways_that_start_together_in_a_new_folder_agree_on_its_id(tmp_path: Path) -> None:
    """None of them reads an id that another has not written yet."""
    together = threading.Barrier(4)

    def first(folder: Path) -> UUID:
        together.wait()
        return AuditLog(folder).log_id

    with ThreadPoolExecutor(4) as starting:
        for number in range(200):
            assert len(set(starting.map(first, [tmp_path / str(number)] * 4))) == 1


def test_missing_lines_are_found_by_the_calls_own_id_only(tmp_path: Path) -> None:
    """A caller who writes another call's id into a name must not make that call look logged."""
    log = AuditLog(tmp_path)
    mine, other = "0190a000-0000-7000-8000-000000000001", "0190a000-0000-7000-8000-000000000002"
    log.append([record(mine, model=f'x","call_id":"{other}')])
    assert log.missing({mine, other}) == {other}


def test_a_folder_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SetupError, match="GATEHOUSE_LOG_DIR"):
        AuditLog(tmp_path / "file")


@given(st.text())
def test_any_text_a_caller_sends_is_made_fit_for_the_ledger(text: str) -> None:
    cleaned = clean(text)
    assert cleaned is not None
    assert "\0" not in cleaned
    cleaned.encode("utf-8")
    assert len(cleaned) <= 256
    (line,) = encode(record("a", model=cleaned)).splitlines()
    assert json.loads(line)["data"]["model"] == cleaned


def test_a_file_grown_large_moves_aside_between_lines_and_old_ones_go(tmp_path: Path) -> None:
    log = AuditLog(tmp_path, max_bytes=1000, keep=3)
    for number in range(60):
        log.append([record(f"{number:036}", padding="x" * 50)])
    names = sorted(path.name for path in tmp_path.glob(f"{FILE_NAME}*"))
    assert names == [FILE_NAME, *(f"{FILE_NAME}.{number}" for number in (1, 2, 3))]
    kept = [
        json.loads(line)["data"]["call_id"]
        for name in (*reversed(names[1:]), FILE_NAME)
        for line in (tmp_path / name).read_text().splitlines()
    ]
    assert kept == [f"{number:036}" for number in range(60 - len(kept), 60)]
    assert all((tmp_path / name).stat().st_size <= 1000 for name in names)
    assert log.missing({kept[0], kept[-1], "0" * 36}) == {"0" * 36}


def test_a_batch_larger_than_a_file_is_written_whole(tmp_path: Path) -> None:
    log = AuditLog(tmp_path, max_bytes=100, keep=2)
    log.append([record("a")])
    log.append([record(str(number)) for number in range(50)])
    assert ids(tmp_path) == [str(number) for number in range(50)]


def test_writers_of_one_folder_follow_when_another_moves_the_file_aside(tmp_path: Path) -> None:
    def write(name: str) -> None:
        log = AuditLog(tmp_path, max_bytes=5000, keep=1000)
        for number in range(100):
            log.append([record(f"{name}-{number}")])
        log.close()

    threads = [threading.Thread(target=write, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    written = [
        json.loads(line)["data"]["call_id"]
        for path in tmp_path.glob(f"{FILE_NAME}*")
        for line in path.read_text().splitlines()
    ]
    assert sorted(written) == sorted(f"{name}-{number}" for name in "abcd" for number in range(100))
    assert len(list(tmp_path.glob(f"{FILE_NAME}.*"))) > 3
