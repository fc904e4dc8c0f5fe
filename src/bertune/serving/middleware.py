"""Around every request: its id, the API key, the size limit, errors as JSON, counts and the access log."""

import hmac
import logging
import random
import time
from collections.abc import Sequence

import orjson
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bertune.serving.errors import RequestError
from bertune.serving.service import Service

access = logging.getLogger("bertune.serving.access")
logger = logging.getLogger(__name__)

OPEN_PATHS = frozenset({"/", "/health", "/ready", "/v2/health/live", "/v2/health/ready"})
"""What answers without an API key: probes, and the page, which asks for the key itself. Only with GET."""
_PATH_LENGTH = 200


class Gate:
    """The outermost layer: nothing inside is reached without passing it."""

    def __init__(self, app: ASGIApp, service: Service, keys: Sequence[str] = (), *, access_log: bool = True) -> None:
        """Wrap an app.

        Args:
            app: what is inside.
            service: counts, limits, whether it is stopping.
            keys: accepted API keys; none: no key is asked for.
            access_log: log every request.
        """
        self._app, self._service, self._access_log = app, service, access_log
        self._keys = [key.encode() for key in keys]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = {name.decode("latin-1").lower(): value for name, value in scope["headers"]}
        exchange = _Exchange(send, _request_id(headers.get("x-request-id")), closing=self._service.draining)
        began = time.perf_counter()
        self._service.in_flight += 1
        try:
            self._admit(scope, headers)
            if not headers.get("content-length", b"").isdigit() or "transfer-encoding" in headers:
                # No length that the server holds the client to.
                receive = _limited(receive, self._service.limits.max_body_bytes)
            await self._app(scope, receive, exchange.send)
        except RequestError as error:
            await self._refuse(exchange, error)
        except Exception:  # the app inside has answered with status 500 by now
            logger.exception("serving: request %s failed", exchange.id)
        finally:
            self._service.in_flight -= 1
            self._record(scope, exchange, time.perf_counter() - began)

    def _admit(self, scope: Scope, headers: dict[str, bytes]) -> None:
        """Refuse requests without a key, of too many bytes, compressed ones, or while the service stops.

        Raises:
            RequestError: 401, 413, 415 or 503.
        """
        if self._keys and not (scope["path"] in OPEN_PATHS and scope["method"] in {"GET", "HEAD"}):
            given = headers.get("x-api-key") or headers.get("authorization", b"").removeprefix(b"Bearer ")
            matches = [hmac.compare_digest(given, key) for key in self._keys]
            if not any(matches):
                raise RequestError(
                    401, "unauthorized", "a key is needed: Authorization: Bearer KEY", {"WWW-Authenticate": "Bearer"}
                )
        length = headers.get("content-length", b"0")
        if length.isdigit() and int(length) > self._service.limits.max_body_bytes:
            raise _too_large(self._service.limits.max_body_bytes)
        encoding = headers.get("content-encoding", b"identity").decode("latin-1")
        if encoding.lower() != "identity":
            raise RequestError(415, "bad_encoding", f"content-encoding is {encoding[:40]!r}; send the body as it is")
        if self._service.draining and scope["method"] == "POST":
            raise RequestError(503, "unavailable", "the service is stopping; try another", {"Retry-After": "5"})

    async def _refuse(self, exchange: "_Exchange", error: RequestError) -> None:
        self._service.metrics.errors.labels(error.kind).inc()
        body = orjson.dumps(error.body())
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        headers += [(name.lower().encode(), value.encode()) for name, value in error.headers.items()]
        await exchange.send({"type": "http.response.start", "status": error.status, "headers": headers})
        await exchange.send({"type": "http.response.body", "body": body})

    def _record(self, scope: Scope, exchange: "_Exchange", seconds: float) -> None:
        route = getattr(scope.get("route"), "path", "other")  # never the path itself: it has no bounds
        self._service.metrics.requests.labels(route, str(exchange.status)).inc()
        self._service.metrics.seconds.labels(route).observe(seconds)
        if self._access_log:
            path = scope["path"][:_PATH_LENGTH].encode("unicode_escape").decode()
            access.info("%s %s %d %.1f ms %s", scope["method"], path, exchange.status, seconds * 1000, exchange.id)


class _Exchange:
    """The answer on its way out: status, and the headers that every answer has."""

    def __init__(self, send: Send, request_id: str, *, closing: bool) -> None:
        self._send, self.id, self._closing = send, request_id, closing
        self.status, self.started = 500, False

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.started, self.status = True, message["status"]
            headers = [*message.get("headers", []), (b"x-request-id", self.id.encode())]
            if self._closing:
                headers.append((b"connection", b"close"))
            message = {**message, "headers": headers}
        await self._send(message)


def _request_id(given: bytes | None) -> str:
    """The client's id where it is short and plain, else a new one."""
    text = (given or b"").decode("latin-1")
    plain = 0 < len(text) <= 64 and text.isascii() and all(letter.isalnum() or letter in "-_." for letter in text)
    return text if plain else f"{random.getrandbits(64):016x}"


def _too_large(most: int) -> RequestError:
    return RequestError(413, "too_large", f"the request is larger than {most} bytes; split it")


def _limited(receive: Receive, most: int) -> Receive:
    """The same stream; it breaks off where a request without a length turns out too large."""
    seen = 0

    async def read() -> Message:
        nonlocal seen
        message = await receive()
        if message["type"] == "http.request":
            seen += len(message.get("body", b""))
            if seen > most:
                raise _too_large(most)
        return message

    return read
