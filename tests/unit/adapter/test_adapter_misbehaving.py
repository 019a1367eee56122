"""A gateway that is down, slow, refuses, fails, talks garbage or stops half-way: a typed error in time, or a retry that
is safe, and never a call that reaches the model twice."""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import gatehouse_adapter as ga
import pytest
import pytest_asyncio
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.support.byte_gateway import ASK, KEY, ByteGateway, Handler, answers_with, demo, piece, serving, streams

CHAT = "/v1/chat/completions"


@pytest_asyncio.fixture
async def gateway() -> AsyncIterator[ByteGateway]:
    async with serving() as found:
        yield found


def client(url: str, **options: Any) -> ga.LiteLLMAdapter:
    return ga.LiteLLMAdapter(base_url=url, api_key=KEY, **{"timeout": 2.0, **options})


async def ask(adapter: ga.LiteLLMAdapter, *, stream: bool = False) -> str | None:
    answer = await adapter.complete_chat(ASK, "demo", stream=stream)
    if isinstance(answer, ga.ChatStream):
        return "".join([chunk.content async for chunk in answer])
    return answer.content


async def silent(body: Any, writer: asyncio.StreamWriter) -> None:
    await asyncio.sleep(60)


async def hangs_up(body: Any, writer: asyncio.StreamWriter) -> None:
    writer.close()


async def torn(body: Any, writer: asyncio.StreamWriter) -> None:
    await answers_with(b'{"choices"', content_length="500")(body, writer)
    writer.close()


def refuses(status: int, code: str | None = None, **headers: str) -> Handler:
    return answers_with({"error": {"message": "No.", "type": "x", "code": code or str(status)}}, status, **headers)


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
@pytest.mark.parametrize(
    ("handler", "error"),
    [
        (silent, ga.TimedOut),
        (hangs_up, ga.ConnectionFailed),
        (torn, (ga.ConnectionFailed, ga.InvalidResponse)),
        (refuses(429, retry_after="1"), ga.RateLimited),
        (refuses(400), ga.BadRequest),
        (refuses(401), ga.AuthenticationFailed),
        (refuses(403, "policy_denied"), ga.PolicyDenied),
        (refuses(500), ga.UpstreamError),
        (refuses(502), ga.UpstreamError),
        (refuses(503), ga.UpstreamError),
        (refuses(503, "governance_unavailable", retry_after="3600"), ga.GovernanceUnavailable),
        (answers_with(b"<html>Welcome to the hotel's network</html>", content_type="text/html"), ga.InvalidResponse),
        (answers_with(b"", 500), ga.UpstreamError),
        (answers_with(b"\x00\xff\xfe" * 100), ga.InvalidResponse),
        (answers_with(b"[" * 50_000), ga.InvalidResponse),
        (answers_with({"choices": "none"}), ga.InvalidResponse),
        (streams(piece("half"), end=False), (ga.StreamInterrupted, ga.ConnectionFailed)),
        (streams(piece("half")), (ga.StreamInterrupted, ga.InvalidResponse)),
        (streams(b"data: gar"), (ga.StreamInterrupted, ga.InvalidResponse)),
    ],
    ids=lambda value: getattr(value, "__name__", "") if callable(value) and not isinstance(value, type) else "",
)
async def test_every_misbehaviour_is_a_typed_error_in_time_and_the_call_arrived_once(
    gateway: ByteGateway, handler: Handler, error: Any, stream: bool
) -> None:
    gateway.handlers[CHAT] = handler
    begun = time.monotonic()
    async with client(gateway.url) as adapter:
        with pytest.raises(error) as caught:
            await ask(adapter, stream=stream)
    assert time.monotonic() - begun < 2.0 + 20  # the timeout, and a busy machine
    assert isinstance(caught.value, ga.GatehouseError)
    assert KEY not in str(caught.value)
    assert [path for path, _, _ in gateway.requests] == [CHAT]


async def test_a_gateway_that_is_down_is_tried_again_until_it_is_there(gateway: ByteGateway) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    async with client(f"http://127.0.0.1:{port}", max_retries=20, timeout=60.0) as adapter:
        call = asyncio.create_task(ask(adapter))
        await asyncio.sleep(1)
        assert not call.done()
        late = await asyncio.start_server(gateway.serve, "127.0.0.1", port)
        assert await call == "Hello."
        late.close()
    assert len(gateway.requests) == 1


async def test_a_gateway_that_asks_to_come_back_soon_is_asked_again(gateway: ByteGateway) -> None:
    async def first_busy(body: Any, writer: asyncio.StreamWriter) -> None:
        handler = refuses(503, "governance_unavailable", retry_after="0") if len(gateway.requests) == 1 else demo
        await handler(body, writer)

    gateway.handlers[CHAT] = first_busy
    async with client(gateway.url, timeout=30.0) as adapter:
        assert await ask(adapter) == "Hello."
    assert len(gateway.requests) == 2


async def test_a_hundred_calls_at_once_of_which_many_fail_arrive_once_each(gateway: ByteGateway) -> None:
    handlers = [demo, hangs_up, torn, refuses(500), refuses(429), answers_with(b"garbage")]

    async def at_random(body: Any, writer: asyncio.StreamWriter) -> None:
        await handlers[int(body["messages"][0]["content"]) % len(handlers)](body, writer)

    gateway.handlers[CHAT] = at_random
    async with client(gateway.url, timeout=60.0, breaker_failure_threshold=10_000) as adapter:
        calls = [adapter.complete_chat([{"role": "user", "content": str(number)}], "demo") for number in range(100)]
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
    assert sum(isinstance(each, ga.Completion) for each in outcomes) == 17
    assert all(isinstance(each, ga.Completion | ga.GatehouseError) for each in outcomes)
    arrived = sorted(int(body["messages"][0]["content"]) for _, _, body in gateway.requests)
    assert arrived == list(range(100))


# The circuit breaker


async def test_after_so_many_failures_nothing_is_sent_until_one_probe_succeeds(gateway: ByteGateway) -> None:
    gateway.handlers[CHAT] = refuses(500)
    options = {"breaker_failure_threshold": 3, "breaker_recovery_seconds": 1.5, "timeout": 30.0}
    async with client(gateway.url, **options) as adapter:
        for _ in range(3):
            with pytest.raises(ga.UpstreamError):
                await ask(adapter)
        for _ in range(5):
            with pytest.raises(ga.CircuitOpen) as caught:
                await ask(adapter)
        assert caught.value.retry_after is not None
        assert len(gateway.requests) == 3
        await asyncio.sleep(1.6)
        with pytest.raises(ga.UpstreamError):  # the probe, and it fails
            await ask(adapter)
        with pytest.raises(ga.CircuitOpen):
            await ask(adapter)
        assert len(gateway.requests) == 4
        await asyncio.sleep(1.6)
        gateway.handlers[CHAT] = demo
        assert await ask(adapter) == "Hello."
        assert await asyncio.gather(*(ask(adapter) for _ in range(5))) == ["Hello."] * 5


@pytest.mark.parametrize("status", [400, 401, 403, 404, 413, 422, 429])
async def test_a_refusal_never_opens_the_breaker(gateway: ByteGateway, status: int) -> None:
    gateway.handlers[CHAT] = refuses(status)
    async with client(gateway.url, breaker_failure_threshold=1) as adapter:
        for _ in range(3):
            with pytest.raises(ga.GatehouseError) as caught:
                await ask(adapter)
            assert caught.value.status == status
    assert len(gateway.requests) == 3


async def test_no_connection_and_no_answer_in_time_open_the_breaker(gateway: ByteGateway) -> None:
    gateway.handlers[CHAT] = silent
    async with client(gateway.url, timeout=0.3, breaker_failure_threshold=1) as adapter:
        with pytest.raises(ga.TimedOut):
            await ask(adapter)
        with pytest.raises(ga.CircuitOpen):
            await ask(adapter)
        assert await adapter.validate_proxy_health()  # health may always be asked
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        async with client(
            f"http://127.0.0.1:{taken.getsockname()[1]}", max_retries=0, breaker_failure_threshold=1
        ) as adapter:
            with pytest.raises(ga.ConnectionFailed):
                await ask(adapter)
            with pytest.raises(ga.CircuitOpen):
                await ask(adapter)


async def test_while_one_call_finds_out_the_others_are_not_sent_and_one_given_up_makes_room(
    gateway: ByteGateway,
) -> None:
    gateway.handlers[CHAT] = refuses(500)
    async with client(gateway.url, breaker_failure_threshold=1, breaker_recovery_seconds=0.1, timeout=30.0) as adapter:
        with pytest.raises(ga.UpstreamError):
            await ask(adapter)
        await asyncio.sleep(0.2)
        gateway.handlers[CHAT] = silent
        probe = asyncio.create_task(ask(adapter))
        while len(gateway.requests) < 2:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        with pytest.raises(ga.CircuitOpen, match="Another call"):
            await ask(adapter)
        probe.cancel()
        await asyncio.gather(probe, return_exceptions=True)
        gateway.handlers[CHAT] = demo
        assert await ask(adapter) == "Hello."


# The way to the gateway


@pytest.mark.parametrize("end", ["", "/", "/v1", "/v1/"])
async def test_the_address_may_end_in_v1(gateway: ByteGateway, end: str) -> None:
    async with client(gateway.url + end) as adapter:
        assert await ask(adapter) == "Hello."


async def test_a_proxy_is_used(gateway: ByteGateway) -> None:
    gateway.handlers["http://gateway.test:4000" + CHAT] = demo
    async with client("http://gateway.test:4000", proxy=gateway.url) as adapter:
        assert await ask(adapter) == "Hello."
    assert gateway.requests[-1][0] == f"http://gateway.test:4000{CHAT}"


def make_certificate(certificate: Path, key: Path) -> None:
    """Make a self-signed certificate for 127.0.0.1."""
    private = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    begin = datetime.now(UTC) - timedelta(days=1)
    builder = x509.CertificateBuilder(name, name, private.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(begin).not_valid_after(begin + timedelta(days=2))
    host = x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))])
    builder = builder.add_extension(host, critical=False)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    signed = builder.sign(private, hashes.SHA256())
    certificate.write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    forms = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    key.write_bytes(private.private_bytes(*forms))


async def test_a_certificate_authority_of_ones_own_is_trusted_when_it_is_named(
    gateway: ByteGateway, tmp_path: Path
) -> None:
    certificate, key = tmp_path / "ca.pem", tmp_path / "key.pem"
    make_certificate(certificate, key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server = await asyncio.start_server(gateway.serve, "127.0.0.1", 0, ssl=context)
    url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with client(url, verify=str(certificate), timeout=30.0) as adapter:
        assert await ask(adapter) == "Hello."
    async with client(url, max_retries=0, timeout=30.0) as adapter:
        with pytest.raises(ga.ConnectionFailed, match="certificate"):
            await ask(adapter)
    server.close()
    assert len(gateway.requests) == 1


def test_what_cannot_be_used_is_said_when_the_adapter_is_made(tmp_path: Path) -> None:
    nothing = tmp_path / "nothing.pem"
    for options, says in (
        ({"verify": str(nothing)}, "nothing.pem"),
        ({"proxy": "gopher://user:secret@x"}, "proxy"),
        ({"breaker_failure_threshold": 0}, "breaker"),
    ):
        with pytest.raises(ga.ConfigurationError, match=says) as caught:
            client("http://127.0.0.1:1", **options)
        assert "secret" not in str(caught.value)
    assert client("https://127.0.0.1:1", verify=ssl.create_default_context())
