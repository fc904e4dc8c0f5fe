"""The Open Inference Protocol, version 2, as KServe's and Triton's clients send it: texts in BYTES tensors.

Inputs are named like the columns of the task (`text`, `pair`, `question`, `context`); a single input may have any name.
Outputs: `predictions`, a JSON object in BYTES for every item; besides it `label` and `score`, or `embedding`.
"""

import json
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

import bertune
from bertune.serving.errors import RequestError
from bertune.serving.routes.bodies import json_body, required, service_of
from bertune.serving.routes.endpoints import json_response, route
from bertune.serving.service import Prediction

_EXAMPLE = '{"inputs": [{"name": "text", "shape": [1], "datatype": "BYTES", "data": ["a text"]}]}'


async def server(request: Request) -> Response:  # noqa: ARG001
    """Name and version of the server."""
    return json_response({"name": "bertune", "version": bertune.__version__, "extensions": []})


async def live(request: Request) -> Response:  # noqa: ARG001
    """The process is alive."""
    return json_response({"live": True})


async def ready(request: Request) -> Response:
    """All models answer."""
    problem = await service_of(request).not_ready()
    return json_response({"ready": problem is None}, 200 if problem is None else 503)


async def model(request: Request) -> Response:
    """Inputs and outputs of a model."""
    served = service_of(request).models.get(request.path_params["name"])
    fields = served.form.fields if served.form else ("text",)
    return json_response({
        "name": served.name,
        "versions": [served.version],
        "platform": "bertune",
        "inputs": [{"name": name, "datatype": "BYTES", "shape": [-1]} for name in fields],
        "outputs": [{"name": "predictions", "datatype": "BYTES", "shape": [-1]}],
    })  # fmt: skip


async def model_ready(request: Request) -> Response:
    """One model answers."""
    served = service_of(request).models.get(request.path_params["name"])
    return json_response({"name": served.name, "ready": served.batcher.alive})


async def infer(request: Request) -> Response:
    """Answers to a batch of items."""
    service = service_of(request)
    served = service.models.get(request.path_params["name"])
    body = await json_body(request)
    items = _items(required(body, "inputs", _EXAMPLE))
    answers = await service.answer(request, served, items)
    reply = {"model_name": served.name, "model_version": served.version, "outputs": _outputs(answers)}
    if isinstance(body.get("id"), str):
        reply["id"] = body["id"]
    return json_response(reply)


def _items(inputs: Any) -> list[Any]:
    """One item a place: the text alone, or an object where there are several inputs."""
    if not isinstance(inputs, list) or not all(isinstance(tensor, dict) for tensor in inputs) or not inputs:
        raise RequestError(422, "bad_request", f"inputs must be a list of tensors; send for example {_EXAMPLE}")
    columns: dict[str, list[str]] = {}
    for tensor in inputs:
        name, data = str(tensor.get("name")), tensor.get("data")
        if tensor.get("datatype") != "BYTES":
            found = str(tensor.get("datatype"))[:20]
            raise RequestError(422, "bad_request", f"input {name}: datatype is {found!r}; texts are BYTES")
        flat = _flat(data)
        shape = tensor.get("shape")
        count = 1
        for size in shape if isinstance(shape, list) else []:
            count *= size if isinstance(size, int) else 0
        if not isinstance(shape, list) or count != len(flat):
            raise RequestError(422, "bad_request", f"input {name}: shape {shape} does not hold its {len(flat)} texts")
        columns[name] = flat
    if len({len(column) for column in columns.values()}) != 1:
        sizes = ", ".join(f"{name} {len(column)}" for name, column in columns.items())
        raise RequestError(422, "bad_request", f"the inputs hold different numbers of texts: {sizes}")
    if len(columns) == 1:
        return next(iter(columns.values()))
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _flat(data: Any) -> list[str]:
    if isinstance(data, str):
        return [data]
    if not isinstance(data, list):
        raise RequestError(422, "bad_request", "an input's data must be a list of texts")
    return [text for part in data for text in _flat(part)]


def _outputs(answers: list[Prediction]) -> list[dict[str, Any]]:
    lines = [json.dumps(answer, ensure_ascii=False) for answer in answers]
    outputs: list[dict[str, Any]] = [_tensor("predictions", "BYTES", [len(lines)], lines)]
    if answers and all("label" in answer and "score" in answer for answer in answers):
        outputs.append(_tensor("label", "BYTES", [len(answers)], [str(answer["label"] or "") for answer in answers]))
        outputs.append(_tensor("score", "FP32", [len(answers)], [answer["score"] for answer in answers]))
    if answers and all("embedding" in answer for answer in answers):
        rows = [answer["embedding"] for answer in answers]
        outputs.append(_tensor("embedding", "FP32", [len(rows), len(rows[0])], [x for row in rows for x in row]))
    return outputs


def _tensor(name: str, datatype: str, shape: list[int], data: list[Any]) -> dict[str, Any]:
    return {"name": name, "datatype": datatype, "shape": shape, "data": data}


ROUTES = [
    route("/v2", server),
    route("/v2/health/live", live),
    route("/v2/health/ready", ready),
    route("/v2/models/{name}", model),
    route("/v2/models/{name}/ready", model_ready),
    route("/v2/models/{name}/infer", infer, "POST"),
    route("/v2/models/{name}/versions/{version}/infer", infer, "POST"),
]
