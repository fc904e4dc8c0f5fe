"""What fine-tuning reaches beside transformers' Trainer: same encoder, rows, epochs, rate, batch and metric code.

python -m benchmarks.quality conll|stsb|mrpc [--side bertune|transformers] [--seed N] [--limit N]
python -m benchmarks.quality budget --task mrpc|conll --seconds 300    both within the same time (benchmarks/budget.py)

Needs the data that BERTUNE_SHARED points to. Both sides train without looking at the development set and are judged by
their last weights. With --limit N both see N rows only, for a look, and nothing is kept.
"""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.machine import in_bfloat16, save_result
from bertune.tasks.registry import new_task
from bertune.tasks.shared.metrics import classification_metrics
from bertune.tasks.tagging.metrics import entity_metrics
from bertune.tasks.tagging.schemes import chunks

LENGTH, BATCH = 128, 32


@dataclass(frozen=True)
class Job:
    """A task, its files below BERTUNE_SHARED/data, and how long and fast both sides learn."""

    task: str
    train: str
    dev: str
    epochs: int
    learning_rate: float


JOBS = {
    "conll": Job("token-classification", "conll2003/eng.train", "conll2003/eng.testa", 3, 2e-4),
    "stsb": Job("stsb", "glue/STS-B/train.tsv", "glue/STS-B/dev.tsv", 3, 1e-4),
    "mrpc": Job("mrpc", "glue/MRPC/train.tsv", "glue/MRPC/dev.tsv", 3, 1e-4),
}
Metrics = Mapping[str, float]
Examples = Sequence[Any]


@dataclass(frozen=True)
class Encoded:
    """What transformers trains on and is asked: rows, a model's class and outputs, and metrics of its predictions."""

    train: list[dict[str, Any]]
    dev: list[dict[str, Any]]
    model: Any
    settings: dict[str, Any]
    metrics: Callable[[Any], Metrics]


def of_bertune(job: Job, train: Path, dev: Path, seed: int) -> tuple[Metrics, float]:
    """Metrics on the development set, and the seconds that training took."""
    import bertune

    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        bertune.train(
            task=job.task,
            encoder="minilm",
            train=train,
            output=f"{folder}/model",
            max_seq_length=LENGTH,
            batch_size=BATCH,
            learning_rate=job.learning_rate,
            epochs=job.epochs,
            seed=seed,
        )
        seconds = time.perf_counter() - start
        return bertune.load(f"{folder}/model").evaluate(dev), seconds


def of_transformers(job: Job, train: Path, dev: Path, seed: int) -> tuple[Metrics, float]:
    """The same of the Trainer: bfloat16 where the processor has it, dynamic padding, batches of similar lengths."""
    import torch
    from datasets import Dataset
    from transformers import Trainer, TrainingArguments, set_seed

    from benchmarks.peer import minilm

    set_seed(seed)
    encoded, collator = encoded_for_transformers(job, train, dev)
    model = encoded.model.from_pretrained(minilm(), **encoded.settings)
    arguments = TrainingArguments(
        output_dir=tempfile.mkdtemp(),
        per_device_train_batch_size=BATCH,
        per_device_eval_batch_size=BATCH,
        learning_rate=job.learning_rate,
        num_train_epochs=job.epochs,
        warmup_steps=0.1,  # a share of the updates, as warmup_ratio was
        weight_decay=0.01,
        bf16=in_bfloat16(),
        use_cpu=not torch.cuda.is_available(),
        save_strategy="no",
        logging_strategy="no",
        report_to=[],
        seed=seed,
        disable_tqdm=True,
        train_sampling_strategy="group_by_length",
    )
    rows = Dataset.from_list(encoded.train), Dataset.from_list(encoded.dev)
    trainer = Trainer(model=model, args=arguments, train_dataset=rows[0], data_collator=collator)
    start = time.perf_counter()
    trainer.train()
    seconds = time.perf_counter() - start
    arguments.train_sampling_strategy = "random"  # by length it would predict in another order than the rows'
    found = trainer.predict(rows[1])
    for row, labels in zip(encoded.dev, found.label_ids, strict=True):
        told = np.atleast_1d(np.asarray(row["labels"], labels.dtype))
        if not np.array_equal(np.atleast_1d(labels)[: len(told)], told):
            sys.exit("transformers predicted the rows in another order")
    return encoded.metrics(found.predictions), seconds


def encoded_for_transformers(job: Job, train: Path, dev: Path) -> tuple[Encoded, Any]:
    """Both files for transformers, and the collator that pads their batches."""
    from transformers import AutoTokenizer, DataCollatorForTokenClassification, DataCollatorWithPadding

    from benchmarks.peer import minilm

    tokenizer = AutoTokenizer.from_pretrained(minilm())
    task = new_task(job.task)
    learnt, asked = (list(task.read(path, labelled=True)) for path in (train, dev))
    task = task.fit(learnt, path=train, settings={})
    tags = job.task == "token-classification"
    encoded = (tagged if tags else texts)(task, learnt, asked, tokenizer)
    return encoded, (DataCollatorForTokenClassification if tags else DataCollatorWithPadding)(tokenizer)


def texts(task: Any, train: Examples, dev: Examples, tokenizer: Any) -> Encoded:
    """Pairs of texts, with a number or a class."""
    from transformers import AutoModelForSequenceClassification

    from bertune.tasks.shared.metrics import pearson, spearman

    numbers = task.name == "stsb"
    index = {} if numbers else {label: i for i, label in enumerate(task.labels)}

    def rows(examples: Examples) -> list[dict[str, Any]]:
        found = tokenizer(
            [one.text for one in examples], [one.pair for one in examples], truncation=True, max_length=LENGTH
        )
        labels = [one.value if numbers else index[one.label] for one in examples]
        return [{name: found[name][i] for name in found} | {"labels": label} for i, label in enumerate(labels)]

    truth = np.array([one.value if numbers else index[one.label] for one in dev])

    def metrics(logits: Any) -> Metrics:
        if numbers:
            values = logits[:, 0].astype(np.float64)
            return {"pearson": pearson(truth, values), "spearman": spearman(truth, values)}
        return classification_metrics(truth, logits.argmax(1), len(index))

    settings = {"num_labels": 1, "problem_type": "regression"} if numbers else {"num_labels": len(index)}
    return Encoded(rows(train), rows(dev), AutoModelForSequenceClassification, settings, metrics)


def tagged(task: Any, train: Examples, dev: Examples, tokenizer: Any) -> Encoded:
    """Words with tags: a word's first piece has its tag, as in transformers' own run_ner; a word that is cut has O."""
    from transformers import AutoModelForTokenClassification

    index = {label: i for i, label in enumerate(task.labels)}

    def rows(examples: Examples) -> tuple[list[dict[str, Any]], list[list[int | None]]]:
        words = [[one.text[a:b] for a, b in one.words] for one in examples]
        found = tokenizer(words, is_split_into_words=True, truncation=True, max_length=LENGTH)
        gold, _ = task.gold_tags(examples)
        made, places = [], []
        for i, tags in enumerate(gold):
            word = found.word_ids(i)
            before = [None, *word]
            first = [at if at is not None and at != last else None for at, last in zip(word, before, strict=False)]
            labels = [-100 if at is None else index[tags[at]] for at in first]
            made.append({name: found[name][i] for name in found} | {"labels": labels})
            places.append(first)
        return made, places

    (train_rows, _), (dev_rows, dev_places) = rows(train), rows(dev)
    gold = [[(chunk.label, chunk[1:]) for chunk in chunks(tags)] for tags in task.gold_tags(dev)[0]]

    def metrics(logits: Any) -> Metrics:
        found = []
        for row, first, example in zip(logits, dev_places, dev, strict=True):
            tags = ["O"] * len(example.words)
            for place, best in zip(first, row.argmax(-1), strict=False):
                if place is not None:
                    tags[place] = task.labels[best]
            found.append([(chunk.label, chunk[1:]) for chunk in chunks(tags)])
        return {name: value for name, value in entity_metrics(gold, found).items() if "_" not in name}

    named = {"id2label": dict(enumerate(task.labels)), "label2id": index}
    return Encoded(train_rows, dev_rows, AutoModelForTokenClassification, named, metrics)


SIDES = {"bertune": of_bertune, "transformers": of_transformers}


def shortened(path: Path, limit: int, folder: Path, *, skip: int = 0) -> Path:
    """A copy with `limit` rows after the first `skip`, or about as many sentences of a CoNLL file."""
    lines = path.read_text(encoding="utf-8-sig").splitlines(keepends=True)
    if path.suffix == ".tsv":
        kept = lines[:1] + lines[1 + skip : 1 + skip + limit]
    else:
        blank = [0, *(i for i, line in enumerate(lines) if i and not line.strip())]
        first, last = (blank[min(at, len(blank) - 1)] for at in (skip, skip + limit))
        kept = lines[first:last]
    copy = folder / f"{path.parent.name}-{skip}-{path.name}"
    copy.write_text("".join(kept), encoding="utf-8")
    return copy


def main() -> None:
    """See the module's docstring."""
    if sys.argv[1:2] == ["budget"]:
        from benchmarks.budget import main as budget

        budget(sys.argv[2:])
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("job", choices=JOBS)
    parser.add_argument("--side", choices=SIDES, help="only this one")
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--limit", type=int, help="rows of each file; nothing is kept")
    said = parser.parse_args()
    shared = os.environ.get("BERTUNE_SHARED")
    if shared is None:
        sys.exit("set BERTUNE_SHARED to the folder whose data/ holds the data sets")
    job = JOBS[said.job]
    with tempfile.TemporaryDirectory() as folder:
        train, dev = (Path(shared, "data", name).resolve() for name in (job.train, job.dev))
        if said.limit:
            train, dev = (shortened(path, said.limit, Path(folder)) for path in (train, dev))
        for side in [said.side] if said.side else SIDES:
            metrics, seconds = SIDES[side](job, train, dev, said.seed)
            facts = {
                "job": said.job, "side": side, "seed": said.seed, "epochs": job.epochs, "batch_size": BATCH,
                "learning_rate": job.learning_rate, "train_seconds": seconds, **metrics,
            }  # fmt: skip
            if said.limit:
                print(facts)
            else:
                save_result("quality", facts)


if __name__ == "__main__":
    main()
