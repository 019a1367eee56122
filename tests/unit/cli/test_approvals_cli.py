"""`gatehouse approvals` works as a person runs it, against a gateway of the test's own."""

from __future__ import annotations

import json
import re
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import typer.main
from gatehouse.cli import approvals as command
from gatehouse.cli import main
from gatehouse.cli.gateway_client import address
from gatehouse.core.errors import (
    AccessDenied,
    ApprovalExpired,
    ApprovalMismatch,
    ApprovalRejected,
    ApprovalRequired,
    Conflict,
    GovernanceUnavailable,
    InvalidRequest,
    NotFound,
    SetupError,
)
from gatehouse.policy.load import read_policy

from tests.support.gateway import REPOSITORY

ID = "01a1fdef-47c7-7174-8ee2-2a08a6a0263f"
OTHER = "01a1fdef-5c66-7df7-89df-9d29fc41ca70"
PATH = "/governance/v1/approvals"
HOSTILE = "\x1b[2J\x9b1m\u202eevil\nnext [red]"


def approval(approval_id: str = ID, **changes: Any) -> dict[str, Any]:
    return {
        "id": approval_id,
        "state": "requested",
        "digest": "d" * 64,
        "requested_by": {"user": "ada", "key_hash": "k"},
        "route": "/v1/chat/completions",
        "model": "demo",
        "rules": ["expensive"],
        "reason": "It is expensive.",
        "approvers": {"roles": [], "users": ["grace"], "teams": [], "count": 1},
        "requested_at": "2026-11-21T11:00:00+00:00",
        "expires_at": "2099-11-21T19:00:00+00:00",
        "decided_at": None,
        "needed": 1,
        "given": 0,
        "votes": [],
        "may_vote": True,
        "why_not": None,
        "summary": {"messages": [{"role": "user", "content": "Hello <EMAIL_ADDRESS_7Q2MKD4P>"}]},
    } | changes


@dataclass
class Server:
    """Answers from a script: by method and path, or one after the other where there is a list."""

    url: str = ""
    answers: dict[str, Any] = field(default_factory=dict)
    asked: list[tuple[str, str, str | None, bytes]] = field(default_factory=list)


@pytest.fixture
def server() -> Iterator[Server]:
    script = Server()

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            script.asked.append((self.command, self.path, self.headers.get("authorization"), body))
            found = script.answers[f"{self.command} {self.path.partition('?')[0]}"]
            status, content = found.pop(0) if isinstance(found, list) else found
            data = content if isinstance(content, bytes) else json.dumps(content).encode()
            self.send_response(status)
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = answer  # noqa: N815

        def log_message(self, *_: Any) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    script.url = f"http://127.0.0.1:{http.server_address[1]}"
    threading.Thread(target=http.serve_forever, daemon=True).start()
    yield script
    http.shutdown()
    http.server_close()


@dataclass
class Done:
    code: int
    out: str
    err: str


Run = Callable[..., Done]


@pytest.fixture
def run(server: Server, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path) -> Run:
    """Run the command as its entry point does, but in this process, because starting one takes seconds."""
    for name in ("LITELLM_BASE_URL", "LITELLM_MASTER_KEY", "GATEHOUSE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("GATEHOUSE_URL", server.url)
    monkeypatch.setenv("GATEHOUSE_API_KEY", "sk-grace")
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> Done:
        monkeypatch.setattr(sys, "argv", ["gatehouse", "approvals", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        written = capfd.readouterr()
        return Done(int(ended.value.code or 0), written.out, written.err)

    return run


def test_whoever_approves_may_approve_less(server: Server, run: Run) -> None:
    edited = {"edit": {"model": "small", "max_tokens": 9}, "model": "small", "state": "approved", "given": 1}
    server.answers[f"POST {PATH}/{ID}/votes"] = (200, approval(OTHER, **edited))
    done = run("approve", ID, "--model", "small", "--max-tokens", "9")
    assert (done.code, done.out) == (0, f"{ID} was edited and is now {OTHER}, which is approved.\n")
    assert json.loads(server.asked[0][3]) == {"decision": "approve", "edit": {"model": "small", "max_tokens": 9}}
    assert run("approve", ID, "--max-tokens", "0").code == 2
    assert run("reject", ID, "--model", "small").code == 2
    server.answers[f"GET {PATH}/{OTHER}"] = (200, approval(OTHER, **edited))
    assert "model small, max_tokens 9" in run("show", OTHER).out


def test_the_list_shows_what_waits_and_follows_the_pages(server: Server, run: Run) -> None:
    server.answers[f"GET {PATH}/"] = [
        (200, {"approvals": [approval()], "next": ID}),
        (200, {"approvals": [approval(OTHER)], "next": None}),
    ]
    done = run("list")
    assert (done.code, len(done.out.splitlines())) == (0, 2)
    assert done.out.startswith(ID)
    assert all(word in done.out for word in (OTHER, "ada", "demo", "expensive", "left"))
    assert [path for _, path, _, _ in server.asked] == [
        f"{PATH}/?limit=50&state=requested",
        f"{PATH}/?limit=49&state=requested&cursor={ID}",
    ]
    assert {key for _, _, key, _ in server.asked} == {"Bearer sk-grace"}


def test_json_is_what_the_gateway_answered(server: Server, run: Run) -> None:
    server.answers[f"GET {PATH}/"] = (200, {"approvals": [approval()], "next": None})
    server.answers[f"GET {PATH}/{ID}"] = (200, approval())
    assert json.loads(run("list", "--json", "--all").out) == [approval()]
    assert json.loads(run("show", ID, "--json").out) == approval()


def test_nothing_that_is_shown_moves_the_cursor(server: Server, run: Run) -> None:
    hostile = approval(
        model=HOSTILE,
        reason=HOSTILE,
        rules=[HOSTILE],
        requested_by={"user": HOSTILE},
        state=HOSTILE,
        summary={HOSTILE: [HOSTILE]},
        votes=[{"user_id": HOSTILE, "decision": HOSTILE, "comment": HOSTILE}],
        expires_at=HOSTILE,
        why_not=HOSTILE,
        may_vote=False,
        approvers={"users": [HOSTILE]},
    )
    event = {"event": "requested", "id": ID, "state": HOSTILE, "at": HOSTILE, "approval": hostile}
    server.answers[f"GET {PATH}/"] = (200, {"approvals": [hostile], "next": None})
    server.answers[f"GET {PATH}/{ID}"] = (200, hostile)
    server.answers[f"POST {PATH}/{ID}/votes"] = (200, hostile)
    server.answers[f"GET {PATH}/events"] = [
        (200, f"event: requested\ndata: {json.dumps(event)}\n\n".encode()),
        (403, {"error": {"message": HOSTILE}}),
    ]
    for arguments in (["list"], ["show", ID], ["approve", ID], ["watch"]):
        done = run(*arguments)
        shown = done.out + done.err
        assert "evil" in shown
        assert all(c.isprintable() or c == "\n" for c in shown), arguments
        assert "[red]" in shown


@pytest.mark.parametrize(("option", "asked"), [("--full", ""), ("--values", "?values=true")])
def test_all_of_a_request_is_shown_in_place_of_its_summary(server: Server, run: Run, option: str, asked: str) -> None:
    text = "word " * 20_000 + f"the end {HOSTILE}"
    whole = {"request": {"body": {"messages": [{"content": text}]}}, "asked": "a" * 64, "edit": None}
    values = {"<EMAIL_1>": f"anna@bank.example{HOSTILE}"} if asked else None
    server.answers = {
        f"GET {PATH}/{ID}": (200, approval()),
        f"GET {PATH}/{ID}/request": (200, whole | {"values": values}),
    }
    done = run("show", ID, option)
    assert done.code == 0
    assert server.asked[-1][1] == f"{PATH}/{ID}/request{asked}"
    assert "the end" in done.out
    assert "Hello <EMAIL_1>" not in done.out
    assert ("<EMAIL_1>  anna@bank.example" in done.out) is bool(asked)
    assert not any(character in done.out for character in "\x1b\x9b\u202e")
    assert json.loads(run("show", ID, option, "--json").out)["request"] == whole["request"]


def test_a_refusal_to_show_all_of_it_is_one_sentence(server: Server, run: Run) -> None:
    server.answers = {
        f"GET {PATH}/{ID}": (200, approval()),
        f"GET {PATH}/{ID}/request": (410, {"error": {"message": "It is over."}}),
    }
    done = run("show", ID, "--full")
    assert (done.code, done.out) == (1, "")
    assert "It is over." in done.err


@pytest.mark.parametrize("decision", ["approve", "reject"])
def test_a_vote_says_what_was_decided_and_the_comment_goes_along(server: Server, run: Run, decision: str) -> None:
    server.answers[f"POST {PATH}/{ID}/votes"] = (200, approval(state="approved", given=1))
    done = run(decision, ID, "--comment", "Fine \u00fc")
    assert (done.code, done.out) == (0, f"{ID} is approved.\n")
    assert json.loads(server.asked[0][3]) == {"decision": decision, "comment": "Fine \u00fc"}
    server.answers[f"POST {PATH}/{ID}/votes"] = (200, approval(given=1, needed=2))
    assert run(decision, ID).out == f"{ID} is requested. 1 of 2 approvals are given.\n"


def test_a_refusal_is_one_sentence_and_exit_code_1(server: Server, run: Run) -> None:
    for status, content, said in (
        (403, {"error": {"message": "You asked for this yourself. Somebody else must decide."}}, "Somebody else"),
        (401, {"error": {"message": "LiteLLM's own, with the key in it"}}, "GATEHOUSE_API_KEY"),
        (404, b"<html>", "Check that it is a gateway"),
        (200, b"[]", "not a JSON object"),
        (302, b"", "answered 302"),
    ):
        server.answers[f"POST {PATH}/{ID}/votes"] = (status, content)
        done = run("approve", ID)
        assert (done.code, done.out) == (1, "")
        assert done.err.startswith("error: ")
        assert len(done.err.splitlines()) == 1
        assert said in done.err
        assert "sk-grace" not in done.err


def test_what_is_not_understood_is_exit_code_2(run: Run) -> None:
    for arguments in (["approve", "17"], ["show"], ["list", "--state", "open"], ["list", "--limit", "0"]):
        assert run(*arguments).code == 2


def test_a_gateway_that_is_away_is_said(run: Run) -> None:
    done = run("list", "--url", "http://127.0.0.1:9")
    assert done.code == 1
    assert "Check the address, and that the gateway runs" in done.err


def test_no_color_means_none(
    server: Server, run: Run, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    server.answers[f"GET {PATH}/"] = (200, {"approvals": [approval()], "next": None})
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert "\x1b[" in run("list").out
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[3" not in run("list").out


def sse(*events: tuple[str, dict[str, Any]]) -> bytes:
    lines = [f": hello\n\nevent: {name}\ndata: {json.dumps(data)}\n\n" for name, data in events]
    return "".join(lines).encode()


def event(name: str, state: str, approval_id: str = ID) -> tuple[str, dict[str, Any]]:
    at = "2026-11-21T11:00:00.000+00:00"
    return name, {"event": name, "id": approval_id, "state": state, "at": at, "approval": approval(approval_id)}


def test_watch_survives_a_restart_and_tells_everything_once(
    server: Server, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "_FIRST_RETRY_S", 0.01)
    ready: tuple[str, dict[str, Any]] = ("ready", {})
    server.answers[f"GET {PATH}/{ID}"] = (200, approval(state="rejected", decided_at="2026-11-21T12:00:00+00:00"))
    server.answers[f"GET {PATH}/events"] = [
        (200, sse(event("requested", "requested"), event("requested", "requested", OTHER), ready)),
        (503, {"error": {"message": "Not now."}}),
        (200, sse(event("requested", "requested", OTHER), ready, event("decided", "approved", OTHER))),
        (401, {}),
    ]
    done = run("watch", "--json")
    told = [(each["event"], each["id"], each["state"]) for each in map(json.loads, done.out.splitlines())]
    assert told == [
        ("requested", ID, "requested"),
        ("requested", OTHER, "requested"),
        ("decided", ID, "rejected"),
        ("decided", OTHER, "approved"),
    ]
    assert done.code == 1  # the key holds no more
    assert "The gateway answers again." in done.err


# Where the gateway is, and with which key.


def test_the_address_is_as_given_else_the_environments() -> None:
    environ = {"LITELLM_BASE_URL": "http://b/", "LITELLM_MASTER_KEY": "sk-m"}
    assert address(None, None, environ) == ("http://b", "sk-m")
    environ |= {"GATEHOUSE_URL": "http://a/v1", "GATEHOUSE_API_KEY": "sk-a"}
    assert address(None, None, environ) == ("http://a", "sk-a")
    assert address("https://c", "sk-c", environ) == ("https://c", "sk-c")


def test_a_key_from_the_file_goes_to_its_own_gateway_alone(tmp_path: Path) -> None:
    names = "LITELLM_MASTER_KEY LITELLM_SALT_KEY UI_PASSWORD POSTGRES_PASSWORD GATEHOUSE_DB_PASSWORD REDIS_PASSWORD"
    names += " GATEHOUSE_METRICS_TOKEN GATEHOUSE_SECRET"
    secrets = dict.fromkeys(names.split(), "sk-" + "x" * 43)
    lines = [*(f"{name}={value}" for name, value in secrets.items()), "GATEHOUSE_PORT=4321"]
    (tmp_path / ".env").write_text("\n".join(lines))
    environ = {"GATEHOUSE_HOME": str(tmp_path)}
    assert address(None, None, environ) == ("http://127.0.0.1:4321", secrets["LITELLM_MASTER_KEY"])
    with pytest.raises(SetupError, match="key: none is set"):
        address("http://elsewhere.example", None, environ)


@pytest.mark.parametrize("url", ["ftp://a", "a", "http://", "http://a:b"])
def test_an_address_that_is_none_is_said(url: str) -> None:
    with pytest.raises(SetupError, match="not an http address"):
        address(url, "sk-a", {})


def test_a_key_that_no_header_takes_is_said() -> None:
    for key in ("sk-a\nb", "sk-\u00fc"):
        with pytest.raises(SetupError, match="Copy it again"):
            address("http://a", key, {})


# The page.

PAGE = (REPOSITORY / "docs" / "approvals.md").read_text()


def test_its_rule_is_one(tmp_path: Path) -> None:
    (tmp_path / "policy.yaml").write_text(re.findall(r"```yaml\n(.*?)```", PAGE, re.S)[0])
    (rule,) = read_policy(tmp_path / "policy.yaml")[0].policy.rules
    assert rule.approvers is not None
    assert (rule.approvers.teams, rule.approvers.count, rule.approvers.hold) == (("finance",), 2, 30.0)


def test_its_refusal_is_shaped_like_ours() -> None:
    shown = json.loads(re.findall(r"```json\n(.*?)```", PAGE, re.S)[0])
    inner = shown["error"]["gatehouse"]
    refusal = ApprovalRequired(shown["error"]["message"], policies=tuple(inner["policies"]), approval=inner["approval"])
    assert refusal.body(inner["call_id"]) == shown


def test_its_commands_are_all_there_are() -> None:
    named = set(re.findall(r"^gatehouse approvals (\w+)", PAGE, re.M))
    assert named == set(typer.main.get_command(command.approvals).commands)  # type: ignore[attr-defined]


def test_its_errors_are_ours() -> None:
    for error in (InvalidRequest, AccessDenied, NotFound, Conflict, GovernanceUnavailable):
        assert f"| {error.status} | `{error.code}` |" in PAGE
    for error in (ApprovalRequired, ApprovalRejected, ApprovalExpired, ApprovalMismatch):
        assert f"| `{error.code}` |" in PAGE
