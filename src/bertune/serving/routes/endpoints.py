"""Routes and answers at the least cost: what a request takes beside computing, the other requests wait for."""

from collections.abc import Awaitable, Callable
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send


def route(path: str, answer: Callable[[Request], Awaitable[Response]], method: str = "GET") -> Route:
    """A route whose errors go to the gate as they are, without the layers in which Starlette looks for handlers."""
    return Route(path, _Endpoint(answer), methods=[method], name=answer.__name__)


class _Endpoint:
    def __init__(self, answer: Callable[[Request], Awaitable[Response]]) -> None:
        self._answer = answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        response = await self._answer(Request(scope, receive, send))
        await response(scope, receive, send)


def json_response(value: Any, status: int = 200) -> Response:
    """An answer as JSON."""
    return _Json(orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY), status)


class _Json(Response):
    """Bytes that are JSON already, under two headers."""

    def __init__(self, body: bytes, status: int) -> None:
        self.status_code, self.body, self.background = status, body, None
        self.raw_headers = [(b"content-length", b"%d" % len(body)), (b"content-type", b"application/json")]
