"""A model folder in Hugging Face's layout: how it is written, and the names of the tensors in it."""

import json
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

import bertune
from bertune.checkpoints import huggingface
from bertune.checkpoints.families import family_of
from bertune.checkpoints.names import Rename, for_layers, to_theirs
from bertune.data.rows import file_sha256
from bertune.encoder.config import EncoderConfig
from bertune.files.atomic_write import finish_publishing, publish
from bertune.model.card import model_card
from bertune.model.provenance import Provenance, versions
from bertune.model.record import MODEL_FILE, data_placed
from bertune.tasks.protocol import Task
from bertune.tasks.registry import for_a_model, task_to_json
from bertune.tokenization.text_encoding import TextEncoding

_LAST = ("model.safetensors", MODEL_FILE)


def network_names(task: Task[Any], config: EncoderConfig, *, stored: bool) -> list[Rename]:
    """Names of encoder and head together, ours (`encoder.…`, `head.…`) and Hugging Face's.

    stored: as the family spells them in models of the task's kind, to write; else the plain ones that reading gives.
    """
    layout = task.huggingface()
    head = for_layers(layout.names, config.num_hidden_layers)
    encoder = huggingface.encoder_names(config)
    if stored:
        encoder, head = huggingface.stored_names(config, head, layout.architecture)
    return [replace(name, ours=f"encoder.{name.ours}") for name in encoder] + [
        replace(name, ours=f"head.{name.ours}") for name in head
    ]


def save_model(
    folder: Path,
    network: tuple[EncoderConfig, Mapping[str, Tensor]],
    task: Task[Any],
    text: TextEncoding,
    provenance: Provenance,
    metrics: Mapping[str, float],
) -> None:
    """Write a model folder in Hugging Face's layout, with bertune.json, metrics.json and a model card.

    All files are written beside, synced and moved; weights and record come last, and the record carries the weights'
    hash. `load` finds the record that belongs to the weights even if the process is killed between the two.

    Args:
        folder: made when absent.
        network: the encoder's numbers, and the weights of encoder and head in full precision.
        task: as learnt.
        text: the tokenizer and the longest sequence.
        provenance: what the model was made from.
        metrics: what metrics.json and the model card say.
    """
    config, weights = network
    tokenizer, max_seq_length = text
    head = task.huggingface()
    settings = huggingface.config_to_json(config) | {
        "architectures": [f"{family_of(config.family).classes}{head.architecture}"],
        "transformers_version": "4.48.0",
        **head.settings,
    }
    folder.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=".writing-", dir=folder))
    try:
        tensors = to_theirs(network_names(task, config, stored=True), weights)
        huggingface.write_huggingface(staging, settings, tensors)
        tokenizer.save(staging, max_length=config.max_position_embeddings)
        _write_json(staging / "metrics.json", dict(metrics))
        (staging / "README.md").write_text(model_card(task, provenance, metrics), encoding="utf-8")
        record = {
            "bertune": bertune.__version__,
            "task": for_a_model(task_to_json(task), task),
            "max_seq_length": max_seq_length,
            "encoder": provenance.encoder,
            "data": data_placed(provenance.data, folder),
            "options": provenance.options,
            "versions": versions(),
            "weights_sha256": file_sha256(staging / "model.safetensors"),
        }
        if provenance.calibration is not None:
            record["calibration"] = dict(provenance.calibration)
        for name, content in (head.files(config, max_seq_length) if head.files else {}).items():
            (staging / name).parent.mkdir(exist_ok=True)
            _write_json(staging / name, content)
        _write_json(staging / MODEL_FILE, record)
        publish(staging, folder, _LAST)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def finish_saving(folder: Path) -> None:
    """Complete a `save_model` that was cut off while it moved its files; without one nothing happens."""
    finish_publishing(folder, _LAST)


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
