"""HTTP/1.1 as uvicorn speaks it, with what uvicorn lacks: limits on the head of a request, faults told in JSON, and a
call when a client goes away.
"""

import asyncio

import httptools
import orjson
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from bertune.serving.connection import EXTENSION, Connection

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
        self._connection = Connection(self.flow.resume_reading)
        self._clock = self.loop.call_later(HEAD_SECONDS, self._too_slow)

    def connection_lost(self, exc: Exception | None) -> None:
        """It has gone."""
        self._stop_clock()
        super().connection_lost(exc)
        self._connection.lose()

    def data_received(self, data: bytes) -> None:
        """Bytes have come."""
        self._unset_keepalive_if_required()
        while data:
            try:
                self.parser.feed_data(data)
                break
            except httptools.HttpParserUpgrade as offer:
                data = self._without_offer(data[offer.args[0] :])
            except httptools.HttpParserError:
                self.send_400_response("what came is no HTTP/1.1")
                break
        if self._head_bytes is None or self.transport.is_closing():
            return
        if self._clock is None:  # most heads come in one piece and need none
            self._clock = self.loop.call_later(HEAD_SECONDS, self._too_slow)
        self._head_bytes += len(data)
        if self._head_bytes > HEAD_BYTES:
            message = f"address and headers are longer than {HEAD_BYTES} bytes"
            self._refuse("431 Request Header Fields Too Large", "too_large", message)

    def on_message_begin(self) -> None:
        """A request begins, perhaps behind another one."""
        self._head_bytes = 0
        self._connection.came = False
        super().on_message_begin()
        self.scope["extensions"] = {EXTENSION: {"connection": self._connection}}

    def on_headers_complete(self) -> None:
        """Its head is complete."""
        if self.parser.should_upgrade():
            return
        self._head_bytes = None
        self._stop_clock()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """All of its body has come."""
        if self.parser.should_upgrade():
            return
        self._connection.came = True
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """What came is no HTTP."""
        self._refuse("400 Bad Request", "bad_http", msg)

    def _without_offer(self, rest: bytes) -> bytes:
        """The request that offers to go on in another protocol, as one that does not: HTTP allows to pass that over.

        Java's client offers HTTP/2 with every request. The parser stops behind the head of such a request and takes no
        body from it; so another parser reads what is returned here. rest: what follows the head.
        """
        method = self.parser.get_method()
        head = [method + b" " + self.url + b" HTTP/" + self.parser.get_http_version().encode() + b"\r\n"]
        for name, value in self.headers:
            if name == b"connection":
                value = b"close" if b"close" in value.lower() else b"keep-alive"
            if name not in (b"upgrade", b"http2-settings"):
                head.append(name + b": " + value + b"\r\n")
        self.parser = httptools.HttpRequestParser(self)
        if method == b"CONNECT":
            self.send_400_response("this is no proxy")
            return b""
        return b"".join(head) + b"\r\n" + rest

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
