"""The form that huggingface_hub's InferenceClient sends to an address: `{"inputs": …, "parameters": {…}}`.

Point the client at the service itself for the first model, or at `/models/NAME`.
"""

from collections.abc import Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from bertune.serving.errors import RequestError
from bertune.serving.routes.bodies import json_body, json_response, required, service_of
from bertune.serving.routes.tei import ranked
from bertune.serving.service import Prediction


async def run(request: Request) -> Response:
    """Answers in the form that the client expects of the model's task."""
    service = service_of(request)
    served = service.models.get(request.path_params.get("name"))
    body = await json_body(request)
    inputs = required(body, "inputs", '{"inputs": "a text"}')
    parameters = body.get("parameters")
    top_k = parameters.get("top_k") if isinstance(parameters, dict) else None
    items = inputs if isinstance(inputs, list) else [inputs]
    answers = await service.answer(request, served, items)
    shown = [_shown(answer, item)[: top_k if isinstance(top_k, int) else None] for answer, item in zip(answers, items)]
    kind = "answer" if answers and "answer" in answers[0] and "start" in answers[0] else ""
    if kind == "answer":
        shown = [part[0] for part in shown]
        return json_response(shown if isinstance(inputs, list) else shown[0])
    nested = isinstance(inputs, list) or (answers and isinstance(answers[0].get("scores"), dict))
    return json_response(shown if nested else shown[0])


def _shown(answer: Prediction, item: Any) -> list[Any]:
    if "error_type" in answer:
        raise RequestError(500, str(answer["error_type"]), str(answer["error"]))
    for key, show in _FORMS.items():
        if key in answer:
            return show(answer, item)
    return ranked(answer)


def _entities(answer: Prediction, item: Any) -> list[Any]:  # noqa: ARG001
    return [
        {"entity_group": e["label"], "score": e["score"], "word": e["text"], "start": e["start"], "end": e["end"]}
        for e in answer["entities"]
    ]


def _answer(answer: Prediction, item: Any) -> list[Any]:  # noqa: ARG001
    return [{name: answer[name] for name in ("answer", "score", "start", "end")}]


def _masks(answer: Prediction, item: Any) -> list[Any]:
    """Words for the first mask; with the text filled in."""
    first = answer["masks"][0]
    before, after = item[: first["start"]], item[first["end"] :]
    return [
        {
            "score": candidate["score"],
            "token": 0,
            "token_str": candidate["token"],
            "sequence": before + candidate["token"] + after,
        }
        for candidate in first["candidates"]
    ]


def _embedding(answer: Prediction, item: Any) -> list[Any]:  # noqa: ARG001
    vector: list[Any] = answer["embedding"]
    return vector


_FORMS: dict[str, Callable[[Prediction, Any], list[Any]]] = {
    "entities": _entities,
    "masks": _masks,
    "embedding": _embedding,
    "start": _answer,
}

ROUTES = [Route("/", run, methods=["POST"]), Route("/models/{name}", run, methods=["POST"])]
