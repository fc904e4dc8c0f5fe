"""The protocols of other servers, by what their documentation says they send and expect."""

import base64
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from starlette.testclient import TestClient

from bertune.serving import app

Folders = Callable[[str], Path]


def test_text_embeddings_inference_predict(client: TestClient) -> None:
    one = client.post("/predict", json={"inputs": "film is good"}).json()
    assert [set(entry) for entry in one] == [{"label", "score"}] * 2
    assert one[0]["score"] >= one[1]["score"]
    assert client.post("/predict", json={"inputs": [["film is good"]]}).json() == [one]
    pair = client.post("/predict", json={"inputs": [["film", "is good"], ["film is good"]]}).json()
    assert pair[1] == one
    assert pair[0] != one
    refused = client.post("/predict", json={"inputs": "a", "raw_scores": True})
    assert (refused.status_code, "raw_scores" in refused.json()["error"]) == (422, True)


def test_text_embeddings_inference_vectors(client: TestClient) -> None:
    vectors = np.array(client.post("/embed", json={"inputs": ["film", "good film"]}).json())
    assert vectors.shape == (2, 16)
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-4)
    single = client.post("/embed", json={"inputs": "film", "truncate": True, "normalize": True}).json()
    assert single == vectors[:1].tolist()
    cut = np.array(client.post("/embed", json={"inputs": "film", "dimensions": 4}).json())
    assert np.allclose(cut[0], vectors[0, :4] / np.linalg.norm(vectors[0, :4]), atol=1e-4)
    body = {"inputs": {"source_sentence": "film", "sentences": ["good film", "film"]}}
    cosines = client.post("/similarity", json=body).json()
    assert cosines == pytest.approx([float(vectors[0] @ vectors[1]), 1.0], abs=1e-3)


@pytest.mark.parametrize("task", ["mrpc", "regression", "embedding"])
def test_rerank_orders_texts(folders: Folders, task: str) -> None:
    with TestClient(app({"m": folders(task)})) as client:
        texts = ["the film is good", "a", "bad"]
        ranking = client.post("/rerank", json={"query": "film", "texts": texts, "return_text": True}).json()
        assert sorted(entry["index"] for entry in ranking) == [0, 1, 2]
        scores = [entry["score"] for entry in ranking]
        assert scores == sorted(scores, reverse=True)
        assert all(entry["text"] == texts[entry["index"]] for entry in ranking)


def test_info_says_what_the_model_is(client: TestClient) -> None:
    info = client.get("/info").json()
    assert info["model_type"] == {
        "classifier": {"id2label": {"0": "bad", "1": "good"}, "label2id": {"bad": 0, "good": 1}}
    }
    assert info["max_input_length"] == 32


def test_openai_embeddings(client: TestClient) -> None:
    body = {"input": ["film", "good"], "model": "any"}
    answer = client.post("/v1/embeddings", json=body).json()
    assert [entry["index"] for entry in answer["data"]] == [0, 1]
    assert answer["usage"] == {"prompt_tokens": 6, "total_tokens": 6}
    coded = client.post("/v1/embeddings", json=body | {"encoding_format": "base64"}).json()["data"]
    for plain, base in zip(answer["data"], coded, strict=True):
        decoded = np.frombuffer(base64.b64decode(base["embedding"]), "<f4")
        assert np.allclose(decoded, plain["embedding"], atol=1e-6)
    for wrong in ({"input": [1, 2]}, {"input": "a", "encoding_format": "hex"}, {"input": "a", "dimensions": 17}):
        assert client.post("/v1/embeddings", json=wrong).status_code == 422


def test_embeddings_need_a_model_of_embeddings(folders: Folders) -> None:
    with TestClient(app({"m": folders("mrpc")})) as client:
        refused = client.post("/v1/embeddings", json={"input": "a"})
        assert (refused.status_code, "--task embedding" in refused.json()["error"]) == (404, True)


def test_open_inference(client: TestClient) -> None:
    assert client.get("/v2/health/live").json() == {"live": True}
    assert client.get("/v2/health/ready").json() == {"ready": True}
    assert client.get("/v2/models/first").json()["inputs"][0]["datatype"] == "BYTES"
    tensor = {"name": "text", "shape": [2, 1], "datatype": "BYTES", "data": [["film is good"], ["film"]]}
    answer = client.post("/v2/models/first/infer", json={"id": "7", "inputs": [tensor]}).json()
    assert answer["id"] == "7"
    outputs = {one["name"]: one for one in answer["outputs"]}
    assert outputs["label"]["shape"] == [2]
    assert outputs["score"]["datatype"] == "FP32"
    pair = [{**tensor, "name": name} for name in ("text", "pair")]
    assert client.post("/v2/models/first/infer", json={"inputs": pair}).status_code == 200
    for wrong in (
        [{**tensor, "shape": [3]}],
        [{**tensor, "datatype": "FP32"}],
        [tensor, {**tensor, "name": "pair", "shape": [1], "data": ["a"]}],
        [],
        "text",
    ):
        assert client.post("/v2/models/first/infer", json={"inputs": wrong}).status_code == 422
