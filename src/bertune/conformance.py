r"""What every task must do, as checks that a task's test runs; they need no download and take a second.

from bertune.conformance import CHECKS, Case

CASE = Case("my_task.py:MyTask", "train.csv", bad=(("text,label\nfine,often\n", "line 2"),))

@pytest.mark.parametrize("check", CHECKS)
def test_conforms(check, tmp_path):
    check(CASE, tmp_path)
"""

import dataclasses
import json
import string
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bertune.encoder.config import EncoderConfig
from bertune.encoder.encoder import Encoder
from bertune.encoder.layout import Layout
from bertune.encoder.modules import Dropout
from bertune.errors import InputError
from bertune.features import Features, Ragged
from bertune.inference.evaluation import infer
from bertune.model.folder import save_model
from bertune.model.provenance import Provenance
from bertune.model.use import evaluate, load
from bertune.network import Batch, Network, pack
from bertune.tasks.protocol import Task
from bertune.tasks.registry import new_task, task_from_json
from bertune.tokenization.text_encoding import TextEncoding
from bertune.tokenization.tokenizer import Tokenizer

LENGTH = 48
EXAMPLES = 12
_LETTERS = string.ascii_lowercase + string.digits
_VOCABULARY = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *string.punctuation, *_LETTERS)


@dataclass(frozen=True)
class Case:
    """A task and data for it.

    task: its name, or `file.py:Class`.
    data: a labelled file that the task reads; a few examples of it are used.
    options: those of the task that differ from its defaults.
    bad: contents of broken files, each with a part of what the error must say beside the file's name.
    settings: of the checkpoint that the task starts from.
    """

    task: str
    data: str | Path
    options: Mapping[str, Any] = field(default_factory=dict)
    bad: tuple[tuple[str, str], ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class _Setup:
    task: Task[Any]
    examples: list[Any]
    features: Features
    network: Network
    tokenizer: Tokenizer

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        """Mean loss of a batch."""
        total, count = self.task.loss(logits, batch.targets, batch.layout)
        return total / count


def tiny_encoder(folder: Path, seed: int = 0) -> tuple[Encoder, Tokenizer]:
    """A random encoder of four layers whose vocabulary spells every ASCII word; `folder` gets its vocab.txt."""
    pieces = [*_VOCABULARY, *(f"##{letter}" for letter in _LETTERS)]
    file = folder / "vocab.txt"
    file.write_text("\n".join(pieces) + "\n", encoding="utf-8")
    config = EncoderConfig(
        vocab_size=len(pieces),
        hidden_size=16,
        num_hidden_layers=4,
        num_attention_heads=2,
        intermediate_size=32,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        max_position_embeddings=LENGTH,
        initializer_range=0.2,
    )
    torch.manual_seed(seed)
    return Encoder(config), Tokenizer.from_vocab(file)


def _set_up(case: Case, folder: Path) -> _Setup:
    task, data = new_task(case.task, case.options), Path(case.data)
    encoder, tokenizer = tiny_encoder(folder)
    everything = list(task.read(data, labelled=True))
    task = task.fit(everything, path=data, settings=case.settings)
    problems = task.problems(everything, data)
    assert not problems, problems
    examples = everything[:: max(1, len(everything) // EXAMPLES)][:EXAMPLES]
    features = task.featurize(examples, tokenizer, LENGTH, purpose="train")
    return _Setup(task, examples, features, Network(encoder, task.new_head(encoder.config)), tokenizer)


def one_step_lowers_the_loss(case: Case, folder: Path) -> None:
    """A short step against the gradient makes the loss on the same batch smaller, in every part that has a gradient."""
    made = _set_up(case, folder)
    batch = pack(made.features, np.arange(len(made.features.unit_lengths)))
    made.network.train()
    for module in made.network.modules():
        if isinstance(module, torch.nn.Dropout | Dropout):
            module.p = 0.0
    before = made.loss(made.network(batch), batch)
    before.backward()  # type: ignore[no-untyped-call]
    gradients = {name: p.grad for name, p in made.network.named_parameters() if p.grad is not None}
    if list(made.network.head.parameters()):
        assert any(name.startswith("head.") for name in gradients), "no gradient reaches the head"
    assert any(name.startswith("encoder.layers.0.") for name in gradients), "no gradient reaches the encoder"
    norm = torch.stack([grad.norm() for grad in gradients.values()]).norm()
    with torch.no_grad():
        for name, parameter in made.network.named_parameters():
            if name in gradients:
                parameter.sub_(gradients[name] / norm, alpha=0.01)
        after = made.loss(made.network(batch), batch)
    assert after < before, f"the loss went from {before.item()} to {after.item()}"


def save_and_load_give_equal_logits(case: Case, folder: Path) -> None:
    """A saved model, loaded, is the same task and gives the same logits."""
    made = _set_up(case, folder)
    target = folder / "model"
    provenance = Provenance("tiny", {}, {})
    weights = made.network.state_dict()
    save_model(
        target, (made.network.encoder.config, weights), made.task, TextEncoding(made.tokenizer, LENGTH), provenance, {}
    )
    file = case.task.rpartition(":")[0]
    trusted = {"trust_task_file": file} if file else {}
    loaded = load(target, device="cpu", precision="fp32", **trusted)
    restored = task_from_json(json.loads(json.dumps(made.task.to_json())), **trusted)
    assert restored.to_json() == made.task.to_json(), "restored(to_json()) is another task"
    ours, theirs = infer(made.network, made.features).logits, infer(loaded.network, made.features).logits
    for one, two in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(one, two)


def packed_equals_padded(case: Case, folder: Path) -> None:
    """Padding between sequences changes neither logits nor loss."""
    made = _set_up(case, folder)
    made.network.eval()
    packed, padded = pack(made.features, np.arange(len(made.features.unit_lengths))), _padded(made.features)
    with torch.no_grad():
        one, two = made.network(packed), made.network(padded)
    torch.testing.assert_close(made.loss(one, packed), made.loss(two, padded), atol=1e-5, rtol=1e-5)
    if len(one) == packed.layout.total:
        one, two = packed.layout.to_padded(one), padded.layout.to_padded(two)
    torch.testing.assert_close(one, two, atol=1e-5, rtol=1e-5)


def _padded(features: Features) -> Batch:
    """All features, every sequence padded to LENGTH."""
    lengths = features.input_ids.lengths
    places = np.concatenate([np.arange(n) + i * LENGTH for i, n in enumerate(lengths)])

    def spread(values: Any, fill: int) -> Tensor:
        tokens = torch.full((len(lengths) * LENGTH,), fill, dtype=torch.int64)
        tokens[torch.from_numpy(places)] = torch.from_numpy(np.asarray(values)).long()
        return tokens

    plain = pack(features, np.arange(len(features.unit_lengths)))
    targets = {
        name: spread(column.values, -100) if isinstance(column, Ragged) else plain.targets[name]
        for name, column in features.targets.items()
    }
    ids, segments = features.input_ids.values, features.segment_ids.values
    positions = places % LENGTH
    layout = Layout.padded(lengths.tolist(), LENGTH)
    return Batch(spread(ids, 0), spread(segments, 0), spread(positions, 0), layout, targets, plain.rows)


def predictions_decode(case: Case, folder: Path) -> None:
    """One JSON object an example, a line of the table for each, none for none; the metric is among the metrics."""
    made = _set_up(case, folder)
    features = made.task.featurize(made.examples, made.tokenizer, LENGTH, purpose="predict")
    assert not features.targets, "features to predict have no targets"
    logits = infer(made.network, features).logits
    predictions = made.task.decode(logits, features, made.examples)
    assert len(predictions) == len(made.examples)
    for example, prediction in zip(made.examples, predictions, strict=True):
        assert isinstance(prediction, dict)
        json.dumps(prediction, allow_nan=False)
        shown = made.task.summary(example, prediction)
        assert len(shown) == 3
        assert all(isinstance(part, str) for part in shown)
    nothing = made.task.featurize([], made.tokenizer, LENGTH, purpose="predict")
    assert made.task.decode([], nothing, []) == []
    features = made.task.featurize(made.examples, made.tokenizer, LENGTH, purpose="evaluate")
    metrics = evaluate(made.network, made.task, features, made.examples, tune=True).metrics
    assert made.task.metric in metrics, f"no {made.task.metric} in {sorted(metrics)}"
    assert all(isinstance(value, float) for value in metrics.values())
    _rows_agree(made, features, metrics)


def _rows_agree(made: _Setup, features: Features, metrics: Mapping[str, float]) -> None:
    """Metrics from rows, where the task gives them, are those of the whole, but for what rounding loses."""
    logits = infer(made.network, features).logits
    task = made.task.tuned(logits, features, made.examples)
    rows = task.row_metrics(made.examples, task.decode(logits, features, made.examples))
    if rows is None:
        return
    assert len(rows) == len(made.examples)
    for name, value in rows.metrics().items():
        assert name in metrics, f"row_metrics gives {name}, metrics does not"
        assert abs(value - metrics[name]) <= 1e-3 * max(1.0, abs(value)), f"{name}: {metrics[name]}, by rows {value}"


def unlabelled_data_is_read(case: Case, folder: Path) -> None:
    """The same file can be predicted from, as far as a few rows show."""
    made = _set_up(case, folder)
    found = list(islice(made.task.read(Path(case.data), labelled=False), EXAMPLES))
    assert found
    features = made.task.featurize(found, made.tokenizer, LENGTH, purpose="predict")
    assert set(features.example_index.tolist()) == set(range(len(found))), "an example without a sequence"


def bad_rows_are_named(case: Case, folder: Path) -> None:
    """A broken file raises an InputError that names the file and what the case asks for."""
    suffix = "".join(Path(case.data).suffixes[-1:])
    for number, (content, text) in enumerate(case.bad):
        path = folder / f"bad-{number}{suffix}"
        path.write_text(content, encoding="utf-8")
        task = new_task(case.task, case.options)
        message = None
        try:
            examples = list(task.read(path, labelled=True))
            task.fit(examples, path=path, settings=case.settings)
        except InputError as error:
            message = str(error)
        assert message is not None, f"accepted: {content!r}"
        assert str(path) in message, f"the file is not named: {message}"
        assert text in message, f"{text!r} is not in: {message}"


def options_are_kept(case: Case, folder: Path) -> None:
    """The options are a dataclass, every field of which explains itself; with_options keeps what was learnt."""
    made = _set_up(case, folder)
    assert dataclasses.is_dataclass(made.task.options)
    assert all(option.metadata.get("help") for option in dataclasses.fields(made.task.options))
    assert made.task.with_options(made.task.options).to_json() == made.task.to_json()


CHECKS: tuple[Callable[[Case, Path], None], ...] = (
    one_step_lowers_the_loss,
    save_and_load_give_equal_logits,
    packed_equals_padded,
    predictions_decode,
    unlabelled_data_is_read,
    bad_rows_are_named,
    options_are_kept,
)
