"""The ledger over HTTP: readers can verify its answers without the gateway, and only readers with the right get any."""

from __future__ import annotations

import base64
import io
import json
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from gatehouse.capsule.checkpoint import Verifier, open_checkpoint, origin_of
from gatehouse.capsule.export import read_json
from gatehouse.capsule.keyring import Keyring, read_keyring

from tests.support.capsules import verify_chain
from tests.support.gateway import Gateway
from tests.support.process import wait_until

AUDIT = "/governance/v1/audit"
PATHS = (
    f"/capsules/{uuid.UUID(int=1)}",
    "/capsules",
    "/export",
    f"/proofs/{uuid.UUID(int=2)}",
    "/checkpoints/latest",
    "/keyring",
    "/verify",
)


@pytest.fixture(scope="module")
def call_ids(gateway: Gateway) -> list[str]:
    """Return the ids of three calls that are in the ledger."""
    found = []
    with gateway.client() as client:
        for number in range(3):
            body = {"model": "demo", "messages": [{"role": "user", "content": f"audited {number}"}]}
            found.append(client.post("/v1/chat/completions", json=body).headers["x-gatehouse-call-id"])
    wait_until(lambda: all(gateway.lines_of(call_id) for call_id in found), "the calls are in the ledger")
    return found


@pytest.fixture(scope="module")
def auditor(gateway: Gateway) -> Iterator[httpx.Client]:
    """Return a client with the key of a user who may only read."""
    with gateway.client() as client:
        user = client.post("/user/new", json={"user_role": "proxy_admin_viewer", "auto_create_key": False})
        user.raise_for_status()
    with gateway.client(gateway.new_key(user_id=user.json()["user_id"])) as client:
        yield client


def keyring_of(client: httpx.Client, folder: Path) -> Keyring:
    path = folder / "keyring.json"
    path.write_bytes(client.get(f"{AUDIT}/keyring").content)
    return read_keyring(path)


@pytest.mark.parametrize("path", PATHS)
def test_without_a_key_nothing_is_answered(gateway: Gateway, path: str) -> None:
    for key in (None, "sk-not-a-key-of-anybody"):
        with gateway.client(key) as client:
            answer = client.get(AUDIT + path)
        assert answer.status_code == 401
        assert set(answer.json()) == {"error"}


@pytest.mark.parametrize("path", PATHS)
def test_who_is_no_auditor_is_refused(gateway: Gateway, path: str) -> None:
    with gateway.client() as client:
        user = client.post("/user/new", json={"user_role": "internal_user", "auto_create_key": False}).json()
    for key in (gateway.new_key(), gateway.new_key(user_id=user["user_id"])):
        with gateway.client(key) as client:
            answer = client.get(AUDIT + path)
        assert answer.status_code == 403, answer.text
        assert answer.json()["error"]["code"] == "access_denied"


def test_the_key_of_a_sign_in_at_the_web_interface_will_do(gateway: Gateway, call_ids: list[str]) -> None:
    with gateway.client(None) as client:
        login = client.post("/v2/login", json={"username": "admin", "password": "test-ui-password"})
        login.raise_for_status()
        token = login.json().get("token") or client.cookies["token"]
    payload = token.split(".")[1]
    key = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))["key"]
    with gateway.client(key) as client:
        assert client.get(f"{AUDIT}/capsules/{call_ids[0]}").status_code == 200


def test_a_capsule_is_answered_as_it_was_sealed(auditor: httpx.Client, call_ids: list[str], tmp_path: Path) -> None:
    answer = auditor.get(f"{AUDIT}/capsules/{call_ids[1]}")
    (row,) = read_json(io.BytesIO(answer.content))
    assert row.id == call_ids[1]
    epoch = keyring_of(auditor, tmp_path).find(row.signed_by)
    assert epoch is not None
    assert epoch.verifies(row.hash.encode(), bytes.fromhex(row.signature))


def test_what_is_not_there_is_said(auditor: httpx.Client) -> None:
    chains = ("/capsules?chain=x", "/export?chain=x", "/checkpoints/latest?chain=x", "/verify?chain=--help")
    for path in (PATHS[0], PATHS[3], *chains):
        answer = auditor.get(AUDIT + path)
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_found"), path
    for path in ("/capsules/17", "/capsules?limit=100000", "/capsules?after=x", "/export?chain=%00", "/verify?chain="):
        answer = auditor.get(AUDIT + path)
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_request"), path


def test_pages_and_the_export_are_the_whole_chain(auditor: httpx.Client, call_ids: list[str], tmp_path: Path) -> None:
    keyring = keyring_of(auditor, tmp_path)
    exports = {form: auditor.get(f"{AUDIT}/export?format={form}") for form in ("json", "jsonl")}
    rows = {form: list(read_json(io.BytesIO(answer.content))) for form, answer in exports.items()}
    head = verify_chain(rows["json"], keyring, chain="calls")
    assert head.sequence >= 2
    assert set(call_ids) <= {row.id for row in rows["json"]}
    assert rows["jsonl"][: len(rows["json"])] == rows["json"]
    pages, after = [], -1
    while after is not None and len(pages) < len(rows["json"]):
        page = auditor.get(f"{AUDIT}/capsules", params={"after": after, "limit": 2}).json()
        pages += [capsule["id"] for capsule in page["capsules"]]
        after = page["next"]
    assert pages[: len(rows["json"])] == [row.id for row in rows["json"]]


def test_the_ledger_is_verified_one_at_a_time(auditor: httpx.Client, call_ids: list[str]) -> None:
    report = auditor.get(f"{AUDIT}/verify").json()
    assert report["verified"] is True, report
    assert report["chains"][0]["chain"] == "calls"
    assert report["chains"][0]["records"] >= len(call_ids)
    assert auditor.get(f"{AUDIT}/verify", params={"chain": "calls"}).json()["verified"] is True
    with ThreadPoolExecutor(4) as many:
        answers = list(many.map(lambda _: auditor.get(f"{AUDIT}/verify").status_code, range(4)))
    assert set(answers) == {200, 409}


def test_checkpoint_and_proof_hold_offline(auditor: httpx.Client, call_ids: list[str], tmp_path: Path) -> None:
    answer = auditor.get(f"{AUDIT}/proofs/{call_ids[0]}")
    if answer.status_code == 409:
        assert answer.json()["error"]["code"] == "conflict"
    keyring = keyring_of(auditor, tmp_path)
    wait_until(lambda: auditor.get(f"{AUDIT}/proofs/{call_ids[0]}").status_code == 200, "a checkpoint covers it")
    note = auditor.get(f"{AUDIT}/checkpoints/latest")
    assert note.headers["content-type"] == "text/plain; charset=utf-8"
    verifier = Verifier(origin_of("calls"), keyring.active.public_key)
    assert open_checkpoint(note.content, [verifier]).size >= len(call_ids)
