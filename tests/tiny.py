"""A tiny random encoder in Hugging Face's layout and tiny data files: whole runs take a fraction of a second."""

import csv
import gzip
import hashlib
import io
import json
import random
import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

Row = Mapping[str, object]

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
VOCABULARY = (
    *SPECIAL,
    *string.ascii_lowercase,
    *(f"##{letter}" for letter in string.ascii_lowercase),
    *".,!?'",
    *("good", "bad", "fine", "awful", "film", "the", "is"),
)
"""Every word of ASCII letters has pieces here."""

SIZES: dict[str, object] = {
    "vocab_size": len(VOCABULARY),
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 64,
    "type_vocab_size": 2,
}
FAST = ("--max-seq-length", "32", "--batch-size", "8", "--learning-rate", "1e-2", "--epochs", "2", "--device", "cpu")
"""Options of a run that takes moments, and learns little."""
LEARNING = (*FAST, "--epochs", "10", "--learning-rate", "5e-3")
"""Options under which a tiny encoder learns `opinions` by heart, by any seed: 120 updates on 96 rows."""


def settings(**changes: object) -> dict[str, object]:
    """A config.json for a tiny encoder."""
    tree = {
        "architectures": ["BertModel"],
        "model_type": "bert",
        "hidden_act": "gelu",
        "layer_norm_eps": 1e-12,
        "hidden_dropout_prob": 0.1,
        "attention_probs_dropout_prob": 0.1,
        "pad_token_id": 0,
    }
    return tree | SIZES | changes


def shapes(config: Mapping[str, object]) -> dict[str, tuple[int, ...]]:
    """Names and shapes of an encoder's tensors, as transformers' BertModel has them."""
    hidden, inner, layers = (int(str(config[key])) for key in ("hidden_size", "intermediate_size", "num_hidden_layers"))
    tables = {"word": "vocab_size", "position": "max_position_embeddings", "token_type": "type_vocab_size"}
    found = {f"embeddings.{name}_embeddings.weight": (int(str(config[key])), hidden) for name, key in tables.items()}
    products = {"pooler.dense": (hidden, hidden)}
    norms = ["embeddings.LayerNorm"]
    for i in range(layers):
        layer = f"encoder.layer.{i}"
        products |= {f"{layer}.attention.self.{name}": (hidden, hidden) for name in ("query", "key", "value")}
        products[f"{layer}.attention.output.dense"] = (hidden, hidden)
        products |= {f"{layer}.intermediate.dense": (inner, hidden), f"{layer}.output.dense": (hidden, inner)}
        norms += [f"{layer}.attention.output.LayerNorm", f"{layer}.output.LayerNorm"]
    all_shapes: dict[str, tuple[int, ...]] = dict(found)
    for name, (out, into) in products.items():
        all_shapes |= {f"{name}.weight": (out, into), f"{name}.bias": (out,)}
    for name in norms:
        all_shapes |= {f"{name}.weight": (hidden,), f"{name}.bias": (hidden,)}
    return all_shapes


def tensors(config: Mapping[str, object], seed: int = 0) -> dict[str, Tensor]:
    """Random values for all of them, none of them trivial."""
    generator = torch.Generator().manual_seed(seed)
    made = {}
    for name, shape in shapes(config).items():
        values = torch.randn(shape, generator=generator) * 0.1
        made[name] = values + 1 if name.endswith("LayerNorm.weight") else values
    return made


def write_encoder(folder: Path, *, seed: int = 0, **changes: object) -> Path:
    """A whole folder: config.json, with `changes`, model.safetensors, vocab.txt, tokenizer_config.json."""
    folder.mkdir(parents=True, exist_ok=True)
    config = settings(**changes)
    write_json(folder / "config.json", config)
    write_json(folder / "tokenizer_config.json", {"do_lower_case": True, "tokenizer_class": "BertTokenizer"})
    (folder / "vocab.txt").write_text("\n".join(VOCABULARY) + "\n", encoding="utf-8")
    save_file(tensors(config, seed), folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def write_json(path: Path, tree: object) -> Path:
    """A JSON file."""
    path.write_text(json.dumps(tree, indent=1), encoding="utf-8")
    return path


def weights(folder: Path) -> dict[str, Tensor]:
    """The tensors in a folder's model.safetensors."""
    found: dict[str, Tensor] = load_file(folder / "model.safetensors")
    return found


def same_weights(one: Path, other: Path) -> bool:
    """Whether two model folders hold the same weights bit for bit."""
    a, b = weights(one), weights(other)
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def opinions(count: int, *, seed: int = 0, labels: Sequence[object] = ("bad", "good")) -> list[dict[str, object]]:
    """Rows with a text and a label that one word of the text tells."""
    chance = random.Random(seed)
    words = (("bad", "awful"), ("good", "fine"), ("the the the", "a a a"))
    rows: list[dict[str, object]] = []
    for i in range(count):
        label = i % len(labels)
        text = f"the {_word(chance)} film is {chance.choice(words[label])} {_word(chance)}"
        rows.append({"text": text, "label": labels[label]})
    return rows


def doubtful_opinions(count: int, wrong: int, *, seed: int = 1) -> list[dict[str, object]]:
    """`opinions`, the first of them with the other label: a model that learnt them is too sure on these rows."""
    rows = opinions(count, seed=seed)
    for row in rows[:wrong]:
        row["label"] = "good" if row["label"] == "bad" else "bad"
    return rows


def pairs(count: int, *, seed: int = 0) -> list[dict[str, object]]:
    """Rows with two texts and a label: whether the second says the same word."""
    chance = random.Random(seed)
    rows: list[dict[str, object]] = []
    for i in range(count):
        word = chance.choice(("good", "bad"))
        other = word if i % 2 else {"good": "bad", "bad": "good"}[word]
        rows.append(
            {
                "sentence1": f"film is {word}",
                "sentence2": f"is {other} {_word(chance)}",
                "label": ("no", "yes")[i % 2],
            }
        )
    return rows


def _word(chance: random.Random) -> str:
    return "".join(chance.choices(string.ascii_lowercase, k=chance.randint(1, 6)))


def write_rows(path: Path, rows: Sequence[Row]) -> Path:
    """Rows as the suffix says: .csv, .tsv, .jsonl (each also .gz) or .parquet."""
    kind = path.name.removesuffix(".gz").rpartition(".")[2]
    if kind == "parquet":
        pq.write_table(pa.Table.from_pylist([dict(row) for row in rows]), path)
        return path
    if kind == "jsonl":
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    elif kind == "csv":
        file = io.StringIO()
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        text = file.getvalue()
    else:
        text = "".join("\t".join(map(str, line)) + "\n" for line in [list(rows[0]), *(row.values() for row in rows)])
    path.write_bytes(gzip.compress(text.encode()) if path.name.endswith(".gz") else text.encode())
    return path


@dataclass(frozen=True)
class Answer:
    """What a command came to: exit status, stdout, stderr."""

    status: int
    out: str
    err: str


def bertune(capsys: pytest.CaptureFixture[str], *arguments: object) -> Answer:
    """Run `bertune ARGUMENTS…` in this process."""
    from bertune.cli.main import main

    capsys.readouterr()
    status = main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    return Answer(status, captured.out, captured.err)


def done(capsys: pytest.CaptureFixture[str], *arguments: object) -> Answer:
    """Run a command that must succeed."""
    answer = bertune(capsys, *arguments)
    assert answer.status == 0, answer.err
    return answer


def train(
    capsys: pytest.CaptureFixture[str],
    folder: Path,
    rows: Sequence[Row],
    *more: object,
    task: str = "text-classification",
) -> Path:
    """Train a tiny encoder in `folder` on rows; the run's folder. `more` are further options."""
    encoder = folder / "encoder"
    if not encoder.exists():
        write_encoder(encoder)
    data = write_rows(folder / "train.jsonl", rows)
    output = folder / "model"
    options = ["--task", task, "--encoder", encoder, "--train", data, "--output", output, *FAST, *more]
    done(capsys, "train", *options)
    return output


def files(folder: Path) -> dict[str, str]:
    """Every file and folder below, with a hash of its content."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "folder"
        for path in sorted(folder.rglob("*"))
    }


def refused(capsys: pytest.CaptureFixture[str], folder: Path, arguments: Sequence[object], *told: object) -> str:
    """A command that must end with status 2, print only a message that holds all of `told`, and leave no trace.

    folder: everything below it must stay as it is.
    """
    before = files(folder)
    answer = bertune(capsys, *arguments)
    assert answer.status == 2, answer.err
    assert answer.out == ""
    assert "Traceback" not in answer.err
    message = answer.err[answer.err.index("error: ") :]
    missing = [str(part) for part in told if str(part) not in message]
    assert not missing, message
    assert files(folder) == before
    return message
