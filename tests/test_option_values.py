"""Options from Python are checked as those of the command line are."""

import dataclasses
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest

import bertune
from bertune.data.batching import shuffled_batches, sorted_batches
from bertune.embedding import Embedder
from bertune.errors import InputError
from bertune.option_values import checked_values, whole_number
from bertune.options import option
from tests.tiny import opinions, write_encoder, write_rows


@dataclasses.dataclass
class Tree:
    """Fields of every kind."""

    count: int = option(1, help="", minimum=1)
    share: float | None = option(None, help="")
    size: int | Literal["auto"] | None = option(None, help="")
    name: str | None = option(None, help="", choices=("plain", "other"))
    path: str | None = option(None, help="")
    on: bool = option(False, help="")
    names: list[str] | None = option(None, help="")  # noqa: RUF009


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"count": np.int64(3)}, {"count": 3}),
        ({"share": 1}, {"share": 1.0}),
        ({"share": np.float32(0.5), "size": "auto"}, {"share": 0.5, "size": "auto"}),
        ({"size": 4, "name": None}, {"size": 4, "name": None}),
        ({"path": Path("a"), "on": np.True_}, {"path": "a", "on": True}),
        ({"names": ("a",), "other": 1}, {"names": ("a",)}),
    ],
)
def test_legal_values(values: dict[str, Any], expected: dict[str, Any]) -> None:
    found = checked_values(Tree, values)
    assert found == expected
    assert {name: type(value) for name, value in found.items()} == {n: type(v) for n, v in expected.items()}


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"count": 0}, "--count 0: must be at least 1"),
        ({"count": 2.0}, "--count 2.0: expected a whole number, not float"),
        ({"count": True}, "expected a whole number, not bool"),
        ({"count": "3"}, "--count '3': expected a whole number, not str"),
        ({"count": None}, "not NoneType"),
        ({"share": "0.1"}, "expected a number or None, not str"),
        ({"size": "automatic"}, "expected a whole number or 'auto' or None"),
        ({"name": "plan"}, "must be one of plain, other; did you mean plain"),
        ({"name": 3}, "expected text or None"),
        ({"on": 1}, "expected True or False"),
        ({"names": 3}, "expected a list"),
    ],
)
def test_other_values(values: dict[str, Any], told: str) -> None:
    with pytest.raises(InputError) as refused:
        checked_values(Tree, values)
    assert told in str(refused.value)


def test_all_at_once() -> None:
    with pytest.raises(InputError, match="2 problems"):
        checked_values(Tree, {"count": 0, "on": "yes"})


@pytest.mark.parametrize("size", [0, -1, 1.5, "8", None, True])
def test_sizes_of_batches(tmp_path: Path, size: Any) -> None:
    with pytest.raises(InputError, match="batch_size"):
        whole_number("predict: batch_size", size)
    with pytest.raises(InputError, match="batch_size"):
        Embedder(write_encoder(tmp_path), device="cpu")(["a"], batch_size=size)


def test_batches_of_nothing_are_refused_instead_of_made_for_ever() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        next(sorted_batches(np.array([3, 4]), max_tokens=8, max_sequences=0))
    with pytest.raises(ValueError, match="at least 1"):
        shuffled_batches(4, 0, seed=0, epoch=0)


def test_public_functions(tmp_path: Path) -> None:
    encoder, data = write_encoder(tmp_path / "encoder"), write_rows(tmp_path / "train.csv", opinions(16))
    common = {"task": "text-classification", "encoder": encoder, "train": data, "output": tmp_path / "model"}
    for options, told in (
        ({"batch_size": "8"}, "batch_size '8': expected"),
        ({"epochs": "3"}, "epochs '3': expected a number"),
        ({"device": "gpu"}, "device gpu: must be one of"),
        ({"precision": "fp23"}, "did you mean fp32"),
        ({"seed": 1.5}, "seed 1.5: expected a whole number"),
        ({"resume": "yes"}, "resume 'yes': expected True or False"),
        ({"long_text": "windows"}, "did you mean window"),
        ({"label_smoothing": "0.1"}, "label_smoothing '0.1': expected a number"),
        ({"text_column": 0}, "text_column 0: expected text or None"),
    ):
        with pytest.raises(InputError) as refused:
            bertune.train(**common, **options)
        assert told in str(refused.value)
    assert not (tmp_path / "model").exists()
    with pytest.raises(InputError, match=r"max_steps '3': expected a whole number"):
        bertune.pretrain(encoder=encoder, train=data, output=tmp_path / "other", max_steps="3")
    numbers = {"batch_size": np.int64(8), "max_steps": np.int32(1), "learning_rate": np.float32(1e-3)}
    bertune.train(**common, **numbers, max_seq_length=np.int16(32), device="cpu")
    model = bertune.load(tmp_path / "model", device="cpu")
    for size in (0, -1, 2.5, "3"):
        with pytest.raises(InputError, match="predict: batch_size"):
            model.predict(["a"], batch_size=size)  # type: ignore[arg-type]
        with pytest.raises(InputError, match="predict: batch_size"):
            next(model.predict_examples([], batch_size=size))  # type: ignore[arg-type]
        with pytest.raises(InputError, match="evaluate: batch_size"):
            model.evaluate(data, batch_size=size)  # type: ignore[arg-type]
