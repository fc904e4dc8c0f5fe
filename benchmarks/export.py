"""Exported graphs and transformers' own in ONNX Runtime: speed and agreement with PyTorch; how long an export takes.

python -m benchmarks.export speed minilm|bert-base
python -m benchmarks.export time

speed: the same weights on both sides, in float32 and in 8 bits (the peer's by `quantize_dynamic`). Batches of MRPC's
lengths and of lengths from 10 to 400, padded to their longest, the same for all. Every graph is opened alone, for ONNX
Runtime's waiting threads would disturb the next one's, and in turn: bertune's with the runner's settings, the peer's
with ONNX Runtime's own. Agreement is the root mean square difference of logits from those of PyTorch on the same
side, relative to the spread of these.

time: `bertune export` of BERT-base in float32, as a process, without labelled data.
"""

import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

import bertune
from benchmarks.engines import INPUTS, Inputs, cached, export_logits, model
from benchmarks.machine import ROOT, cpu_name
from benchmarks.peer import minilm
from bertune.checkpoints.source import open_encoder
from bertune.export.files import save_graph
from bertune.export.network import network_model
from bertune.export.quantized import Int8Products
from bertune.inference.onnx_model import OnnxModel
from bertune.network import Network
from bertune.tasks.shared.heads import PooledHead

OPENED, RUNS = 3, 3
"""How often every graph is opened, and how often every batch is run then."""
GRAPHS = ("fp32", "peer fp32", "int8", "peer int8")


def batches() -> dict[str, Inputs]:
    """Random tokens. Shape: (sequences, longest) each."""
    rng = np.random.default_rng(0)
    lengths = {"MRPC": rng.normal(53, 14, 32).clip(20, 100).astype(int), "10 to 400": rng.integers(10, 400, 8)}
    made = {}
    for name, some in lengths.items():
        mask = (np.arange(some.max()) < some[:, None]).astype(np.int64)
        made[name] = dict(zip(INPUTS, (rng.integers(1000, 30000, mask.shape) * mask, mask, 0 * mask), strict=True))
    return made


def copy_tokenizer(folder: Path) -> None:
    """Minilm's tokenizer, which reads as BERT-base's, into an encoder's folder."""
    for name in ("tokenizer.json", "tokenizer_config.json", "vocab.txt"):
        if (source := Path(minilm()) / name).is_file():
            shutil.copyfile(source, folder / name)


def write_graphs(encoder: str, folder: Path) -> tuple[dict[str, Path], dict[str, np.ndarray]]:
    """Files of both sides in both precisions, and PyTorch's logits for the batches."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    torch.manual_seed(1)
    theirs = model(encoder, attn_implementation="eager")
    theirs.save_pretrained(folder / "transformers")
    copy_tokenizer(folder / "transformers")
    base = open_encoder(str(folder / "transformers"))[0].float()
    head = PooledHead(base.config, 2)
    head.load_state_dict(theirs.classifier.state_dict())
    network = Network(base, head).eval()
    files = {name: folder / f"{name}.onnx" for name in ("fp32", "int8")}
    save_graph(network_model(network, "ForSequenceClassification"), files["fp32"])
    save_graph(network_model(network, "ForSequenceClassification", Int8Products()), files["int8"])
    plain = files["peer fp32"] = cached(f"{encoder}-seed-1.onnx", lambda path: export_logits(theirs, path))
    files["peer int8"] = cached(
        f"{encoder}-seed-1-dynamic.onnx",
        lambda path: quantize_dynamic(str(plain), str(path), weight_type=QuantType.QInt8),
    )
    with torch.inference_mode():
        expected = {
            name: theirs(**{key: torch.from_numpy(value) for key, value in batch.items()}).logits.numpy()
            for name, batch in batches().items()
        }
    return files, expected


def opened(name: str, path: Path) -> Callable[[Inputs], np.ndarray]:
    """A graph in ONNX Runtime."""
    import onnxruntime

    if not name.startswith("peer"):
        session: Any = OnnxModel(path, threads=torch.get_num_threads()).session
    else:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.log_severity_level = torch.get_num_threads(), 3
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return lambda batch: session.run(None, batch)[0]


def speed(encoder: str) -> None:
    """Print the shortest times, their ratios, and agreement."""
    print(f"{cpu_name()}, {torch.get_num_threads()} threads, torch {torch.__version__}")
    made = batches()
    best = {name: dict.fromkeys(GRAPHS, float("inf")) for name in made}
    apart: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        files, expected = write_graphs(encoder, Path(folder))
        together = np.concatenate(list(expected.values()))
        for _ in range(OPENED):
            for graph in GRAPHS:
                run = opened(graph, files[graph])
                found = np.concatenate([run(batch) for batch in made.values()])
                apart[graph] = float(np.sqrt(np.square(found - together).mean()) / together.std())
                for _ in range(RUNS):
                    for name, batch in made.items():
                        start = time.perf_counter()
                        run(batch)
                        best[name][graph] = min(best[name][graph], time.perf_counter() - start)
    for name, times in best.items():
        ratios = ", ".join(f"{kind} {times[f'peer {kind}'] / times[kind]:.2f}x" for kind in ("fp32", "int8"))
        print(f"{encoder}, {name}: {ratios}; ms: { ({key: round(1000 * value, 1) for key, value in times.items()}) }")
    print(f"{encoder}, difference from PyTorch: { ({key: f'{value:.1e}' for key, value in apart.items()}) }")


def export_time() -> None:
    """Print how long `bertune export` takes."""
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work)
        torch.manual_seed(1)
        model("bert-base").bert.save_pretrained(folder / "encoder")
        copy_tokenizer(folder / "encoder")
        rows = folder / "rows.csv"
        rows.write_text("text,label\n" + "good,yes\nbad,no\n" * 4, encoding="utf-8")
        bertune.train(
            task="text-classification",
            encoder=str(folder / "encoder"),
            train=str(rows),
            validation=str(rows),
            output=str(folder / "model"),
            max_steps=1,
            batch_size=4,
            max_seq_length=512,
        )
        rows.write_text("text,label\n", encoding="utf-8")  # changed, so the export has no labelled data
        for attempt in range(2):
            command = ["export", "--model", str(folder / "model"), "--output", str(folder / f"exported-{attempt}")]
            start = time.perf_counter()
            subprocess.run([sys.executable, "-m", "bertune", *command], check=True, cwd=ROOT)
            print(f"{cpu_name()}: BERT-base exported in {time.perf_counter() - start:.1f} s")


if __name__ == "__main__":
    if sys.argv[1:2] == ["speed"]:
        for chosen in sys.argv[2:] or ["minilm", "bert-base"]:
            speed(chosen)
    elif sys.argv[1:] == ["time"]:
        export_time()
    else:
        sys.exit(__doc__)
