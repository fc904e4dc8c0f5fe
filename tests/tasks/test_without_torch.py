"""The text side of every task works where torch is not installed: in a process that refuses to import it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conformance import SAMPLES

PROGRAM = '''
import importlib, json, string, sys
from pathlib import Path

import numpy as np


class NoTorch:
    """Stands for a machine without torch."""

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "transformers", "safetensors"):
            raise ImportError(f"{name} is not installed")


sys.meta_path.insert(0, NoTorch())

import bertune
from bertune.features import Features
from bertune.tasks.registry import new_task, task_from_json, task_to_json
from bertune.tokenization.tokenizer import Tokenizer

OUTPUTS = {"question-answering": 2, "multiple-choice": 1, "regression": 1, "stsb": 1, "embedding": 8, "pretraining": 4}
OF_TOKENS = ("question-answering", "token-classification", "pretraining")


def imports():
    root = Path(bertune.__file__).parent
    refused = []
    for path in sorted(root.glob("tasks/**/*.py")):
        name = ".".join(path.relative_to(root.parent).with_suffix("").parts).removesuffix(".__init__")
        try:
            importlib.import_module(name)
        except ImportError as error:
            assert "torch is not installed" in str(error), error
            refused.append(name.removeprefix("bertune.tasks."))
    return refused


def walk(name, data, folder):
    letters = string.ascii_lowercase + string.digits
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *string.punctuation, *letters, *("##" + a for a in letters)]
    vocabulary = Path(folder) / "vocab.txt"
    vocabulary.write_text("\\n".join(pieces) + "\\n")
    tokenizer, data, task = Tokenizer.from_vocab(vocabulary), Path(data), new_task(name)
    examples = list(task.read(data, labelled=True))[:24]
    if name != "pretraining":
        task = task.fit(examples, path=data, settings={})
    assert task.problems(examples, data) == []
    features = task.featurize(examples, tokenizer, 48, purpose="evaluate")
    assert isinstance(features, Features) and len(features) >= len(examples)
    outputs, chance = OUTPUTS.get(name) or len(task.labels), np.random.default_rng(0)
    logits = [
        chance.normal(size=(*[length] * (name in OF_TOKENS), outputs)).astype(np.float32)
        for length in features.input_ids.lengths
    ]
    task = task.tuned(logits, features, examples)
    metrics = task.metrics(logits, features, examples)
    if name == "pretraining":
        return metrics
    predictions = task.decode(logits, features, examples)
    assert len(predictions) == len(examples)
    assert all(len(task.summary(*pair)) == 3 for pair in zip(examples, predictions))
    assert task_to_json(task_from_json(json.loads(json.dumps(task_to_json(task))))) == task_to_json(task)
    rows = task.row_metrics(examples, predictions)
    again = rows.metrics()
    assert again.keys() <= metrics.keys() and all(abs(again[key] - metrics[key]) < 1e-4 for key in again)
    return metrics


print(json.dumps(imports() if sys.argv[1] == "imports" else walk(*sys.argv[1:])))
'''
CONLL = "The O\nkitten B-ANIMAL\nsleeps O\n\nAda B-PERSON\nLovelace I-PERSON\nsaw O\na O\ndog B-ANIMAL\n\n"


def without_torch(*arguments: object) -> object:
    """What the program prints, in a process of its own."""
    command = [sys.executable, "-c", PROGRAM, *map(str, arguments)]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)


def test_heads_and_losses_alone_need_torch() -> None:
    expected = ["masking.head", "shared.divergence", "shared.heads", "shared.layers", "shared.pair_head", "squad.head"]
    assert without_torch("imports") == expected


@pytest.mark.parametrize(
    ("task", "data", "metric"),
    [
        ("text-classification", "intents/train.csv", "accuracy"),
        ("multi-label-classification", "topics/train.csv", "f1"),
        ("regression", "similarity/train.csv", "pearson"),
        ("stsb", "similarity/train.csv", "spearman"),
        ("multiple-choice", "choices/train.jsonl", "accuracy"),
        ("question-answering", "handbook/train.json", "exact_match"),
        ("embedding", "similarity/train.csv", "mrr"),
        ("token-classification", "", "f1"),
        ("pretraining", "", "masked_lm_loss"),
        ("sst2", "", "accuracy"),
    ],
)
def test_a_task_reads_featurizes_decodes_and_judges(task: str, data: str, metric: str, tmp_path: Path) -> None:
    own = tmp_path / "own.txt"
    if task == "token-classification":
        own = tmp_path / "own.conll"
        own.write_text(CONLL * 4)
    elif task == "sst2":
        own = tmp_path / "own.tsv"
        own.write_text("sentence\tlabel\n" + "".join(f"{'abcdefgh'[i % 8]} film\t{i % 2}\n" for i in range(12)))
    else:
        own.write_text("The first line.\nThe second line.\n\nAnother document.\n")
    found = without_torch(task, SAMPLES / data if data else own, tmp_path)
    assert isinstance(found, dict)
    assert metric in found
