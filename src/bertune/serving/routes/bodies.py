"""Reading JSON bodies, and what an `inputs` field may hold."""

import asyncio
from collections.abc import Mapping
from typing import Any

import orjson
from starlette.requests import Request

from bertune.serving.connection import connection_of
from bertune.serving.errors import RequestError
from bertune.serving.service import ClientGoneError, Service

DEEPEST = 32
"""Levels of lists and objects in a body; what any protocol sends has a handful."""


def service_of(request: Request) -> Service:
    """The service that the app belongs to."""
    service: Service = request.app.state.service
    return service


async def json_body(request: Request) -> dict[str, Any]:
    """The JSON object of a request.

    Raises:
        RequestError: 400, not JSON, not an object, or nested too deep; 408, it does not come.
        ClientGoneError: the client went away before it had sent all.
    """
    seconds = service_of(request).limits.request_seconds
    connection = connection_of(request)
    try:
        if connection is not None and connection.came:  # a clock for each would cost more than to read it
            raw = await _body(request)
        else:
            async with asyncio.timeout(seconds):
                raw = await _body(request)
        body = orjson.loads(raw)
    except TimeoutError:
        message = f"the body did not come within {seconds:g} s"
        raise RequestError(408, "timeout", message, {"Connection": "close"}) from None
    except orjson.JSONDecodeError as error:
        raise RequestError(400, "bad_json", f"the body is not JSON: {error}") from None
    if not isinstance(body, dict):
        raise RequestError(400, "bad_json", f"the body must be a JSON object, not {_kind(body)}")
    if raw.count(b"[") + raw.count(b"{") > DEEPEST and _is_deeper(body, DEEPEST):
        raise RequestError(400, "bad_json", f"the body is nested more than {DEEPEST} levels deep")
    return body


def _is_deeper(value: Any, levels: int) -> bool:
    """Whether lists and objects lie in each other more than so many levels deep."""
    layer = [value]
    for _ in range(levels):
        layer = [
            inner
            for outer in layer
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(inner, dict | list)
        ]
        if not layer:
            return False
    return True


async def _body(request: Request) -> bytes:
    """All bytes of a request; at a fraction of what Starlette's stream costs, which most requests do not need."""
    parts: list[bytes] = []
    while True:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise ClientGoneError
        parts.append(message.get("body", b""))
        if not message.get("more_body", False):
            return b"".join(parts)


def required(body: Mapping[str, Any], name: str, example: str) -> Any:
    """A field that must be there.

    Raises:
        RequestError: 422, with an example.
    """
    if body.get(name) is None:
        raise RequestError(422, "bad_request", f"the field {name!r} is missing; send for example {example}")
    return body[name]


def flag(body: Mapping[str, Any], name: str, default: bool) -> bool:
    """A field that is true or false; null counts as absent.

    Raises:
        RequestError: 422 for anything else.
    """
    value = body.get(name)
    if value is None:
        return default
    if not isinstance(value, bool):
        raise RequestError(422, "bad_request", f"{name} is {str(value)[:40]!r}; must be true or false")
    return value


def single_text(value: Any, name: str) -> str:
    """One text, perhaps as a list of it.

    Raises:
        RequestError: 422 for anything else.
    """
    found = texts(value, name)
    if len(found) != 1:
        raise RequestError(422, "bad_request", f"{name} must be one text, not {len(found)}")
    return found[0]


def texts(value: Any, name: str) -> list[str]:
    """A text, or a list of texts, as a list.

    Raises:
        RequestError: 422, with the place of what is no text.
    """
    found = [value] if isinstance(value, str) else value
    if not isinstance(found, list):
        raise RequestError(422, "bad_request", f"{name} must be a text or a list of texts, not {_kind(value)}")
    for index, text in enumerate(found):
        if not isinstance(text, str):
            raise RequestError(422, "bad_item", f"item {index}: {name} holds {_kind(text)}; only texts can be read")
    return found


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "a text", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")
