"""Reads a request's body in full and within bounds before any other code sees it.

Promises: no more of a body is held than the limit, however it arrives; a body that arrives too slowly is ended; a body
that is too slow or too large is refused before its sender is authenticated, and dropped.
"""

from __future__ import annotations

import asyncio
import json
import zlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

import brotli
from backports.zstd import DecompressionParameter, ZstdDecompressor, ZstdError

from gatehouse.core.clock import monotonic
from gatehouse.core.errors import (
    GovernanceUnavailable,
    InvalidRequest,
    TooLarge,
    TooManyRequests,
    TooSlow,
    UnsupportedEncoding,
)
from gatehouse.core.http import Message, Receive
from gatehouse.core.strict_json import RepeatedName, decode
from gatehouse.gateway.body_shares import MAX_HELD, BodyShares, Share

# A client has this many seconds for the beginning of its body, and more as more arrives, at this rate at least.
GRACE_S: Final = 10.0
MIN_BYTES_PER_S: Final = 16 * 1024
# A client reads its answer only after it has sent its request: for so many seconds, surplus bytes are read and dropped.
_DRAIN_S: Final = 3.0
# 8 MiB, the most memory that a sender may ask of a receiver (RFC 9659).
_ZSTD_WINDOW_LOG: Final = 23
# JSON's spelling of a lone surrogate, half of a character.
_SURROGATE: Final = b"\\ud"


def _inflated(body: bytes, limit: int) -> tuple[bytes, bool]:
    # Detect gzip or zlib by the head (RFC 9110, 8.4.1).
    unpacking = zlib.decompressobj(zlib.MAX_WBITS | 32)
    plain = unpacking.decompress(body, limit)
    return plain, unpacking.eof and not unpacking.unused_data


def _unpacked_zstd(body: bytes, limit: int) -> tuple[bytes, bool]:
    unpacking = ZstdDecompressor(options={DecompressionParameter.window_log_max: _ZSTD_WINDOW_LOG})
    plain = unpacking.decompress(body, max_length=limit)
    return plain, unpacking.eof and not unpacking.unused_data


def _unpacked_br(body: bytes, limit: int) -> tuple[bytes, bool]:
    unpacking = brotli.Decompressor()
    pieces = [unpacking.process(body, output_buffer_limit=limit)]
    size = len(pieces[0])
    # It buffers output that does not fit, and then accepts no input.
    while pieces[-1] and size < limit and not unpacking.is_finished() and not unpacking.can_accept_more_data():
        pieces.append(unpacking.process(b"", output_buffer_limit=limit - size))
        size += len(pieces[-1])
    return b"".join(pieces), unpacking.is_finished()


# By encoding: unpack at most so many bytes, plus one buffer; return whether that was all, and nothing follows.
_UNPACK: Final[Mapping[bytes, Callable[[bytes, int], tuple[bytes, bool]]]] = {
    b"gzip": _inflated,
    b"x-gzip": _inflated,
    b"deflate": _inflated,
    b"zstd": _unpacked_zstd,
    b"br": _unpacked_br,
}


class ClientLeft(Exception):
    """Report that the client left before its body was complete."""


class BodyReader:
    """Read bodies for one gateway process.

    Args:
        max_bytes: the most bytes of one body.
        grace_s: how long a client may take for the beginning.
        max_held: the most bytes held at once.

    Attributes:
        shares: how many bytes each sender holds.
    """

    def __init__(self, max_bytes: int, *, grace_s: float = GRACE_S, max_held: int | None = None) -> None:
        self.max_bytes = max_bytes
        self._grace_s = grace_s
        # One sender may hold half of it, which is more than one body.
        self.shares = BodyShares(max(MAX_HELD, 4 * max_bytes) if max_held is None else max_held)

    async def read(self, headers: Iterable[tuple[bytes, bytes]], receive: Receive, share: Share | None = None) -> bytes:
        """Read a whole body.

        Args:
            share: counts it for as long as it is held; None to count it only while it is read.

        Raises:
            TooLarge, TooSlow, TooManyRequests, GovernanceUnavailable: it is refused.
            ClientLeft: the client waits for no answer.
        """
        declared = next((value for name, value in headers if name == b"content-length"), b"")
        if declared.isdigit() and int(declared) > self.max_bytes:
            # A client that asked first (Expect: 100-continue) has sent nothing, and is answered at once.
            if not any(name == b"expect" for name, _ in headers):
                await _drain(receive)
            raise self._too_large()
        if share is not None:
            return await self._read(receive, share)
        with self.shares.of("") as share:
            return await self._read(receive, share)

    async def _read(self, receive: Receive, share: Share) -> bytes:
        pieces: list[bytes] = []
        size = 0
        begun = monotonic()
        while True:
            left = begun + self._grace_s + size / MIN_BYTES_PER_S - monotonic()
            try:
                async with asyncio.timeout(max(left, 0)):
                    message = await receive()
            except TimeoutError:
                raise TooSlow("The body did not arrive in time. Send the request again.") from None
            if message["type"] == "http.disconnect":
                raise ClientLeft
            piece = message.get("body", b"")
            size += len(piece)
            if size > self.max_bytes:
                pieces.clear()
                share.release()
                await _drain(receive)
                raise self._too_large()
            try:
                share.add(len(piece))
            except (TooManyRequests, GovernanceUnavailable):
                pieces.clear()
                share.release()  # a refused body takes no room while the rest of it arrives
                await _drain(receive)
                raise
            pieces.append(piece)
            if not message.get("more_body"):
                return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def unpacked(self, headers: Iterable[tuple[bytes, bytes]], body: bytes, share: Share | None = None) -> bytes:
        """Return a body before its packing (`Content-Encoding`), within the same limit.

        Args:
            share: counts the additional bytes.

        Raises:
            TooManyRequests, GovernanceUnavailable: there is no room for it.
            UnsupportedEncoding: only one layer of gzip, deflate, zstd or br is unpacked.
            TooLarge: it is larger than may be sent.
            InvalidRequest: it is damaged.
        """
        named = [value.strip().lower() for name, value in headers if name == b"content-encoding"]
        if not named or named == [b"identity"]:
            return body
        unpack = _UNPACK.get(named[0]) if len(named) == 1 else None
        if unpack is None:
            raise UnsupportedEncoding(
                "content-encoding: send the body as it is, or packed once with gzip, deflate, zstd or br."
            )
        try:
            plain, is_whole = unpack(body, self.max_bytes + 1)
        except (zlib.error, ZstdError, brotli.error):
            plain, is_whole = b"", False
        if len(plain) > self.max_bytes:
            raise self._too_large()
        if not is_whole:
            raise InvalidRequest("The body is not what its content-encoding says, or is cut off. Send it again.")
        if share is not None:
            share.add(max(len(plain) - len(body), 0))
        return plain

    def _too_large(self) -> TooLarge:
        return TooLarge(f"The body is larger than {self.max_bytes // 1024:,} KiB, which is the most. Send less.")


async def _drain(receive: Receive) -> None:
    """Read and drop what still arrives for a moment, because a client that still sends does not see its answer."""
    try:
        async with asyncio.timeout(_DRAIN_S):
            while True:
                message: Message = await receive()
                if message["type"] == "http.disconnect" or not message.get("more_body"):
                    return
    except TimeoutError:
        return


def json_object(body: bytes) -> dict[str, Any]:
    """Read a body as a JSON object, as strictly as its strictest reader.

    Raises:
        InvalidRequest: it is not one.
    """
    try:
        value = decode(body.decode("utf-8"))
        if _SURROGATE in body.lower():
            json.dumps(value, ensure_ascii=False).encode("utf-8")
    except RepeatedName:
        raise InvalidRequest("The body has an object with two entries of one name. Send each once.") from None
    except UnicodeEncodeError:
        raise InvalidRequest("The body has half of a character (a lone surrogate). Send whole ones.") from None
    except RecursionError:
        raise InvalidRequest("The body is nested too deep. Send it flatter.") from None
    except ValueError:
        raise InvalidRequest("The body is not JSON, or not in UTF-8. Send a JSON object.") from None
    if not isinstance(value, dict):
        raise InvalidRequest("The body is not a JSON object. Send one.")
    return value
