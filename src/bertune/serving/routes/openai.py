"""`/v1/embeddings`, as OpenAI's clients send it."""

import base64

import numpy as np
from starlette.requests import Request
from starlette.responses import Response

from bertune.serving.errors import RequestError
from bertune.serving.routes.bodies import json_body, required, service_of, texts
from bertune.serving.routes.embeddings import vectors
from bertune.serving.routes.endpoints import json_response, route


async def embeddings(request: Request) -> Response:
    """`{"input": text | [text, …], "encoding_format": "float" | "base64", "dimensions": n}`."""
    body = await json_body(request)
    inputs = texts(required(body, "input", '{"input": ["a text"], "model": "any"}'), "input")
    form = body.get("encoding_format") or "float"
    if form not in ("float", "base64"):
        raise RequestError(422, "bad_request", f"encoding_format is {str(form)[:40]!r}; known: float, base64")
    served, found, tokens = await vectors(request, service_of(request), inputs, dimensions=body.get("dimensions"))
    data = [
        {
            "object": "embedding",
            "index": index,
            "embedding": base64.b64encode(row.astype("<f4").tobytes()).decode() if form == "base64" else row,
        }
        for index, row in enumerate(np.asarray(found, np.float32))
    ]
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return json_response({"object": "list", "data": data, "model": served.name, "usage": usage})


ROUTES = [
    route("/v1/embeddings", embeddings, "POST"),
    route("/embeddings", embeddings, "POST"),
]
