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
    data: str | None = option(None, help="labelled data to compare metrics on (default: the run's validation data)")
    tolerance: float = option(
        1e-4, help="largest accepted difference between the float32 logits and PyTorch's", minimum=0.0
    )
    max_loss: float = option(0.005, help="largest accepted loss of the task's metric in int8", minimum=0.0)
    trust_task_file: str | None = option(
        None, help="Python file of the model's task, if it was trained with --task FILE.py:Class; its code is run"
    )
