"""Exported graphs beside transformers' own in ONNX Runtime, in turn: float32, and 8 bits beside `quantize_dynamic`.

python -m benchmarks.export [minilm|bert-base]

Batches of MRPC's lengths and of lengths from 10 to 400, padded to their longest, in the same order for all.
"""

import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.engines import cached, exported
from benchmarks.machine import cpu_name
from bertune.checkpoints.source import open_encoder
from bertune.encoder.config import EncoderConfig
from bertune.encoder.encoder import Encoder
from bertune.export.files import save_graph
from bertune.export.network import network_model
from bertune.export.quantized import Int8Products
from bertune.inference.network import Network
from bertune.tasks.shared.heads import PooledHead

ROUNDS = 4
Batch = dict[str, np.ndarray]


def batch_of(lengths: Any, rng: np.random.Generator) -> Batch:
    """Random tokens. Shape: (sequences, longest) each."""
    mask = (np.arange(max(lengths)) < np.asarray(lengths)[:, None]).astype(np.int64)
    ids = rng.integers(1000, 30000, mask.shape) * mask
    return {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}


def session(path: Path) -> Any:
    """A graph in ONNX Runtime, on as many threads as PyTorch would take."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = torch.get_num_threads(), 3
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def graphs(encoder: str, folder: Path) -> dict[str, Any]:
    """Both sides in both precisions."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    base = open_encoder("minilm")[0] if encoder == "minilm" else Encoder(EncoderConfig(vocab_size=30522))
    network = Network(base.float(), PooledHead(base.config, 2)).eval()
    start = time.perf_counter()
    save_graph(network_model(network, "ForSequenceClassification"), folder / "fp32.onnx")
    print(f"{encoder}: written in {time.perf_counter() - start:.1f} s")
    save_graph(network_model(network, "ForSequenceClassification", Int8Products()), folder / "int8.onnx")
    plain = exported(encoder)
    quantized = cached(
        f"{encoder}-dynamic.onnx", lambda path: quantize_dynamic(str(plain), str(path), weight_type=QuantType.QInt8)
    )
    named = {"fp32": folder / "fp32.onnx", "int8": folder / "int8.onnx", "peer fp32": plain, "peer int8": quantized}
    return {name: session(path) for name, path in named.items()}


def best_times(sessions: dict[str, Any], batches: list[Batch]) -> dict[str, float]:
    """The shortest of several rounds, in seconds."""
    best = dict.fromkeys(sessions, float("inf"))
    for _ in range(ROUNDS):
        for name, one in sessions.items():
            start = time.perf_counter()
            for batch in batches:
                one.run(None, batch)
            best[name] = min(best[name], time.perf_counter() - start)
    return best


def main(encoder: str) -> None:
    """Print times and ratios."""
    rng = np.random.default_rng(0)
    print(f"{cpu_name()}, {torch.get_num_threads()} threads")
    with tempfile.TemporaryDirectory() as folder:
        sessions = graphs(encoder, Path(folder))
        lengths = {"MRPC": rng.normal(53, 14, 32).clip(20, 100).astype(int), "10 to 400": rng.integers(10, 400, 8)}
        for name, some in lengths.items():
            best = best_times(sessions, [batch_of(some, rng)])
            ratios = ", ".join(f"{kind} {best[f'peer {kind}'] / best[kind]:.2f}x" for kind in ("fp32", "int8"))
            print(f"{encoder}, {name}: {ratios}; ms: { ({key: round(1000 * value) for key, value in best.items()}) }")


if __name__ == "__main__":
    for chosen in sys.argv[1:] or ["minilm", "bert-base"]:
        main(chosen)
