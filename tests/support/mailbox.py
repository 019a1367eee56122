"""Runs a mail server on loopback, with or without TLS, that keeps what arrives; makes a certificate for it."""

from __future__ import annotations

import asyncio
import ipaddress
import ssl
from datetime import UTC, datetime, timedelta
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from typing import Any

from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


def certificate(folder: Path) -> Path:
    """Return a file with a key and its self-signed certificate for 127.0.0.1."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "mail.test")])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(datetime.now(UTC) - timedelta(days=1))
        .not_valid_after(datetime.now(UTC) + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    path = folder / "mail.pem"
    path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + made.public_bytes(serialization.Encoding.PEM)
    )
    return path


class Mailbox:
    """Takes mail once it is started.

    Args:
        pem: key and certificate; without them there is no TLS.
        wrapped: TLS from the first byte, instead of STARTTLS.
        login: user and password that it asks for.

    Attributes:
        answers: what the next messages are answered; then they are taken.
        taken: sender, recipients, and the message.
        encrypted: for each message, whether it came by TLS.
    """

    def __init__(self, pem: Path | None = None, *, wrapped: bool = False, login: tuple[str, str] | None = None) -> None:
        self.answers: list[str] = []
        self.taken: list[tuple[str, list[str], EmailMessage]] = []
        self.raw: list[bytes] = []
        self.encrypted: list[bool] = []
        context = None
        if pem is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(pem)
        self._options: dict[str, Any] = {"tls_context": context} if context and not wrapped else {}
        if login:
            self._options |= {"authenticator": self._authenticator(login), "auth_required": True}
            self._options |= {"auth_require_tls": not wrapped and context is not None}
        self._wrapped = context if wrapped else None
        self._server: asyncio.Server | None = None
        self.port = 0

    async def start(self) -> None:
        """Listen in the running loop."""
        self._server = await asyncio.get_running_loop().create_server(
            lambda: SMTP(self, **self._options), "127.0.0.1", 0, ssl=self._wrapped
        )
        self.port = self._server.sockets[0].getsockname()[1]

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802
        if self.answers:
            return self.answers.pop(0)
        content = envelope.content
        assert isinstance(content, bytes)
        found = message_from_bytes(content, policy=policy.SMTP)
        assert isinstance(found, EmailMessage)
        self.raw.append(content)
        self.encrypted.append(server.transport.get_extra_info("ssl_object") is not None)
        self.taken.append((str(envelope.mail_from), list(map(str, envelope.rcpt_tos)), found))
        return "250 taken"

    @staticmethod
    def _authenticator(login: tuple[str, str]) -> Any:
        def check(_server: SMTP, _session: Session, _envelope: Envelope, _mechanism: str, data: Any) -> AuthResult:
            given = isinstance(data, LoginPassword) and (data.login.decode(), data.password.decode())
            return AuthResult(success=given == login, handled=False)

        return check

    def close(self) -> None:
        if self._server is not None:
            self._server.close()
