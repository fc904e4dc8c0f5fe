"""Options of `bertune distill`."""

from dataclasses import dataclass

from bertune.options import DEVICES, PRECISIONS, option


@dataclass(frozen=True, kw_only=True)
class DistillOptions:
    """Options of `bertune distill`. None stands for the task's own default."""

    teacher: list[str] = option(  # noqa: RUF009
        help="folders of fine-tuned models; the logits of several are averaged"
    )
    student: str = option(help="where the student starts: an encoder, or every:K for every K-th layer of the teacher")
    unlabelled: str = option(help="text for the teacher to answer, in a form that predict reads; labels are not read")
    train: str | None = option(None, help="labelled data that the student also learns from, by teacher and label")
    validation: str = option(help="labelled data that picks the best student and compares it with the teacher")
    output: str = option(help="folder for the student; must not hold another run")
    temperature: float = option(2.0, help="logits of both are divided by this before they are compared")
    alpha: float = option(0.5, help="weight of the teacher where there is a label; the label has the rest")
    baseline: bool = option(True, help="also train the student on the labels alone, to see what distilling brought")
    max_seq_length: int | None = option(
        None, help="longest sequence of the student (default: the teacher's)", minimum=3
    )
    batch_size: int | None = option(None, help="examples per update", minimum=1)
    learning_rate: float | None = option(None, help="highest learning rate")
    epochs: float | None = option(None, help="passes over all rows")
    max_steps: int | None = option(None, help="stop after this many updates instead", minimum=1)
    warmup_ratio: float = option(0.1, help="share of the updates over which the learning rate rises")
    metric: str | None = option(None, help="metric that picks the best student")
    seed: int = option(42, help="governs new weights, order and dropout", minimum=0)
    precision: str = option("auto", help="floating-point format of the computation", choices=PRECISIONS)
    device: str = option("auto", help="device to compute on", choices=DEVICES)
    trust_task_file: str | None = option(None, help="the file of a teacher whose task came from one; its code is run")
    resume: bool = option(False, help="continue the run in the output folder")

    def problems(self) -> list[str]:
        """What no distillation can start with."""
        found = []
        if not 0 < self.temperature < float("inf"):
            found.append(f"--temperature {self.temperature}: must be above 0")
        if not 0 <= self.alpha <= 1:
            found.append(f"--alpha {self.alpha}: must lie between 0 and 1")
        if self.train is None and self.alpha == 0:
            found.append("--alpha 0: nothing is learnt from the teacher, and without --train there are no labels")
        if len(set(self.teacher)) < len(self.teacher):
            found.append("--teacher: a folder is named twice")
        return found
