"""bertune's own protocol: `/v1/models/…`, health, metrics."""

from typing import TYPE_CHECKING, Any, cast

from starlette.requests import Request
from starlette.responses import Response

from bertune.errors import InputError
from bertune.serving.errors import RequestError
from bertune.serving.routes.bodies import flag, json_body, required, service_of
from bertune.serving.routes.endpoints import json_response, route

if TYPE_CHECKING:
    from bertune.model.use import Model


async def predict(request: Request) -> Response:
    """Answers to `{"inputs": [item, …]}`; a list of strings is a batch of texts, a pair is a list of two inside it."""
    service = service_of(request)
    served = service.models.get(request.path_params["name"])
    body = await json_body(request)
    inputs = required(body, "inputs", '{"inputs": ["a text", ["a", "pair"]]}')
    if not isinstance(inputs, list):
        inputs = [inputs]
    strict = not flag(body, "truncate", True)
    answers, served = await service.answer_and_model(request, served, inputs, strict=strict)
    return json_response({"model": served.name, "version": served.version, "predictions": answers})


async def explain(request: Request) -> Response:
    """Words that carry the answer to `{"input": item, "label": name or absent}`; for classification and regression."""
    service = service_of(request)
    served = service.models.get(request.path_params["name"])
    body = await json_body(request)
    item, label = required(body, "input", '{"input": "a text"}'), body.get("label")
    if label is not None and not isinstance(label, str):
        raise RequestError(422, "bad_request", f"label: a label's name is expected, not {label!r}")
    if not hasattr(served.model, "network"):
        raise RequestError(422, "cannot_explain", "an exported model has no gradients; serve the trained one")

    def explained() -> dict[str, Any]:
        from bertune.model.explain import explain as explain_item

        return explain_item(cast("Model", served.model), item, label=label).to_json()

    try:
        found = await service.explaining.run(explained)
    except InputError as error:
        raise RequestError(422, "cannot_explain", str(error)) from None
    return json_response({"model": served.name, "version": served.version, **found})


async def list_models(request: Request) -> Response:
    """All models, described."""
    return json_response({"models": [served.describe() for served in service_of(request).models]})


async def describe(request: Request) -> Response:
    """One model: task, labels, metrics, limits, what an item looks like."""
    return json_response(service_of(request).models.get(request.path_params["name"]).describe())


async def reload(request: Request) -> Response:
    """Load a model's folder again and switch to it; only where API keys are set."""
    if not request.app.state.keys:
        raise RequestError(401, "unauthorized", "reloading needs a service that was started with --api-key-file")
    service = service_of(request)
    served = await service.reloading.run(service.models.reload, request.path_params["name"])
    return json_response(served.describe())


async def health(request: Request) -> Response:  # noqa: ARG001
    """The process is alive. Touches nothing else."""
    return json_response({"status": "alive"})


async def ready(request: Request) -> Response:
    """Every model answered a sample item within the last seconds."""
    problem = await service_of(request).not_ready()
    if problem is not None:
        raise RequestError(503, "not_ready", problem, {"Retry-After": "5"})
    return json_response({"status": "ready"})


async def metrics(request: Request) -> Response:
    """For Prometheus."""
    service = service_of(request)
    return Response(service.metrics.render(service.models), media_type="text/plain; version=0.0.4; charset=utf-8")


ROUTES = [
    route("/v1/models/{name}/predict", predict, "POST"),
    route("/v1/models/{name}/explain", explain, "POST"),
    route("/v1/models/{name}/reload", reload, "POST"),
    route("/v1/models/{name}", describe),
    route("/v1/models", list_models),
    route("/health", health),
    route("/ready", ready),
    route("/metrics", metrics),
]
