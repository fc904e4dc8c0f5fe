"""The routes of text-embeddings-inference, for its clients: /predict, /embed, /similarity, /rerank, /info.

One thing differs, on purpose: a list of strings is a batch, never a pair (a pair is a list inside the list).
"""

from typing import Any

from starlette.requests import Request
from starlette.responses import Response

import bertune
from bertune.serving.errors import RequestError
from bertune.serving.routes.bodies import flag, json_body, required, service_of, single_text, texts
from bertune.serving.routes.embeddings import embedding_model, vectors
from bertune.serving.routes.endpoints import json_response, route
from bertune.serving.service import Prediction


async def predict(request: Request) -> Response:
    """`{"inputs": text | [text, …] | [[text], [a, b], …]}` → labels with scores, best first."""
    service = service_of(request)
    body = await json_body(request)
    _no_raw_scores(body)
    inputs = required(body, "inputs", '{"inputs": ["a text", "another"]}')
    items = [
        item[0] if isinstance(item, list) and len(item) == 1 else item
        for item in (inputs if isinstance(inputs, list) else [inputs])
    ]
    answers = await service.answer(request, service.models.get(), items, strict=not flag(body, "truncate", True))
    classes = [ranked(answer) for answer in answers]
    return json_response(classes if isinstance(inputs, list) else classes[0])


async def embed(request: Request) -> Response:
    """`{"inputs": text | [text, …]}` → vectors of length 1."""
    body = await json_body(request)
    if not flag(body, "normalize", True):
        raise RequestError(422, "bad_request", "normalize false is not supported: the vectors have length 1")
    inputs = texts(required(body, "inputs", '{"inputs": ["a text"]}'), "inputs")
    strict = not flag(body, "truncate", True)
    dimensions = body.get("dimensions")
    _, found, _ = await vectors(request, service_of(request), inputs, dimensions=dimensions, strict=strict)
    return json_response(found)


async def similarity(request: Request) -> Response:
    """`{"inputs": {"source_sentence": text, "sentences": [text, …]}}` → cosines."""
    body = await json_body(request)
    example = '{"inputs": {"source_sentence": "a", "sentences": ["b", "c"]}}'
    inputs = required(body, "inputs", example)
    if not isinstance(inputs, dict):
        raise RequestError(422, "bad_request", f"inputs must be an object; send for example {example}")
    source = required(inputs, "source_sentence", example)
    sentences = texts(required(inputs, "sentences", example), "sentences")
    _, found, _ = await vectors(request, service_of(request), [single_text(source, "source_sentence"), *sentences])
    return json_response((found[1:] @ found[0]).tolist())


async def rerank(request: Request) -> Response:
    """`{"query": text, "texts": [text, …]}` → `[{"index", "score"}]`, best first.

    The score is the cosine of a model that embeds, the number of one that gives a number, or the probability of the
    second label of one with two labels.
    """
    service = service_of(request)
    body = await json_body(request)
    _no_raw_scores(body)
    example = '{"query": "a question", "texts": ["a passage", "another"]}'
    query = single_text(required(body, "query", example), "query")
    passages = texts(required(body, "texts", example), "texts")
    items = [[query, passage] for passage in passages]
    served = service.models.get()
    answers = await service.answer(request, served, items, strict=not flag(body, "truncate", True))
    scores = [_relevance(answer, served.labels) for answer in answers]
    order = sorted(range(len(scores)), key=lambda index: -scores[index])
    shown = flag(body, "return_text", False)
    ranking = [{"index": i, "score": scores[i], **({"text": passages[i]} if shown else {})} for i in order]
    return json_response(ranking)


async def info(request: Request) -> Response:
    """What the first model is, in the words of text-embeddings-inference."""
    service = service_of(request)
    served = service.models.get()
    kind: dict[str, Any] = {"classifier": {
        "id2label": {str(i): label for i, label in enumerate(served.labels)},
        "label2id": {label: i for i, label in enumerate(served.labels)},
    }}  # fmt: skip
    if served.model.task.name == "embedding":
        kind = {"embedding": {"pooling": embedding_model(service).model.task.options.pooling}}
    limits = service.limits
    return json_response({
        "model_id": served.name,
        "model_sha": served.version,
        "model_dtype": served.model.precision,
        "served_model_name": served.name,
        "model_type": kind,
        "max_input_length": served.model.max_seq_length,
        "max_batch_tokens": limits.max_batch_tokens,
        "max_concurrent_requests": limits.max_queue_tokens,
        "max_client_batch_size": limits.max_queue_tokens,
        "auto_truncate": True,
        "tokenization_workers": 1,
        "version": bertune.__version__,
    })  # fmt: skip


def ranked(answer: Prediction) -> list[dict[str, Any]]:
    """Labels with scores, best first, from any answer that has them.

    Raises:
        RequestError: the task gives no labels.
    """
    scores = answer.get("scores")
    if isinstance(scores, dict):
        return [{"label": name, "score": scores[name]} for name in sorted(scores, key=lambda name: -scores[name])]
    if "value" in answer:
        return [{"label": "value", "score": answer["value"]}]
    if "error_type" in answer:
        raise RequestError(500, str(answer["error_type"]), str(answer["error"]))
    raise RequestError(422, "bad_request", "this model's task gives no labels; use /v1/models/NAME/predict")


def _relevance(answer: Prediction, labels: list[str]) -> float:
    scores = answer.get("scores")
    if isinstance(scores, dict) and len(labels) == 2:
        return float(scores[labels[1]])
    for name in ("value", "score"):
        if name in answer and not isinstance(scores, dict):
            return float(answer[name])
    raise RequestError(422, "bad_request", "reranking needs a model of embeddings, of numbers, or of two labels")


def _no_raw_scores(body: dict[str, Any]) -> None:
    if flag(body, "raw_scores", False):
        raise RequestError(422, "bad_request", "raw_scores is not supported: scores are the task's own")


ROUTES = [
    route("/predict", predict, "POST"),
    route("/embed", embed, "POST"),
    route("/similarity", similarity, "POST"),
    route("/rerank", rerank, "POST"),
    route("/info", info),
]
