"""An exported graph in ONNX Runtime; without torch, for `bertune_runtime`."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bertune.data.batching import sorted_batches
from bertune.features import Features

FloatArray = npt.NDArray[np.float32]
Rows = list[FloatArray]
"""A head's output for every sequence. Shape: (outputs,) or (tokens, outputs) each."""

_TOKENS = 4096


class OnnxModel:
    """An exported graph in ONNX Runtime."""

    def __init__(self, path: Path, *, optimized: bool = True, threads: int = 0) -> None:
        """Open it.

        Args:
            path: the graph.
            optimized: let ONNX Runtime fuse operators, as it does when nothing is said.
            threads: that compute; 0: one for every core.
        """
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # it would slow PyTorch's threads
        options.enable_mem_pattern = False  # shapes differ from batch to batch
        options.intra_op_num_threads = threads
        if not optimized:
            options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        self.session: Any = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self.inputs = {value.name: value.shape for value in self.session.get_inputs()}
        names = [value.name for value in self.session.get_outputs()]
        self.outputs = [name for name in names if name != "last_hidden_state"]

    @property
    def width(self) -> int:
        """Numbers of the output for a sequence or a token; 0 where the graph does not say."""
        last = self.session.get_outputs()[-1].shape[-1]
        return last if isinstance(last, int) else 0

    def rows(self, features: Features, *, max_sequences: int = 64, max_tokens: int = _TOKENS) -> Rows:
        """The output for every sequence, in order; similar lengths are computed together.

        max_tokens: of a batch, padding included.
        """
        found: Rows = [np.zeros(0, np.float32)] * len(features)
        lengths = features.input_ids.lengths
        for batch in sorted_batches(lengths, max_tokens=max_tokens, max_sequences=max_sequences, padded=True):
            for row, values in zip(batch, self.run(features, batch), strict=True):
                found[int(row)] = values
        return found

    def run(self, features: Features, batch: npt.NDArray[np.integer]) -> Rows:
        """The output for some sequences, padded to the longest of them."""
        feed = padded_inputs(features, batch)
        by_choice = len(self.inputs["input_ids"]) == 3
        shaped = {name: feed[name][:, None] if by_choice else feed[name] for name in self.inputs}
        results = self.session.run(self.outputs, shaped)
        values = np.stack(results, -1) if len(results) == 2 else results[0]
        if values.ndim == 2:
            return list(values)
        return [row[:length] for row, length in zip(values, feed["attention_mask"].sum(1), strict=True)]


def padded_inputs(features: Features, batch: npt.NDArray[np.integer]) -> dict[str, npt.NDArray[np.int64]]:
    """Some sequences as the inputs of Hugging Face's models. Shape: (sequences, longest) each."""
    longest = int(features.input_ids.lengths[batch].max())
    feed = {
        name: np.zeros((len(batch), longest), np.int64) for name in ("input_ids", "attention_mask", "token_type_ids")
    }
    for place, row in enumerate(batch):
        ids = features.input_ids[int(row)]
        feed["input_ids"][place, : len(ids)] = ids
        feed["attention_mask"][place, : len(ids)] = 1
        feed["token_type_ids"][place, : len(ids)] = features.segment_ids[int(row)]
    return feed
