"""Programs that people have, pointed at the service unchanged: the real client packages over the loopback."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import uvicorn

from bertune.serving import app
from tests.serving.conftest import predicted

Folders = Callable[[str], Path]


@contextmanager
def served(models: dict[str, Path]) -> Iterator[str]:
    """The address of a service in a thread of this process."""
    server = uvicorn.Server(uvicorn.Config(app(models), port=0, log_level="warning"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        deadline = time.monotonic() + 30
        while not server.started:
            assert time.monotonic() < deadline
            time.sleep(0.005)
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(30)


def test_openai(folders: Folders) -> None:
    openai = pytest.importorskip("openai")
    expected = [one["embedding"] for one in predicted(folders("embedding"), ["film", "good"])]
    with served({"vectors": folders("embedding")}) as url:
        client = openai.OpenAI(base_url=f"{url}/v1", api_key="none")
        answer = client.embeddings.create(model="vectors", input=["film", "good"], encoding_format="float")
        assert np.allclose([entry.embedding for entry in answer.data], expected, atol=1e-6)
        default = client.embeddings.create(model="vectors", input="film")  # asks for base64 and decodes it
        assert np.allclose(default.data[0].embedding, expected[0], atol=1e-6)
        assert default.usage.total_tokens == 3
        with pytest.raises(openai.UnprocessableEntityError):
            client.embeddings.create(model="vectors", input="film", dimensions=99)


def test_huggingface_inference_client(folders: Folders) -> None:
    from huggingface_hub import InferenceClient

    text = "the film is good"
    tasks = ("text-classification", "token-classification", "question-answering", "embedding", "pretraining")
    with served({task: folders(task) for task in tasks}) as url:
        classes = InferenceClient(model=url).text_classification(text)
        expected = predicted(folders("text-classification"), [text])[0]
        assert {entry.label: entry.score for entry in classes} == expected["scores"]
        assert classes[0].label == expected["label"]

        entities = InferenceClient(model=f"{url}/models/token-classification").token_classification("Anna is in Rome")
        known = predicted(folders("token-classification"), ["Anna is in Rome"])[0]["entities"]
        assert [(e.entity_group, e.start, e.end) for e in entities] == [
            (e["label"], e["start"], e["end"]) for e in known
        ]

        item = {"question": "is the film", "context": "film is bad, the film"}
        answer = InferenceClient(model=f"{url}/models/question-answering").question_answering(
            question=item["question"], context=item["context"]
        )
        wanted = predicted(folders("question-answering"), [item])[0]
        one = answer[0] if isinstance(answer, list) else answer
        assert (one.answer, one.start, one.end) == (wanted["answer"], wanted["start"], wanted["end"])

        vector = InferenceClient(model=f"{url}/models/embedding").feature_extraction(text)
        assert np.allclose(vector, predicted(folders("embedding"), [text])[0]["embedding"], atol=1e-6)

        words = InferenceClient(model=f"{url}/models/pretraining").fill_mask("the film is [MASK]")
        filled = predicted(folders("pretraining"), ["the film is [MASK]"])[0]["masks"][0]["candidates"]
        assert [word.token_str for word in words] == [candidate["token"] for candidate in filled]


def test_open_inference_client(folders: Folders) -> None:
    http = pytest.importorskip("tritonclient.http")
    texts = ["the film is good", "好电影"]
    with served({"m": folders("text-classification")}) as url:
        client = http.InferenceServerClient(url.removeprefix("http://"))
        assert client.is_server_live()
        assert client.is_server_ready()
        assert client.is_model_ready("m")
        tensor = http.InferInput("text", [2], "BYTES")
        tensor.set_data_from_numpy(np.array([text.encode() for text in texts], object), binary_data=False)
        wanted = [http.InferRequestedOutput("label", binary_data=False)]
        answer = client.infer("m", [tensor], outputs=wanted)
        labels = [one["label"] for one in predicted(folders("text-classification"), texts)]
        assert answer.as_numpy("label").tolist() == [label.encode() for label in labels] or (
            answer.as_numpy("label").tolist() == labels
        )


def test_text_embeddings_inference_client(folders: Folders) -> None:
    """LlamaIndex's client of text-embeddings-inference, which asks /embed for batches."""
    module = pytest.importorskip("llama_index.embeddings.text_embeddings_inference")
    with served({"vectors": folders("embedding")}) as url:
        client = module.TextEmbeddingsInference(
            model_name="vectors", base_url=url, query_instruction="", text_instruction=""
        )
        found = client.get_text_embedding_batch(["film", "good"])
        expected = [one["embedding"] for one in predicted(folders("embedding"), ["film", "good"])]
        assert np.allclose(found, expected, atol=1e-6)
