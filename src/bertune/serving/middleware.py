"""Around every request: its id, the API key, the size limit, errors as JSON, counts and the access log."""

import hmac
import logging
import random
import time
from collections.abc import Sequence

import orjson
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bertune.serving.errors import RequestError
from bertune.serving.service import ClientGoneError, Service

access = logging.getLogger("bertune.serving.access")
logger = logging.getLogger(__name__)

OPEN_PATHS = frozenset({"/", "/health", "/ready", "/v2/health/live", "/v2/health/ready"})
"""What answers without an API key: probes, and the page, which asks for the key itself. Only with GET."""
GONE = 499
"""The status that is counted and logged where nobody waits for an answer any more, as nginx does."""
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
        except Exception as error:
            await self._fail(scope, exchange, error)
            error.__traceback__ = None  # through its frames it would hold what holds it, until the collector comes
        finally:
            self._service.in_flight -= 1
            self._record(scope, exchange, time.perf_counter() - began)

    def _admit(self, scope: Scope, headers: dict[str, bytes]) -> None:
        """Refuse requests without a key, of too many bytes, compressed ones, or while the service stops.

        Raises:
            RequestError: 401, 413, 415 or 503.
        """
        if self._keys and not (_own_path(scope) in OPEN_PATHS and scope["method"] in {"GET", "HEAD"}):
            given = headers.get("x-api-key") or _bearer(headers.get("authorization", b""))
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

    async def _fail(self, scope: Scope, exchange: "_Exchange", error: Exception) -> None:
        """Answer with what went wrong, in the service's form, where an answer has not begun yet."""
        if not isinstance(error, RequestError | HTTPException | ClientGoneError):
            logger.error("serving: request %s failed", exchange.id, exc_info=error)
        if exchange.started:  # the server closes the connection on what was not sent to its end
            return
        refusal = _refusal(scope, error)
        if refusal.status != GONE:
            self._service.metrics.errors.labels(refusal.kind).inc()
        body = orjson.dumps(refusal.body())
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        headers += [(name.lower().encode(), value.encode()) for name, value in refusal.headers.items()]
        await exchange.send({"type": "http.response.start", "status": refusal.status, "headers": headers})
        await exchange.send({"type": "http.response.body", "body": body})

    def _record(self, scope: Scope, exchange: "_Exchange", seconds: float) -> None:
        route = getattr(scope.get("route"), "path", "other")
        self._service.metrics.request(route, exchange.status, seconds)
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


def _own_path(scope: Scope) -> str:
    """The address within the service, which may be mounted in another app."""
    path: str = scope["path"]
    return path.removeprefix(scope.get("root_path", "")) or "/"


def _bearer(authorization: bytes) -> bytes:
    """The key in an Authorization header; the scheme's name has no case (RFC 9110, section 11.1)."""
    scheme, _, key = authorization.partition(b" ")
    return key.strip() if scheme.lower() == b"bearer" else authorization


def _refusal(scope: Scope, error: Exception) -> RequestError:
    """Any error as the service answers it."""
    if isinstance(error, RequestError):
        return error
    if isinstance(error, ClientGoneError):
        return RequestError(GONE, "gone", "the client closed its connection")
    if not isinstance(error, HTTPException):
        return RequestError(500, "internal", "an internal error; the log has it under this x-request-id")
    address = f"{scope['method']} {scope['path'][:_PATH_LENGTH]}"
    known = {
        404: ("not_found", f"{address}: nothing here; /docs lists the addresses"),
        405: ("bad_method", f"{address}: not with this method; /docs lists the addresses"),
    }
    kind, text = known.get(error.status_code, ("bad_request", f"{address}: {error.detail}"))
    return RequestError(error.status_code, kind, text, error.headers)


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
