"""BertuneClassifier: texts, pairs, labels of all types, pickling, cross-validation; scikit-learn's own checks."""

import pickle
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils import estimator_checks as checks
from sklearn.utils.validation import check_is_fitted, validate_data

import bertune
from bertune.sklearn import BertuneClassifier
from tests.tiny import opinions, pairs, write_encoder

TEXTS = [str(row["text"]) for row in opinions(96)]
LABELS = [str(row["label"]) for row in opinions(96)]
OPTIONS: dict[str, Any] = {"max_seq_length": 32, "batch_size": 8, "learning_rate": 5e-3, "epochs": 24}
CPU = {"device": "cpu", "precision": "fp32"}


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_encoder(tmp_path_factory.mktemp("encoder")))


@pytest.fixture(scope="module")
def fitted(encoder: str) -> BertuneClassifier:
    return BertuneClassifier(encoder, **OPTIONS, train_options=CPU).fit(TEXTS, LABELS)


def test_it_learns_texts(fitted: BertuneClassifier, capsys: pytest.CaptureFixture[str]) -> None:
    assert fitted.classes_.tolist() == ["bad", "good"]
    assert fitted.score(TEXTS, LABELS) == 1.0
    probabilities = fitted.predict_proba(pd.Series(["film is good", "film is bad"]))
    np.testing.assert_allclose(probabilities.sum(1), 1)
    assert probabilities[0, 1] > 0.5 > probabilities[1, 1]
    assert fitted.model_.labels == ("bad", "good")
    assert capsys.readouterr().err == ""


def test_a_pickled_classifier_answers_alike(fitted: BertuneClassifier) -> None:
    kept = fitted.__getstate__()["_files"]
    assert "model.safetensors" in kept
    assert not [name for name in kept if "/" in name]  # of folders: checkpoints, logs
    read = pickle.loads(pickle.dumps(fitted))
    np.testing.assert_array_equal(read.predict_proba(TEXTS[:5]), fitted.predict_proba(TEXTS[:5]))
    again = pickle.loads(pickle.dumps(read))
    assert again.predict(TEXTS[:5]).tolist() == LABELS[:5]
    with pytest.raises(NotFittedError):
        pickle.loads(pickle.dumps(clone(fitted))).predict(TEXTS)


@pytest.mark.parametrize(
    ("labels", "classes"),
    [([-1, 7], [-1, 7]), ([False, True], [False, True]), ([" a", "a"], [" a", "a"]), ([0.5, 2.5], [0.5, 2.5])],
)
def test_labels_keep_their_type(encoder: str, labels: list[Any], classes: list[Any]) -> None:
    y = [labels[label == "good"] for label in LABELS]
    found = BertuneClassifier(encoder, **OPTIONS | {"epochs": 1}, train_options=CPU).fit(np.array(TEXTS), y)
    assert found.classes_.tolist() == classes
    assert set(found.predict(TEXTS).tolist()) <= set(classes)
    assert found.predict(TEXTS).dtype == np.array(labels).dtype


def test_pairs_and_frames(encoder: str) -> None:
    rows = pairs(24)
    frame = pd.DataFrame(rows)[["sentence1", "sentence2"]]
    y = [row["label"] for row in rows]
    short = BertuneClassifier(encoder, **OPTIONS | {"epochs": 1}, train_options=CPU)
    by_frame = short.fit(frame, y).predict_proba(frame)
    tuples = list(frame.itertuples(index=False, name=None))
    np.testing.assert_array_equal(clone(short).fit(tuples, y).predict_proba(tuples), by_frame)


def test_a_folder_to_keep(encoder: str, tmp_path: Path) -> None:
    options = CPU | {"output": str(tmp_path / "model"), "validation_share": 0.25}
    found = BertuneClassifier(encoder, **OPTIONS, train_options=options).fit(TEXTS, LABELS)
    assert found.metrics_["accuracy"] >= 0.5
    kept = bertune.load(tmp_path / "model", **CPU)
    assert [one["label"] for one in kept.predict(TEXTS[:4])] == found.predict(TEXTS[:4]).tolist()


def test_cross_validation_of_a_pipeline(encoder: str) -> None:
    lower = FunctionTransformer(lambda texts: [text.lower() for text in texts])
    pipeline = make_pipeline(lower, BertuneClassifier(encoder, **OPTIONS, train_options=CPU))
    scores = cross_val_score(pipeline, TEXTS, LABELS, cv=2)
    assert scores.min() > 0.9


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        ([1.0, 2.0], ["a", "b"], "item 0 is '1.0'"),
        (np.ones((2, 3)), ["a", "b"], "item 0"),
        ("one text", ["a"], "takes a list of texts"),
        ([], [], "0 sample"),
        (["x", "y"], ["a"], "label for each of the 2 texts"),
        (["x", "y"], None, "requires y"),
        (["x", "y"], ["a", None], "missing"),
        (["x", "y"], [1.0, float("nan")], "missing"),
        (["x", "y"], ["a", "a"], "two different labels"),
        (["x", "y"], ["a", "b"], "no such file"),
    ],
)
def test_bad_input_is_a_value_error(x: Any, y: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        BertuneClassifier("nowhere").fit(x, y)


def test_check_estimator() -> None:
    """scikit-learn runs its checks on matrices of numbers alone, so of an estimator of texts it checks no fit."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        results = checks.check_estimator(BertuneClassifier(), on_fail=None)
    assert [one["check_name"] for one in results if one["status"] == "failed"] == []


class OfNumbers(BertuneClassifier):
    """Reads rows of numbers as texts, so that scikit-learn's checks, which know matrices alone, can run."""

    def fit(self, X: Any, y: Any) -> Self:  # noqa: N803
        return super().fit(self._words(X, reset=True), y)

    def predict_proba(self, X: Any) -> Any:  # noqa: N803
        check_is_fitted(self, "classes_")
        return super().predict_proba(self._words(X, reset=False))

    def _words(self, X: Any, *, reset: bool) -> list[str]:  # noqa: N803
        rows = validate_data(self, X, reset=reset)
        return [" ".join("good" if value > 0 else "bad" for value in row[:9]) for row in rows]

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = True
        return tags


MEANINGFUL: list[Callable[[str, Any], None]] = [
    checks.check_estimator_cloneable,
    checks.check_estimator_repr,
    checks.check_no_attributes_set_in_init,
    checks.check_fit_score_takes_y,
    checks.check_estimators_overwrite_params,
    checks.check_dont_overwrite_parameters,
    checks.check_estimators_fit_returns_self,
    checks.check_estimators_unfitted,
    checks.check_do_not_raise_errors_in_init_or_set_params,
    checks.check_mixin_order,
    checks.check_pipeline_consistency,
    checks.check_estimators_pickle,
    checks.check_classifiers_one_label,
    checks.check_methods_sample_order_invariance,
    checks.check_methods_subset_invariance,
    checks.check_get_params_invariance,
    checks.check_set_params,
    checks.check_dict_unchanged,
    checks.check_fit_idempotent,
    checks.check_fit_check_is_fitted,
    checks.check_requires_y_none,
    checks.check_supervised_y_no_nan,
    checks.check_supervised_y_2d,
]
"""Left out: checks of matrices (types, NaN and infinity, sparse, memory order, number of features, memory maps, array
API), of accuracy on clusters of numbers (`check_classifiers_train`, `check_classifiers_classes`), and of sample
weights, which `fit` does not take."""


@pytest.mark.parametrize("check", MEANINGFUL, ids=lambda check: check.__name__)
def test_meaningful_checks_of_scikit_learn(check: Callable[[str, Any], None], encoder: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        check("OfNumbers", OfNumbers(encoder, max_seq_length=16, batch_size=8, train_options=CPU | {"max_steps": 1}))
