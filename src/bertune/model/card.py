"""The README.md of a model folder."""

from collections.abc import Mapping
from typing import Any

import bertune
from bertune.model.provenance import Provenance
from bertune.tasks.options import PAIR
from bertune.tasks.protocol import Task, metric_in_words
from bertune.tasks.user_files import task_file_of

PIPELINES = {
    "ForSequenceClassification": "text-classification",
    "ForQuestionAnswering": "question-answering",
    "ForTokenClassification": "token-classification",
    "ForMultipleChoice": "multiple-choice",
    "ForMaskedLM": "fill-mask",
    "ForPreTraining": "fill-mask",
}


def model_card(task: Task[Any], provenance: Provenance, metrics: Mapping[str, float]) -> str:
    """A model card in Markdown with the Hugging Face Hub's YAML head: task, start, data, metrics, how to use it."""
    import yaml

    head = {
        "library_name": "transformers",
        "pipeline_tag": PIPELINES.get(task.huggingface().architecture, "feature-extraction"),
        "base_model": provenance.encoder,
        "tags": ["bertune", "bert"],
    }
    lines = ["---", yaml.safe_dump(head, sort_keys=False, allow_unicode=True).strip(), "---", ""]
    lines += [f"# {task.name}, fine-tuned from {provenance.encoder}", ""]
    lines += [f"Made by bertune {bertune.__version__}.", ""]
    lines += ["| data | file | rows | SHA-256 |", "|---|---|---|---|"]
    lines += [
        f"| {role} | {data['file']} | {data['rows']} | {str(data['sha256'])[:16]}… |"
        for role, data in provenance.data.items()
    ]
    if metrics:
        lines += ["", "| metric | value |", "|---|---|"]
        lines += [f"| {metric_in_words(task, name)} | {value:.4f} |" for name, value in metrics.items()]
    file = task_file_of(task)
    load = 'model = bertune.load("this folder"'
    load += ")" if file is None else f', trust_task_file="{file.name}")  # runs the code of {file.name}'
    lines += ["", "```python", "import bertune", "", load, "```", ""]
    lines += [_in_transformers(task), ""]
    return "\n".join(lines)


def _in_transformers(task: Task[Any]) -> str:
    """How transformers loads the folder, and what it leaves out."""
    head = task.huggingface()
    auto = "AutoModel" + head.architecture.removeprefix("Model")
    usage = f'It loads in transformers as `{auto}.from_pretrained("this folder")`'
    if head.architecture != "Model":
        return f"{usage}."
    beside = ", ".join(f"`{their}`" for name in head.names for their in name.theirs)
    if beside:
        usage += (
            f". That gives the encoder alone: transformers has no class for this task's head, whose weights ({beside}) "
            "it leaves out, with a warning. Answers come from bertune"
        )
    layers = getattr(task.options, "layers", "last")
    if layers != "last":
        usage += f"; the head reads several layers (`--layers {layers}`)"
    if getattr(task.options, "pooling", None) == PAIR:
        usage += f"; the head compares the means of both texts' tokens (`--pooling {PAIR}`)"
    return f"{usage}."
