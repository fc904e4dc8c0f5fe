"""Collapse: a model that gives every row the same answer, or has learnt nothing but the labels' frequencies.

Small data, a high learning rate and a short warm-up do this to some seeds (Devlin et al., 2019, section A.3; Mosbach et
al., 2021, "On the stability of fine-tuning BERT").
"""

from collections.abc import Mapping, Sequence
from typing import Any, TypeGuard

import numpy as np
import numpy.typing as npt
import torch

from bertune.data.subsets import of_examples
from bertune.encoder.layout import Layout
from bertune.errors import counted
from bertune.features import Column, Features
from bertune.tasks.protocol import Logits, Task
from bertune.tasks.shared.review import with_every_answer
from bertune.tasks.user_files import task_file_of
from bertune.training.loop.state import TrainConfig, TrainState

LOOKED_AT = 256
"""Rows that are looked at first: mostly two answers differ there already."""
AT_CHANCE = 0.99
"""Share of the loss of knowing only the labels' frequencies, from which on nothing else has been learnt."""
FEW_UPDATES = 50
"""Updates below which a new head has hardly begun to learn, so that a collapse is no fault."""
LEAST_UPDATES = 20
"""Updates after the warm-up before the training loss says anything."""
UNRELATED = 0.1
"""Correlation of answers with the truth above which a training loss at chance is mere slowness."""
SAME = 0.01
"""Numbers count as the same when they spread less than this share of the true ones."""
OTHER_SEEDS = "try another --seed (--restarts 2 does so automatically)"
REMEDY = "try a lower --learning-rate or a larger --warmup-ratio"


def constant_answer(task: Task[Any], logits: Logits, features: Features, examples: Sequence[Any]) -> str | None:
    """What a model answers to every one of these examples, in words; None where answers differ, as they should.

    Also None where the true answers are all the same, or the task's predictions have no answer of a known kind.
    """
    if len(examples) < 2 or not _vary([task.true_answer(example) for example in examples]):
        return None
    task = with_every_answer(task)
    for count in (LOOKED_AT, len(examples)):
        some = examples[:count]
        part, rows = of_examples(features, np.arange(len(some)))
        predictions = task.decode([logits[row] for row in rows], part, some)
        answers: list[Any] = [task.predicted_answer(prediction) for prediction in predictions]
        if any(answer is None for answer in answers):
            return None
        if isinstance(answers[0], float):
            numbers, truths = answers, [task.true_answer(example) for example in some]
            if not all(isinstance(truth, int | float) for truth in truths):
                return None
            spread, true = float(np.std(numbers)), float(np.std(truths))
            if spread > SAME * true or not true:
                return None
        elif len(set(answers)) > 1:
            return None
    return _shown(answers[0])


def _vary(truths: Sequence[Any]) -> bool:
    return any(np.any(truth != truths[0]) for truth in truths)


def _shown(answer: object) -> str:
    if isinstance(answer, float):
        return f"about {answer:.3g}"
    if isinstance(answer, frozenset):
        return "nothing" if not answer else ", ".join(sorted(map(str, answer)))
    return repr(answer) if answer != "" else "nothing"


def chance_loss(task: Task[Any], targets: Mapping[str, Column]) -> float | None:
    """The training loss of always giving the classes' frequencies, or equal odds if that is less.

    It is the entropy of the labels where the loss is plain cross-entropy. None for tasks without one class a sequence,
    and for those from a user's file, whose losses may be of any kind.
    """
    target = targets.get("label")
    if task_file_of(task) is not None or len(targets) > 1 or not _are_classes(target):
        return None
    shares = np.bincount(target, minlength=len(getattr(task, "labels", ()))) / len(target)
    layout = Layout.packed([1] * len(target))
    classes = {"label": torch.from_numpy(target).long()}
    found = []
    for odds in (np.maximum(shares, 1e-9), np.full(len(shares), 1 / len(shares))):
        logits = torch.from_numpy(np.log(odds)).float().expand(len(target), len(shares))
        total, count = task.loss(logits, classes, layout)
        found.append(float(total) / float(count))
    return min(found)


def _are_classes(target: Any) -> TypeGuard[npt.NDArray[np.integer[Any]]]:
    """Whether a column of targets holds the number of a class for every sequence."""
    plain = isinstance(target, np.ndarray) and target.ndim == 1 and np.issubdtype(target.dtype, np.integer)
    return plain and len(target) > 0 and int(target.min()) >= 0


def collapse_of(state: TrainState, config: TrainConfig, chance: float | None) -> str | None:
    """What is wrong with the best model of a run, in words; None where it has learnt something.

    chance: loss of knowing only the labels' frequencies.
    """
    signs = []
    if state.best_constant_prediction is not None:
        signs.append(f"every validation row gets the same answer ({state.best_constant_prediction})")
    if at_chance := _at_chance(state, chance, state.best_metrics.get("matthews_correlation")):
        signs.append(at_chance)
    if signs and config.steps < LEAST_UPDATES:
        signs.append(f"{counted(config.steps, 'update is', 'updates are')} few: give it more --epochs first")
    return "; ".join(signs) or None


def late_collapse_of(state: TrainState, config: TrainConfig, chance: float | None) -> str | None:
    """What went wrong after the model that is kept, in words; None where the last evaluations found no collapse.

    For runs whose kept model has not collapsed (`collapse_of`).
    """
    if state.best_step >= state.step:
        return None
    signs = []
    if state.constant_prediction is not None:
        signs.append(
            f"from step {state.constant_prediction_since} on every validation row got the same answer "
            f"({state.constant_prediction})"
        )
    if at_chance := _at_chance(state, chance, state.correlation):
        signs.append(at_chance)
    if not signs:
        return None
    kept = "" if state.best is None else f" ({config.metric} {state.best:.4f})"
    return f"updates after step {state.best_step}, whose model{kept} is kept, collapsed: {'; '.join(signs)}"


def _at_chance(state: TrainState, chance: float | None, correlation: float | None) -> str | None:
    """What to say of a training loss that the labels' frequencies explain, where answers do not go with the truth."""
    if chance is None or state.losses < LEAST_UPDATES or state.loss < AT_CHANCE * chance:
        return None
    if correlation is not None and correlation > UNRELATED:
        return None
    return (
        f"the training loss after the warm-up is {state.loss:.4f}, and {chance:.4f} is reached by knowing only "
        "how frequent each label is"
    )
