"""The peer's side on a GPU: transformers.Trainer in bfloat16, dynamic padding, grouped by length; see `benchmarks.gpu`.

python -m benchmarks.gpu_peer train|predict bert-base|minilm BATCH
"""

import os
import sys
import tempfile
import time
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    Trainer,
    TrainerCallback,
    TrainingArguments,
    set_seed,
)

from benchmarks.gpu_own import SIZES, VOCABULARY, made_up_rows, synchronize
from benchmarks.workers import commands, end, say

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


def padded(rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
    """What `DataCollatorWithPadding` makes of rows, without its detour over a tokenizer."""
    longest = max(len(row["input_ids"]) for row in rows)
    batch = {
        name: torch.tensor([row[name] + [0] * (longest - len(row[name])) for row in rows])
        for name in ("input_ids", "token_type_ids", "attention_mask")
    }
    return batch | {"labels": torch.tensor([row["label"] for row in rows])}


class TakeTurns(TrainerCallback):  # type: ignore[misc]
    """Stops before a step when no more epochs are asked for, reports, and waits."""

    def __init__(self, rows: int, an_epoch: int) -> None:
        self.rows, self.an_epoch = rows, an_epoch
        self.left = an_epoch
        self.asked = commands()
        self.epochs = 0
        self.start = 0.0

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        if self.left:
            return
        synchronize(DEVICE)
        seconds = time.perf_counter() - self.start
        if self.epochs:
            say(seconds=seconds, examples_per_second=self.epochs * self.rows / seconds)
        else:
            say(warm=True)
        self.epochs = next(self.asked)
        self.left = self.epochs * self.an_epoch
        self.start = time.perf_counter()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self.left -= 1


def main() -> None:
    """See the module's docstring."""
    job, encoder, batch_size = sys.argv[1], sys.argv[2], int(sys.argv[3])
    set_seed(1)
    hidden, layers, heads, inner = SIZES[encoder]
    config = BertConfig(
        vocab_size=VOCABULARY,
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        intermediate_size=inner,
        num_labels=2,
    )
    ids, labels = made_up_rows()
    rows = [
        {
            "input_ids": row,
            "token_type_ids": [0] * (len(row) - len(row) // 2) + [1] * (len(row) // 2),
            "attention_mask": [1] * len(row),
            "label": label,
        }
        for row, label in zip(ids, labels, strict=True)
    ]
    callbacks = [TakeTurns(len(rows), -(-len(rows) // batch_size))] if job == "train" else []
    arguments = TrainingArguments(
        output_dir=tempfile.mkdtemp(),
        per_device_train_batch_size=batch_size,
        per_device_eval_batch_size=batch_size,
        learning_rate=1e-5,
        num_train_epochs=1000,
        bf16=True,
        use_cpu=DEVICE.type == "cpu",
        save_strategy="no",
        logging_strategy="no",
        report_to=[],
        disable_tqdm=True,
        seed=1,
        remove_unused_columns=False,
        train_sampling_strategy="group_by_length",
    )
    trainer = Trainer(
        model=BertForSequenceClassification(config),
        args=arguments,
        train_dataset=rows,
        eval_dataset=rows,
        data_collator=padded,
        callbacks=callbacks,
    )
    if job == "train":
        trainer.train()
        end()
    trainer.predict(rows[: 4 * batch_size])
    say(warm=True)
    for count in commands():
        start = time.perf_counter()
        for _ in range(count):
            trainer.predict(rows)
        seconds = time.perf_counter() - start
        say(seconds=seconds, examples_per_second=count * len(rows) / seconds)


if __name__ == "__main__":
    main()
