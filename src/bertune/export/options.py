"""Options of `bertune export`; reading them imports neither torch nor onnx."""

from dataclasses import dataclass

from bertune.options import option

GRAPHS = {"fp32": "model.onnx", "int8": "model_quantized.onnx"}
"""Precisions and their files, by the names that transformers.js and optimum look for."""


@dataclass(frozen=True)
class ExportOptions:
    """Options of `bertune export`."""

    model: str = option(help="folder that bertune train wrote")
    output: str = option(help="new folder for the exported model")
    precision: list[str] = option(  # noqa: RUF009
        ["fp32"], help="graphs to write: fp32, int8, or both; int8 needs labelled data"
    )
    data: str | None = option(None, help="labelled data to compare metrics on (default: the run's validation file)")
    tolerance: float = option(1e-4, help="largest difference of float32 logits from PyTorch's", minimum=0.0)
    max_loss: float = option(0.005, help="most of the task's metric that int8 may lose", minimum=0.0)
    trust_task_file: str | None = option(
        None, help="the file of a model whose task came from one (train --task FILE.py:Class); its code is run"
    )
