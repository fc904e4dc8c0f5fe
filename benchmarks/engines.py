"""Peers in prediction beside transformers.Trainer: a worker that runs a model through one engine on command.

python -m benchmarks.engines transformers|onnxruntime|openvino minilm|bert-base FOLDER fp32|bf16|int8

transformers: the model called directly, in torch.inference_mode.  onnxruntime: the exported graph, fused by ONNX
Runtime's optimizer for BERT; int8 by its quantize_dynamic, per channel.  openvino: the exported graph; int8 by NNCF's
post-training quantization for transformers, calibrated on training rows.

All get the same rows, tokenized beforehand, sorted by length, and padded within a batch.
"""

import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import numpy as np
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer, BertConfig, BertForSequenceClassification

from benchmarks.peer import minilm
from benchmarks.workers import commands, say
from benchmarks.workloads import BATCH

INPUTS = ("input_ids", "attention_mask", "token_type_ids")
CALIBRATION_ROWS = 128
Inputs = dict[str, np.ndarray]
Engine = Callable[[Inputs], object]


def model(encoder: str, **options: Any) -> Any:
    """A classifier with two labels; BERT-base has random weights, its speed is the same."""
    if encoder == "bert-base":
        torch.manual_seed(1)
        made = BertForSequenceClassification(BertConfig(num_labels=2, **options))
        return made.to(options.get("dtype", torch.float32)).eval()
    return AutoModelForSequenceClassification.from_pretrained(minilm(), num_labels=2, **options).eval()


def tokenized(path: Path) -> list[dict[str, list[int]]]:
    """MRPC's rows as token ids, at most 128 a pair."""
    rows = [line.split("\t") for line in path.read_text(encoding="utf-8-sig").splitlines()[1:]]
    found = AutoTokenizer.from_pretrained(minilm())(
        [row[3] for row in rows], [row[4] for row in rows], truncation=True, max_length=128
    )
    return [{name: found[name][row] for name in INPUTS} for row in range(len(rows))]


def batches(rows: list[dict[str, list[int]]]) -> list[Inputs]:
    """Batches of rows of similar length, padded with zeros (minilm's padding is token 0)."""
    ordered = sorted(rows, key=lambda row: len(row["input_ids"]))
    made = []
    for start in range(0, len(ordered), BATCH):
        some = ordered[start : start + BATCH]
        batch = {name: np.zeros((len(some), len(some[-1]["input_ids"])), np.int64) for name in INPUTS}
        for at, row in enumerate(some):
            for name in INPUTS:
                batch[name][at, : len(row[name])] = row[name]
        made.append(batch)
    return made


def transformers_engine(encoder: str, precision: str, _: Path) -> Engine:
    """The model called directly."""
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16}[precision]
    network = model(encoder, dtype=dtype)

    def run(batch: Inputs) -> object:
        with torch.inference_mode():
            return network(**{name: torch.from_numpy(values) for name, values in batch.items()}).logits.float().numpy()

    return run


class _Logits(torch.nn.Module):
    """The part of the model that is exported."""

    def __init__(self, network: torch.nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor, token_type_ids: torch.Tensor) -> Any:
        """Shape: (batch, length) each → (batch, 2)."""
        return self.network(input_ids=input_ids, attention_mask=attention_mask, token_type_ids=token_type_ids).logits


def cached(name: str, make: Callable[[Path], None]) -> Path:
    """The file of that name among the exported models, made at first use."""
    folder = Path(tempfile.gettempdir()) / f"bertune-benchmark-models-{torch.__version__}"
    folder.mkdir(exist_ok=True)
    target = folder / name
    if not target.exists():
        with tempfile.TemporaryDirectory(dir=folder) as work:
            make(Path(work) / name)
            for file in sorted(Path(work).iterdir(), key=lambda file: file.name == name):  # the target last
                file.replace(folder / file.name)
    return target


def exported(encoder: str) -> Path:
    """The model as ONNX."""
    return cached(f"{encoder}.onnx", lambda path: export_logits(model(encoder, attn_implementation="eager"), path))


def export_logits(network: torch.nn.Module, path: Path) -> None:
    """Write a transformers classifier as ONNX."""
    wrapped = _Logits(network).eval()  # the exporter puts the network back into the mode of what wraps it
    example = tuple(torch.ones(2, 8, dtype=torch.int64) for _ in INPUTS)
    axes = {name: {0: "batch", 1: "length"} for name in INPUTS}
    torch.onnx.export(
        wrapped, example, str(path), input_names=list(INPUTS), output_names=["logits"], dynamic_axes=axes,
        opset_version=17, dynamo=False,
    )  # fmt: skip


def onnxruntime_engine(encoder: str, precision: str, _: Path) -> Engine:
    """ONNX Runtime on the graph that its own optimizer fused."""
    import onnx
    import onnxruntime
    from onnxruntime.quantization import QuantType, quantize_dynamic
    from onnxruntime.transformers.optimizer import optimize_model

    def fuse(path: Path) -> None:
        config = model(encoder).config
        fused = optimize_model(
            str(exported(encoder)),
            model_type="bert",
            num_heads=config.num_attention_heads,
            hidden_size=config.hidden_size,
        )
        fused.save_model_to_file(str(path))

    file = cached(f"{encoder}-fused.onnx", fuse)
    if precision == "int8":
        source = file
        # Shapes are not inferred through the optimizer's own operators; all that they put out is float32.
        float32: dict[str, Any] = {"DefaultTensorType": onnx.TensorProto.FLOAT}

        def quantize(path: Path) -> None:
            weights = QuantType.QInt8
            quantize_dynamic(str(source), str(path), weight_type=weights, per_channel=True, extra_options=float32)

        file = cached(f"{encoder}-int8.onnx", quantize)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    return lambda batch: session.run(None, batch)[0]


def openvino_engine(encoder: str, precision: str, folder: Path) -> Engine:
    """OpenVINO, one stream with all threads, as for the others."""
    import openvino

    core = openvino.Core()

    def quantize(path: Path) -> None:
        import nncf

        rows = batches(tokenized(folder / "train.tsv")[:CALIBRATION_ROWS])
        quantized = nncf.quantize(
            core.read_model(str(exported(encoder))),
            nncf.Dataset(rows),
            model_type=nncf.ModelType.TRANSFORMER,
            subset_size=len(rows),
        )
        openvino.save_model(quantized, str(path))

    file = cached(f"{encoder}-int8.xml", quantize) if precision == "int8" else exported(encoder)
    settings = {
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "NUM_STREAMS": 1,
        "INFERENCE_PRECISION_HINT": "bf16" if precision == "bf16" else "f32",
    }
    compiled = core.compile_model(str(file), "CPU", settings)
    return lambda batch: compiled(batch)[0]


ENGINES: dict[str, Callable[[str, str, Path], Engine]] = {
    "transformers": transformers_engine,
    "onnxruntime": onnxruntime_engine,
    "openvino": openvino_engine,
}


def main() -> None:
    """See the module's docstring."""
    name, encoder, folder, precision = sys.argv[1:5]
    engine = ENGINES[name](encoder, precision, Path(folder))
    rows = tokenized(Path(folder) / "dev.tsv")
    for batch in batches(rows[: 4 * BATCH]):
        engine(batch)
    say(warm=True)
    for count in commands():
        some = rows[: count * BATCH]
        made = batches(some)
        start = time.perf_counter()
        for batch in made:
            engine(batch)
        seconds = time.perf_counter() - start
        say(seconds=seconds, tokens_per_second=sum(len(row["input_ids"]) for row in some) / seconds)


if __name__ == "__main__":
    main()
