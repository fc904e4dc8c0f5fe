"""A model that `bertune export` wrote, in ONNX Runtime: loaded, checked on this machine, and asked."""

import logging
import re
from collections.abc import Generator, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from bertune.data.rows import file_sha256
from bertune.errors import InputError
from bertune.features import IGNORED, Features, Ragged
from bertune.files.json_files import read_json
from bertune.inference.onnx_model import FloatArray, OnnxModel, Rows
from bertune.model.predicting import predict, predict_examples
from bertune.model.record import MODEL_FILE, read_record
from bertune.tasks.options import CANDIDATES
from bertune.tasks.protocol import FillsMasks, Prediction, Task
from bertune.tokenization.tokenizer import Tokenizer

logger = logging.getLogger("bertune.runtime")

GRAPHS = {"fp32": "model.onnx", "int8": "model_quantized.onnx"}
PRECISIONS = ("auto", *GRAPHS)
_TOKENS = 4096
_LARGEST_OUTPUT = 1 << 24
"""Numbers of a batch's output, 64 MiB: the logits of a whole vocabulary for every token must fit in memory."""


@dataclass(frozen=True)
class RuntimeModel:
    """An exported model; `bertune.model.predicting.Predictor` for ONNX Runtime."""

    graph: OnnxModel
    task: Task[Any]
    tokenizer: Tokenizer
    max_seq_length: int
    precision: str
    version: str
    host_is_free: bool = False
    record: Mapping[str, Any] = field(default_factory=dict)

    def predict(self, items: Iterable[Any] | Path, *, batch_size: int = 256) -> list[Prediction]:
        """Predictions for texts, pairs of texts, or whatever the task takes; one each, in order.

        Raises:
            InputError: an item that the task cannot take.
        """
        return predict(self, items, batch_size=batch_size)

    def predict_examples(self, examples: Iterable[Any], *, batch_size: int = 256) -> Generator[Prediction, None, None]:
        """Predictions as a stream, in order, in constant memory."""
        return predict_examples(self, examples, batch_size=batch_size)

    def compute_logits(self, features: Features, *, batch_size: int = 256) -> Rows:
        """One array a sequence, in the features' order. Shape: (outputs,) or (tokens, outputs) each, float32."""
        tokens = min(_TOKENS, max(1, _LARGEST_OUTPUT // max(1, self.graph.width)))
        rows = self.graph.rows(features, max_sequences=batch_size, max_tokens=tokens)
        asked = features.targets.get("asked")
        if not isinstance(self.task, FillsMasks) or not isinstance(asked, Ragged):
            return rows
        return [most_probable(row, asked[index]) for index, row in enumerate(rows)]


def most_probable(logits: FloatArray, asked: np.ndarray[Any, Any]) -> FloatArray:
    """The best words of the tokens asked for, and their probabilities, as the task of masked words decodes them.

    Shape: (tokens, vocabulary), (tokens,) → (tokens, 2 * CANDIDATES), zeros where nothing is asked.
    """
    found = np.zeros((len(logits), 2 * CANDIDATES), np.float32)
    for token in np.flatnonzero(asked != IGNORED):
        row = logits[token].astype(np.float64)
        shares = np.exp(row - row.max())
        best = np.argsort(-row, kind="stable")[:CANDIDATES]
        found[token, : len(best)] = best
        found[token, CANDIDATES : CANDIDATES + len(best)] = (shares / shares.sum())[best]
    return found


def load(
    folder: str | Path, *, precision: str = "auto", threads: int = 0, trust_task_file: str | Path | None = None
) -> RuntimeModel:
    """A model that `bertune export` wrote; its recorded rows are computed first and compared.

    Args:
        folder: what `bertune export --output` named.
        precision: auto (the 8-bit graph where there is one), int8, or fp32.
        threads: that compute; 0: one for every core.
        trust_task_file: the file that the model's task was read from; its code is run.

    Raises:
        InputError: no exported model there, one that is damaged, or one that computes other numbers on this machine.
    """
    folder = Path(folder)
    if precision not in PRECISIONS:
        raise InputError(f"--precision {precision}: known are {', '.join(PRECISIONS)}")
    verification = folder / "onnx" / "verification.json"
    if not verification.is_file():
        why = "it is a trained model: run bertune export first" if (folder / "model.safetensors").is_file() else ""
        raise InputError(
            f"--model {folder}: holds no exported model ({verification} is missing)" + (why and f"; {why}")
        )
    record = read_json(verification)
    graphs = record.get("graphs")
    if record.get("format") != 1 or not isinstance(graphs, dict) or not isinstance(record.get("canaries"), list):
        raise InputError(f"{verification}: is not of format 1, which this version reads; export the model again")
    try:
        _check_runtime(str(record.get("onnxruntime", {}).get("minimum", "0")), folder)
    except AttributeError as error:
        raise _strange(verification, error) from None
    made, task, max_seq_length = read_record(folder / MODEL_FILE, trust_task_file)
    longest = record.get("longest_sequence", max_seq_length)
    if not isinstance(longest, int):
        raise _strange(verification, TypeError(f"longest_sequence is {longest!r}"))
    if not 1 <= max_seq_length <= longest:
        raise InputError(
            f"{folder / MODEL_FILE}: max_seq_length {max_seq_length}; must be between 1 and {longest}, the positions "
            "of the exported model"
        )
    tokenizer = Tokenizer.from_folder(folder)
    try:
        graph, name = _first_that_agrees(folder, record, precision, threads)
        version, computed = str(graphs[name]["sha256"])[:12], str(graphs[name]["precision"])
    except InputError:
        raise
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise _strange(verification, error) from error
    return RuntimeModel(graph, task, tokenizer, max_seq_length, computed, version, record=made)


def _strange(path: Path, error: Exception) -> InputError:
    return InputError(
        f"{path}: is not as bertune export wrote it ({type(error).__name__}: {error}); export the model again"
    )


def _first_that_agrees(folder: Path, record: Mapping[str, Any], precision: str, threads: int) -> tuple[OnnxModel, str]:
    """The graph of a precision; where its recorded rows come out otherwise here, the one in float32."""
    graphs: Mapping[str, Any] = record["graphs"]
    wanted = [GRAPHS[precision]] if precision != "auto" else [GRAPHS["int8"], GRAPHS["fp32"]]
    names = [name for name in wanted if name in graphs]
    if not names:
        found = ", ".join(sorted(str(graph.get("precision")) for graph in graphs.values()))
        raise InputError(f"--precision {precision}: {folder} was exported in {found} alone")
    if GRAPHS["fp32"] in graphs and GRAPHS["fp32"] not in names:
        names.append(GRAPHS["fp32"])
    problems: list[str] = []
    for name in names:
        graph = _opened(folder / "onnx" / name, graphs[name], threads)
        problem = _disagreement(graph, name, record)
        if problem is None:
            return graph, name
        problems.append(f"{folder / 'onnx' / name}: {problem}")
        if name != names[-1]:
            logger.warning("%s; using %s instead", problems[-1], names[-1])
    raise InputError(f"{problems[-1]}; do not use it on this machine, or export it again there")


def _opened(path: Path, described: Mapping[str, Any], threads: int) -> OnnxModel:
    """A graph whose files are those that were verified.

    Raises:
        InputError: a file that is missing, damaged or exchanged, or that this onnxruntime cannot open.
    """
    files = {path.name: described.get("sha256"), **(described.get("external_data") or {})}
    for name, expected in files.items():
        found = file_sha256(path.parent / name)
        if found != expected:
            raise InputError(
                f"{path.parent / name}: its SHA-256 is {found}, but verification.json says {expected}; "
                "the file was damaged or replaced: export the model again"
            )
    try:
        return OnnxModel(path, threads=threads)
    except Exception as error:  # onnxruntime's errors share no class of their own
        import onnxruntime

        reason = str(error).splitlines()[0][:200]
        raise InputError(f"{path}: onnxruntime {onnxruntime.__version__} cannot open it: {reason}") from error


def _disagreement(graph: OnnxModel, name: str, record: Mapping[str, Any]) -> str | None:
    """How the recorded rows come out otherwise here than where the model was exported; None: they do not."""
    canaries = record["canaries"]
    if not canaries:
        return None
    ids, segments = (Ragged.from_lists([canary[key] for canary in canaries]) for key in ("input_ids", "token_type_ids"))
    try:
        rows = graph.rows(Features(ids, segments, np.arange(len(canaries), dtype=np.int32)))
    except Exception as error:  # onnxruntime's errors share no class of their own
        return f"the recorded rows cannot be computed: {str(error).splitlines()[0][:200]}"
    tolerance = float(record["graphs"][name]["canary_tolerance"])
    largest = 0.0
    for row, canary in zip(rows, canaries, strict=True):
        expected = np.asarray(canary["logits"][name], np.float32)
        if row.shape != expected.shape or not np.isfinite(row).all():
            return f"a recorded row comes out as {row.shape} finite numbers, not {expected.shape}"
        largest = max(largest, float(np.abs(row - expected).max(initial=0.0)))
    if largest <= tolerance:
        return None
    import onnxruntime

    return (
        f"logits of the recorded rows differ by {largest:.2g} here (at most {tolerance:.2g} is right), "
        f"with onnxruntime {onnxruntime.__version__} on this processor"
    )


def _check_runtime(minimum: str, folder: Path) -> None:
    import onnxruntime

    def numbers(version: str) -> list[int]:
        return [int(part) for part in re.findall(r"\d+", version)[:3]]

    if numbers(onnxruntime.__version__) < numbers(minimum):
        raise InputError(
            f"--model {folder}: needs onnxruntime {minimum} or newer, and {onnxruntime.__version__} is installed: "
            "pip install --upgrade onnxruntime"
        )
