"""The form that huggingface_hub's InferenceClient sends to an address: `{"inputs": …, "parameters": {…}}`.

Point the client at the service itself for the first model, or at `/models/NAME`.
"""

from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from bertune.serving.errors import RequestError
from bertune.serving.routes.bodies import json_body, required, service_of
from bertune.serving.routes.endpoints import json_response, route
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
    if top_k is not None and (not isinstance(top_k, int) or isinstance(top_k, bool) or top_k < 1):
        raise RequestError(422, "bad_request", f"top_k is {str(top_k)[:40]!r}; must be a number from 1")
    items = inputs if isinstance(inputs, list) else [inputs]
    answers = await service.answer(request, served, items)
    shown = [_shown(answer, item, top_k) for answer, item in zip(answers, items, strict=True)]
    single_is_nested = bool(answers) and isinstance(answers[0].get("scores"), dict)  # as the hub answers classification
    return json_response(shown if isinstance(inputs, list) or single_is_nested else shown[0])


def _shown(answer: Prediction, item: Any, top_k: int | None) -> Any:
    """One answer in the client's form."""
    if "error_type" in answer:
        raise RequestError(500, str(answer["error_type"]), str(answer["error"]))
    if "entities" in answer:
        return [_entity(entity) for entity in answer["entities"]]
    if "masks" in answer:
        return _masks(answer, item)[:top_k]
    if "embedding" in answer:
        return answer["embedding"]
    if "start" in answer:
        return {name: answer[name] for name in ("answer", "score", "start", "end")}
    return ranked(answer)[:top_k]


def _entity(entity: Prediction) -> Prediction:
    return {
        "entity_group": entity["label"],
        "word": entity["text"],
        **{k: entity[k] for k in ("score", "start", "end")},
    }


def _masks(answer: Prediction, item: str) -> list[Prediction]:
    """Words for the first mask, each with the text filled in."""
    first = answer["masks"][0]
    before, after = item[: first["start"]], item[first["end"] :]
    return [
        {"score": found["score"], "token": 0, "token_str": found["token"], "sequence": before + found["token"] + after}
        for found in first["candidates"]
    ]


ROUTES = [route("/", run, "POST"), route("/models/{name}", run, "POST")]
