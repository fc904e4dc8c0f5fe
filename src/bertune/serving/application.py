"""The service as an ASGI app."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from starlette.applications import Starlette

from bertune.errors import Problems
from bertune.model.predicting import Predictor
from bertune.serving.answer_rules import AnswerRules
from bertune.serving.metrics import ServiceMetrics
from bertune.serving.middleware import Gate
from bertune.serving.options import ServeLimits
from bertune.serving.routes import huggingface, native, open_inference, openai, pages, tei
from bertune.serving.served import Loader, Loading, Models
from bertune.serving.service import Service


def app(
    models: Mapping[str, str | Path | Predictor],
    *,
    limits: ServeLimits | None = None,
    loading: Loader | None = None,
    api_keys: Sequence[str] = (),
    access_log: bool = False,
    rules: AnswerRules | None = None,
) -> Starlette:
    """The service, to run under any ASGI server or to mount in an app of one's own.

    Models are loaded, and have answered a sample item, when this returns. Its lifespan ends their threads; an app that
    mounts it and does not pass lifespans on calls `app.state.service.models.close(seconds)` itself.

    Args:
        models: by name, folders that `bertune train` wrote, or models that `bertune.load` gave. The first one answers
            for the protocols that know one model only.
        limits: batch, queue, body and time.
        loading: loads the folders; by default `bertune.load`.
        api_keys: keys of which requests must bring one; none: no key is asked for.
        access_log: log every request to the logger `bertune.serving.access`.
        rules: which answers are left to a person; by default as the models' own options say.

    Raises:
        InputError: no models, a folder without one, a model that does not answer.
    """
    limits = limits or ServeLimits()
    problems = Problems()
    for message in limits.problems():
        name, _, wrong = message.removeprefix("--").partition(" ")
        problems.add(f"app: {name.replace('-', '_')} {wrong}")
    problems.raise_if_any()
    metrics = ServiceMetrics()
    service = Service(Models(limits, loading or Loading(), metrics.observe, rules), limits, metrics)
    service.models.add_all(models)
    return starlette_app(service, api_keys, access_log=access_log)


def starlette_app(service: Service, api_keys: Sequence[str] = (), *, access_log: bool = False) -> Starlette:
    """Routes and the gate around them, for a service that is set up already."""

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:  # noqa: ARG001
        yield
        service.models.close(service.limits.drain_seconds)

    modules = (native, tei, openai, open_inference, huggingface, pages)
    made = Starlette(routes=[route for module in modules for route in module.ROUTES], lifespan=lifespan)
    made.state.service, made.state.keys = service, tuple(api_keys)
    # In place of Starlette's own layers for errors, which cost every request more than all else that the gate does.
    made.build_middleware_stack = lambda: Gate(made.router, service, api_keys, access_log=access_log)  # type: ignore[method-assign]
    return made
