"""HTTP/1.1 as uvicorn speaks it, with limits on the head of a request, which uvicorn lacks, and faults told in JSON."""

import asyncio

import orjson
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_BYTES = 65_536
"""Longest head of a request: its address and its headers."""
HEAD_SECONDS = 30.0
"""Longest that a client may take for it; a connection on which nothing comes is closed after that."""


class GuardedProtocol(HttpToolsProtocol):
    """One connection."""

    _clock: asyncio.TimerHandle | None = None
    _head_bytes: int | None = 0
    """Bytes of the head so far; None: it is complete."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client has connected."""
        super().connection_made(transport)
        self._clock = self.loop.call_later(HEAD_SECONDS, self._too_slow)

    def connection_lost(self, exc: Exception | None) -> None:
        """It has gone."""
        self._stop_clock()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Bytes have come."""
        super().data_received(data)
        if self._head_bytes is None or self.transport.is_closing():
            return
        self._head_bytes += len(data)
        if self._head_bytes > HEAD_BYTES:
            message = f"address and headers are longer than {HEAD_BYTES} bytes"
            self._refuse("431 Request Header Fields Too Large", "too_large", message)

    def on_message_begin(self) -> None:
        """A request begins, perhaps behind another one."""
        self._head_bytes = 0
        if self._clock is None:
            self._clock = self.loop.call_later(HEAD_SECONDS, self._too_slow)
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Its head is complete."""
        self._head_bytes = None
        self._stop_clock()
        super().on_headers_complete()

    def send_400_response(self, msg: str) -> None:
        """What came is no HTTP."""
        self._refuse("400 Bad Request", "bad_http", msg)

    def _too_slow(self) -> None:
        self._clock = None
        if self.transport.is_closing():
            return
        if self._head_bytes:
            self._refuse("408 Request Timeout", "timeout", f"no complete headers within {HEAD_SECONDS:g} s")
        else:
            self.transport.close()

    def _stop_clock(self) -> None:
        if self._clock is not None:
            self._clock.cancel()
            self._clock = None

    def _refuse(self, status: str, kind: str, message: str) -> None:
        """Answer and close; the request never reaches the app."""
        body = orjson.dumps({"error": message, "error_type": kind})
        head = f"HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n"
        self.transport.write(head.encode() + b"connection: close\r\n\r\n" + body)
        self.transport.close()
