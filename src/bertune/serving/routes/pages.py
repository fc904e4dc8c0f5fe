"""What people open in a browser: the page to try models on, the list of addresses, and OpenAPI's description."""

from functools import cache
from importlib import resources

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from bertune.serving.openapi import description, html
from bertune.serving.routes.endpoints import json_response, route

_POLICY = {
    "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
    "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'self'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
}
"""Nothing is loaded from elsewhere, and nothing typed is sent elsewhere."""


@cache
def _page() -> str:
    folder = resources.files("bertune.serving") / "page"
    parts = {name: (folder / name).read_text(encoding="utf-8") for name in ("page.css", "texts.js", "page.js")}
    page = (folder / "page.html").read_text(encoding="utf-8")
    for name, text in parts.items():
        page = page.replace("{{" + name + "}}", text)
    return page


async def page(request: Request) -> Response:  # noqa: ARG001
    """The page, one file."""
    return HTMLResponse(_page(), headers=_POLICY)


async def docs(request: Request) -> Response:  # noqa: ARG001
    """All addresses, with an example each."""
    return HTMLResponse(html(), headers=_POLICY)


async def openapi(request: Request) -> Response:  # noqa: ARG001
    """The same for programs."""
    return json_response(description())


ROUTES = [route("/", page), route("/docs", docs), route("/openapi.json", openapi)]
