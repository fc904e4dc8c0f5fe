"""Vectors: what `/embed`, `/similarity` and `/v1/embeddings` share."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from starlette.requests import Request

from bertune.serving.errors import RequestError
from bertune.serving.served import ServedModel
from bertune.serving.service import Service


async def vectors(
    request: Request, service: Service, texts: Sequence[str], *, dimensions: Any = None, strict: bool = False
) -> tuple[ServedModel, npt.NDArray[np.float32], int]:
    """Vectors of length 1 from the first model that embeds, and the tokens read. Shape: (texts, dimensions).

    Raises:
        RequestError: no model embeds; an impossible number of dimensions.
    """
    served = embedding_model(service)
    answers = await service.answer(request, served, list(texts), strict=strict)
    failed = [index for index, answer in enumerate(answers) if "embedding" not in answer]
    if failed:
        raise RequestError(500, "failed", f"item {failed[0]}: {answers[failed[0]].get('error')}")
    found = np.array([answer["embedding"] for answer in answers], np.float32).reshape(len(answers), -1)
    return served, _cut(found, dimensions), sum(int(answer["tokens"]) for answer in answers)


def embedding_model(service: Service) -> ServedModel:
    """The first model that turns texts into vectors.

    Raises:
        RequestError: 404 where there is none.
    """
    for served in service.models:
        if served.model.task.name == "embedding":
            return served
    raise RequestError(404, "not_found", "no model here embeds texts; serve one of --task embedding")


def _cut(vectors: npt.NDArray[np.float32], dimensions: Any) -> npt.NDArray[np.float32]:
    """The first dimensions, brought to length 1 again."""
    if dimensions is None:
        return vectors
    width = vectors.shape[1]
    if not isinstance(dimensions, int) or isinstance(dimensions, bool) or not 1 <= dimensions <= width:
        raise RequestError(422, "bad_request", f"dimensions is {dimensions!r}; must lie between 1 and {width}")
    cut = vectors[:, :dimensions]
    shortened: npt.NDArray[np.float32] = cut / np.maximum(np.linalg.norm(cut, axis=1, keepdims=True), 1e-12)
    return shortened
