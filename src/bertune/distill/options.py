"""Options of `bertune distill`."""

from dataclasses import dataclass

from bertune.options import DEVICES, PRECISIONS, option


@dataclass(frozen=True, kw_only=True)
class DistillOptions:
    """Options of `bertune distill`. None stands for the task's own default."""

    teacher: list[str] | None = option(  # noqa: RUF009
        None, help="one or more fine-tuned models; the logits of several are averaged"
    )
    scores: str | None = option(
        None,
        help="instead of a teacher (with --task): column of --unlabelled with scores as predict writes them",
    )
    task: str | None = option(None, help="task that the scores are for (with a teacher: the teacher's)")
    student: str = option(help="where the student starts: an encoder, or every:K for every K-th layer of the teacher")
    unlabelled: str | list[str] = option(  # noqa: RUF009
        help="text for the teacher to label, in any form that predict reads: files, a folder, or a pattern; "
        "labels in it are ignored"
    )
    train: str | list[str] | None = option(  # noqa: RUF009
        None, help="labelled data, in the same forms; the student learns from the teacher and the labels"
    )
    validation: str = option(help="labelled data on which the best student is picked and compared with the teacher")
    output: str = option(help="folder for the student; must not contain another run")
    temperature: float = option(2.0, help="temperature: the logits of teacher and student are divided by it")
    alpha: float = option(0.5, help="weight of the teacher on labelled rows; the label's weight is 1 - alpha")
    baseline: bool = option(True, help="also train the student on the labels alone, for comparison")
    max_seq_length: int | None = option(
        None, help="longest sequence of the student (default: the teacher's)", minimum=3
    )
    batch_size: int | None = option(None, help="examples per step", minimum=1)
    learning_rate: float | None = option(None, help="highest learning rate")
    epochs: float | None = option(None, help="passes over all rows")
    max_steps: int | None = option(None, help="stop after this many steps, whatever --epochs says", minimum=1)
    warmup_ratio: float = option(0.1, help="share of the steps over which the learning rate rises from 0")
    metric: str | None = option(None, help="metric by which the best student is picked")
    seed: int = option(42, help="seed of new weights, data order and dropout", minimum=0)
    precision: str = option("auto", help="floating-point format of the computation", choices=PRECISIONS)
    device: str = option("auto", help="device to compute on", choices=DEVICES)
    trust_task_file: str | None = option(
        None, help="Python file of the teacher's task, if it was trained with --task FILE.py:Class; its code is run"
    )
    resume: bool = option(False, help="continue the run in the output folder")

    def problems(self) -> list[str]:
        """What no distillation can start with."""
        found = []
        if not 0 < self.temperature < float("inf"):
            found.append(f"--temperature {self.temperature}: must be above 0")
        if not 0 <= self.alpha <= 1:
            found.append(f"--alpha {self.alpha}: must be between 0 and 1")
        if self.train is None and self.alpha == 0:
            found.append("--alpha 0: nothing is learnt from the teacher, and without --train there are no labels")
        if len(set(self.teacher or ())) < len(self.teacher or ()):
            found.append("--teacher: a folder is named twice")
        if (self.teacher is None) == (self.scores is None):
            found.append("name models with --teacher, or a column of scores with --scores; one of the two")
        if self.scores is not None and self.task is None:
            found.append(f"--scores {self.scores}: needs --task, for instance --task text-classification")
        if self.teacher is not None and self.task is not None:
            found.append(f"--task {self.task}: the teacher says itself what it is for; leave one out")
        if self.scores is not None and self.student.startswith("every"):
            found.append(f"--student {self.student}: takes its layers from a teacher; with --scores name an encoder")
        return found
