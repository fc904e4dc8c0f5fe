"""The addresses of a service, described once, for `/openapi.json` and `/docs`."""

import html as escaping
import json
from dataclasses import dataclass
from typing import Any

import bertune


@dataclass(frozen=True)
class _Address:
    method: str
    path: str
    summary: str
    body: Any = None
    answer: Any = None


_PREDICTION = {"label": "card_lost", "score": 0.93, "scores": {"card_lost": 0.93, "other": 0.07},
               "truncated": False, "tokens": 9}  # fmt: skip
_MODEL = {"name": "demo", "version": "3f2a9c81d04e", "task": "text-classification", "labels": ["card_lost", "other"],
          "metrics": {"accuracy": 0.86}, "review": {"threshold": ["0.9"]}, "limits": {"max_seq_length": 128},
          "input": {"fields": ["text"]}}  # fmt: skip
ADDRESSES = (
    _Address("post", "/v1/models/{name}/predict", "Answers of a model. An item is a text, a pair [a, b] or an object "
             "with the task's columns; a list of texts is a batch. truncate false: refuse texts that are too long.",
             {"inputs": ["where is my card?", ["a", "pair"]], "truncate": True},
             {"model": "demo", "version": "3f2a9c81d04e", "predictions": [_PREDICTION]}),
    _Address("post", "/v1/models/{name}/explain", "Words that carry the answer to one item (classification, several "
             "labels, regression), by integrated gradients. label: to explain; left out: the most probable one.",
             {"input": "where is my card?", "label": "card_lost"},
             {"model": "demo", "version": "3f2a9c81d04e", "label": "card_lost", "score": 0.93, "evidence": 2.6,
              "words": [{"field": "text", "word": "card", "start": 12, "end": 16, "weight": 1.9}]}),
    _Address("get", "/v1/models", "All models.", answer={"models": [_MODEL]}),
    _Address("get", "/v1/models/{name}", "One model: task, labels, metrics, limits.", answer=_MODEL),
    _Address("post", "/v1/models/{name}/reload", "Load the model's folder again and switch to it (needs an API key).",
             answer=_MODEL),
    _Address("get", "/health", "The process is alive.", answer={"status": "alive"}),
    _Address("get", "/ready", "Every model answered a sample item within the last seconds; else 503.",
             answer={"status": "ready"}),
    _Address("get", "/metrics", "For Prometheus."),
    _Address("post", "/predict", "text-embeddings-inference: labels, best first. A list of texts is a batch.",
             {"inputs": ["a text", "another"]}, [[{"label": "card_lost", "score": 0.93}]]),
    _Address("post", "/embed", "text-embeddings-inference: vectors of length 1.", {"inputs": ["a text"]}, [[0.1, 0.2]]),
    _Address("post", "/similarity", "text-embeddings-inference: cosines.",
             {"inputs": {"source_sentence": "a", "sentences": ["b", "c"]}}, [0.8, 0.1]),
    _Address("post", "/rerank", "text-embeddings-inference: texts by relevance to a query.",
             {"query": "a question", "texts": ["a passage", "another"]}, [{"index": 1, "score": 0.9}]),
    _Address("get", "/info", "text-embeddings-inference: what the first model is.", answer={"model_id": "demo"}),
    _Address("post", "/v1/embeddings", "OpenAI: vectors.", {"input": ["a text"], "model": "demo"},
             {"object": "list", "data": [{"object": "embedding", "index": 0, "embedding": [0.1]}]}),
    _Address("post", "/", "Hugging Face's InferenceClient, first model (/models/{name}: a named one).",
             {"inputs": "a text"}, [[{"label": "card_lost", "score": 0.93}]]),
    _Address("get", "/v2/health/live", "Open Inference Protocol: alive.", answer={"live": True}),
    _Address("get", "/v2/health/ready", "Open Inference Protocol: ready.", answer={"ready": True}),
    _Address("get", "/v2/models/{name}", "Open Inference Protocol: inputs and outputs.", answer={"name": "demo"}),
    _Address("post", "/v2/models/{name}/infer", "Open Inference Protocol: texts as BYTES.",
             {"inputs": [{"name": "text", "shape": [1], "datatype": "BYTES", "data": ["a text"]}]},
             {"model_name": "demo", "outputs": [{"name": "predictions", "datatype": "BYTES", "shape": [1]}]}),
)  # fmt: skip
ERRORS = {
    400: "not JSON", 401: "no API key or a wrong one", 404: "no such model or address", 413: "too many bytes or tokens",
    422: "an item that the task cannot take; its index is named", 429: "the queue is full; Retry-After says when to "
    "try again", 500: "computing failed", 503: "not ready or stopping", 504: "no answer in time",
}  # fmt: skip


def description() -> dict[str, Any]:
    """OpenAPI 3.1."""
    paths: dict[str, Any] = {}
    error = {"type": "object", "properties": {"error": {"type": "string"}, "error_type": {"type": "string"}}}
    for address in ADDRESSES:
        operation: dict[str, Any] = {
            "summary": address.summary,
            "responses": {"200": {"description": "done", **_content(address.answer)}}
            | {str(status): {"description": text, **_schema(error)} for status, text in ERRORS.items()},
        }
        if "{name}" in address.path:
            operation["parameters"] = [{"name": "name", "in": "path", "required": True, "schema": {"type": "string"}}]
        if address.body is not None:
            operation["requestBody"] = {"required": True, **_content(address.body)}
        paths.setdefault(address.path, {})[address.method] = operation
    return {"openapi": "3.1.0", "info": {"title": "bertune serve", "version": bertune.__version__}, "paths": paths}


def html() -> str:
    """The same as a page, without scripts."""
    rows = []
    for address in ADDRESSES:
        example = "" if address.body is None else _curl(address)
        answer = (
            "" if address.answer is None else f"<pre>{_escaped(json.dumps(address.answer, ensure_ascii=False))}</pre>"
        )
        rows.append(
            f"<h2><code>{address.method.upper()} {_escaped(address.path)}</code></h2>"
            f"<p>{_escaped(address.summary)}</p>{example}{answer}"
        )
    errors = "".join(f"<tr><td>{status}<td>{_escaped(text)}" for status, text in ERRORS.items())
    return (
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>"
        "<title>bertune serve: addresses</title><style>:root{color-scheme:light dark}body{font:16px/1.5 system-ui;"
        "max-width:52rem;margin:2rem auto;padding:0 1rem}pre{overflow:auto;padding:.6rem;border:1px solid #8886;"
        "border-radius:6px}h2{font-size:1rem;margin-top:2rem}td{padding:.1rem .8rem .1rem 0}</style>"
        "<h1>Addresses</h1><p><a href=/>Page to try the models</a>, <a href=/openapi.json>OpenAPI</a></p>"
        f'{"".join(rows)}<h2>Errors</h2><p><code>{{"error": text, "error_type": kind}}</code></p>'
        f"<table>{errors}</table></html>"
    )


def _content(example: Any) -> dict[str, Any]:
    return {} if example is None else {"content": {"application/json": {"schema": {}, "example": example}}}


def _schema(schema: Any) -> dict[str, Any]:
    return {"content": {"application/json": {"schema": schema}}}


def _curl(address: _Address) -> str:
    path = address.path.replace("{name}", "demo")
    body = json.dumps(address.body, ensure_ascii=False)
    return f"<pre>{_escaped(f'curl -s http://127.0.0.1:8000{path} -d {chr(39)}{body}{chr(39)}')}</pre>"


def _escaped(text: str) -> str:
    return escaping.escape(text)
