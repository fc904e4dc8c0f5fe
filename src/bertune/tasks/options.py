"""Options of bertune's own tasks, and their legal values.

They stand apart from the tasks, and this file imports nothing that computes: a command line is read before torch is.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from bertune.data.table_options import TableOptions
from bertune.errors import InputError
from bertune.options import option

LAYERS = ("last", "mix", "last4")
LONG_TEXT = ("truncate", "head-tail", "window")
READ_AS = ("auto", "iob1", "bio", "bioes", "io")
WRITTEN_AS = ("bio", "bioes", "io")
POOLINGS = ("mean", "cls")
FIRST_TOKEN, PAIR = "cls", "pair"
CANDIDATES = 32
"""Answers computed for a mask in prediction."""


MANY_LABELS = 100
"""Above so many labels a prediction shows the best ones alone."""
SHOWN_OF_MANY = 10


@dataclass(frozen=True, kw_only=True)
class ScoreOptions:
    """Which labels' probabilities a prediction shows."""

    top_k: int | None = option(
        None,
        help=f"number of labels whose probabilities a prediction shows, best first (default: all, or {SHOWN_OF_MANY} "
        f"of more than {MANY_LABELS})",
        minimum=1,
    )
    all_scores: bool = option(False, help="show the probabilities of all labels, however many there are")


@dataclass(frozen=True, kw_only=True)
class ThresholdOptions:
    """Scores from which an answer stands. From Python `threshold` may be a number or a mapping too."""

    threshold: list[str] | None = option(  # noqa: RUF009
        None,
        help="leave answers with a lower score to a person (label null, review true): one number, or "
        "LABEL=NUMBER …; with several labels per text: probability from which a label is given, instead of "
        "the tuned one",
    )

    def check_threshold(self) -> None:
        """Bring the thresholds into one form, and refuse impossible numbers.

        Raises:
            InputError: naming the option.
        """
        spec: object = self.threshold
        if isinstance(spec, Mapping):
            spec = [f"{label}={number}" for label, number in spec.items()]
        elif isinstance(spec, str | int | float):
            spec = [str(spec)]
        parts = [str(part) for part in spec] if isinstance(spec, list | tuple) else []
        for part in parts:
            _, equals, number = part.rpartition("=")
            if not _is_share(number) or (not equals and len(parts) > 1):
                raise InputError(
                    f"--threshold {part}: expected one number from 0 to 1, or LABEL=NUMBER with such numbers"
                )
        object.__setattr__(self, "threshold", parts or None)


@dataclass(frozen=True, kw_only=True)
class ReviewOptions(ThresholdOptions):
    """Which answers are left to a person."""

    automate_at: float | None = option(
        None,
        help="pick the threshold above which this share of the validation rows was right, such as 0.95, and "
        "leave answers below it to a person",
        minimum=0,
        maximum=1,
    )


def _is_share(text: str) -> bool:
    try:
        return 0 <= float(text) <= 1
    except ValueError:
        return False


def layers_option() -> str:
    """The option `--layers`, for a task's dataclass of options."""
    description = "what the head sees: the last layer, a learned mix of all layers, or the last four side by side"
    made: str = option("last", help=description, choices=LAYERS, fixed=True)
    return made


def text_pooling_option() -> str:
    """The option `--pooling` of heads on whole texts, for a task's dataclass of options."""
    description = (
        "what the head reads of a text: the first token, as BERT does; or of pairs the means of both texts' tokens, "
        "their difference and product; auto: that, for pairs and an encoder of sentence-transformers with mean pooling"
    )
    made: str = option(FIRST_TOKEN, help=description, choices=(FIRST_TOKEN, PAIR, "auto"), fixed=True)
    return made


def long_text_option(default: str = "truncate") -> str:
    """The option `--long-text`, for a task's dataclass of options."""
    description = "texts longer than --max-seq-length: cut the end, cut the middle, or read overlapping windows"
    made: str = option(default, help=description, choices=LONG_TEXT)
    return made


@dataclass(frozen=True)
class TextColumns(TableOptions):
    """Which columns of a table hold what. Left out, they are found by their customary names."""

    text_column: str | None = option(None, help="column of the text (or of the first text of a pair)")
    pair_column: str | None = option(None, help="column of the second text of a pair")
    label_column: str | None = option(None, help="column of the label")


@dataclass(frozen=True, kw_only=True)
class FocalLossOptions:
    """How sure the model shall be, and how easy examples count in training."""

    label_smoothing: float = option(
        0.0, help="label smoothing: share of the target that is spread over all classes", training=True
    )
    focal_gamma: float = option(
        0.0,
        help="focal loss: how much less examples count that are already right; 0: all count the same",
        training=True,
    )

    def __post_init__(self) -> None:
        """Refuse impossible numbers.

        Raises:
            InputError: naming the option.
        """
        if not 0 <= self.label_smoothing < 1:
            raise InputError(f"--label-smoothing {self.label_smoothing}: must be at least 0 and below 1")
        if not 0 <= self.focal_gamma < float("inf"):
            raise InputError(f"--focal-gamma {self.focal_gamma}: must be at least 0")


@dataclass(frozen=True, kw_only=True)
class LossOptions(FocalLossOptions):
    """How classes and easy examples count in training. From Python `class_weights` may be a mapping or numbers too."""

    class_weights: list[str] | None = option(  # noqa: RUF009
        None,
        help="weights of the classes in the loss: balanced (every class counts the same, however rare), "
        "LABEL=WEIGHT … (others 1), or one number per label in order (default: none)",
        training=True,
    )

    def __post_init__(self) -> None:
        """Bring the weights into one form, and refuse impossible numbers.

        Raises:
            InputError: naming the option.
        """
        super().__post_init__()
        weights: object = self.class_weights
        if isinstance(weights, Mapping):
            weights = [f"{label}={weight}" for label, weight in weights.items()]
        elif isinstance(weights, str):
            weights = [weights]
        elif weights is not None:
            weights = [str(part) for part in self.class_weights or ()]
        object.__setattr__(self, "class_weights", weights or None)


@dataclass(frozen=True)
class TextOptions(TextColumns, LossOptions, ScoreOptions, ReviewOptions):
    """Columns, the loss, what becomes of long texts, what the head sees, and which answers stand."""

    long_text: str = long_text_option()
    layers: str = layers_option()
    pooling: str = text_pooling_option()

    def __post_init__(self) -> None:
        """Raises InputError for impossible numbers, naming the option."""
        super().__post_init__()
        self.check_threshold()


@dataclass(frozen=True)
class GlueOptions(TextOptions):
    """GLUE's files have fixed columns; XNLI's also have a language."""

    language: str | None = option(None, help="XNLI: language of the rows to read from files with several languages")


@dataclass(frozen=True)
class MultiLabelOptions(LossOptions, ScoreOptions, ThresholdOptions, TableOptions):
    """Columns of a table: labels in one column, as a list or joined, or in a column each."""

    text_column: str | None = option(None, help="column of the text (or of the first text of a pair)")
    pair_column: str | None = option(None, help="column of the second text of a pair")
    label_column: str | None = option(
        None, help="column of the labels: a list, or names separated by --label-delimiter"
    )
    label_delimiter: str = option("|", help="separator between the labels of a text")
    label_columns: list[str] | None = option(None, help="instead: one column of 0 and 1 for each label")  # noqa: RUF009
    label_names: list[str] | None = option(  # noqa: RUF009
        None, help="names of the labels, in order, if rows hold their numbers or lists of 0 and 1"
    )
    long_text: str = long_text_option()
    layers: str = layers_option()

    def __post_init__(self) -> None:
        """Raises InputError for impossible numbers, naming the option."""
        super().__post_init__()
        self.check_threshold()


@dataclass(frozen=True)
class RegressionOptions(TableOptions):
    """Columns of a table, and units."""

    text_column: str | None = option(None, help="column of the text (or of the first text of a pair)")
    pair_column: str | None = option(None, help="column of the second text of a pair")
    label_column: str | None = option(None, help="column of the number")
    long_text: str = long_text_option()
    layers: str = layers_option()
    pooling: str = text_pooling_option()
    standardize: bool = option(
        False,
        help="standardize the target (subtract the mean, divide by the standard deviation); for numbers far "
        "from the range 0 to 10",
        fixed=True,
    )
    interval: float | None = option(
        None,
        help="also predict low and high, between which this share of the true numbers is, such as 0.9; by the errors "
        "on the validation rows",
    )

    def __post_init__(self) -> None:
        """Raises InputError for a share that is none."""
        if self.interval is not None and not 0 < self.interval < 1:
            raise InputError(f"--interval {self.interval}: must be between 0 and 1, such as 0.9")


@dataclass(frozen=True)
class EmbeddingOptions(TableOptions):
    """Columns of a table of pairs, long texts, pooling, and the loss's temperature."""

    text_column: str | None = option(None, help="column of the first text (a query)")
    pair_column: str | None = option(None, help="column of the text that belongs to it (a matching passage)")
    negative_column: str | None = option(
        None,
        help="column of a text that looks similar but does not belong (a hard negative); cells may be empty",
    )
    label_column: str | None = option(
        None, help="column of the pairs' labels: 0 and 1, or a similarity score (default: found by its name)"
    )
    pair_loss: str = option(
        "auto",
        help="ranking: every row is a matching pair; contrastive: labels 0 and 1; cosine: the cosine learns a "
        "score; auto: by the labels",
        choices=("auto", "ranking", "contrastive", "cosine"),
    )
    margin: float | None = option(
        None,
        help="contrastive: distance (1 - cosine) beyond which pairs labelled 0 add no loss (default: 0.5)",
        training=True,
    )
    long_text: str = long_text_option()
    layers: str = layers_option()
    pooling: str = option(
        "auto",
        help="how token vectors become one vector; auto: as the sentence-transformers folder says, otherwise mean",
        choices=("auto", *POOLINGS),
        fixed=True,
    )
    scale: float = option(20.0, help="factor on cosines before the softmax over the batch", training=True)


@dataclass(frozen=True)
class ChoiceOptions(FocalLossOptions, TableOptions):
    """The number of choices, what becomes of long contexts, the loss, and what the head sees."""

    blank: str | None = option(
        None, help="marks the blank that the choices fill, such as [BLANK] (default: a lone run of underscores)"
    )
    choices: int | None = option(None, help="number of choices that every question must have (default: two or more)")
    long_text: str = long_text_option()
    layers: str = layers_option()


@dataclass(frozen=True)
class QuestionOptions(TableOptions):
    """Windows, decoding, and the names of a flat file's columns."""

    long_text: str = option(
        "window",
        help="contexts longer than --max-seq-length: read overlapping windows, or cut the end",
        choices=("window", "truncate"),
    )
    layers: str = layers_option()
    doc_stride: int = option(
        128, help="tokens from the start of one window of a long context to the start of the next", minimum=1
    )
    max_query_length: int = option(64, help="longest question in tokens; the rest is truncated", minimum=1)
    max_answer_length: int = option(30, help="longest answer in tokens", minimum=1)
    n_best: int = option(20, help="candidates considered for a question", minimum=1)
    top_k: int = option(1, help="number of answers per question; more than 1 adds a list of them", minimum=1)
    null_threshold: float | None = option(
        None, help="answer nothing if that scores this much above the best span (default: tuned on validation data)"
    )
    qa_metric: str = option(
        "auto",
        help="rules for comparing answers: those of SQuAD, CMRC 2018 or MLQA, or by characters (Japanese); "
        "auto: by the file's name and language",
        choices=("auto", "squad", "cmrc", "mlqa", "characters"),
    )
    skip_bad: bool = option(
        False, help="leave out questions with an error, such as a wrong answer_start, and list them"
    )
    fix_offsets: bool = option(False, help="correct a wrong answer_start if the answer occurs only once in the context")
    question_column: str = option("question", help="column of the question, in tables")
    context_column: str = option("context", help="column of the context, in tables")


@dataclass(frozen=True)
class ReadingOptions(TableOptions):
    """Where a file keeps tokens, tags, texts and entities."""

    scheme: str = option("auto", help="tag scheme of the file; auto: recognised from the tags", choices=READ_AS)
    token_at: int = option(0, help="CoNLL files: column of the token, from 0; -1 is the last")
    tag_at: int = option(-1, help="CoNLL files: column of the tag")
    tokens_column: str = option("tokens", help="tables: column of the list of tokens")
    tag_names: list[str] | None = option(  # noqa: RUF009
        None, help="tables: names of the tags, in order, if rows hold their numbers"
    )
    tags_column: str | None = option(
        None, help="tables: column of the list of tags (default: tags, ner_tags or labels)"
    )
    text_column: str = option("text", help="annotations: column of the text")
    entities_column: str | None = option(None, help="annotations: column of the entities")


@dataclass(frozen=True)
class TokenOptions(ReadingOptions, LossOptions):
    """How files are read, and what the model makes of them."""

    long_text: str = long_text_option("window")
    layers: str = layers_option()
    model_scheme: str = option("bio", help="tag scheme of the model", choices=WRITTEN_AS, fixed=True)
    doc_stride: int | None = option(
        None,
        help="tokens from the start of one window of a long text to the start of the next (default: half a window)",
        minimum=1,
    )


@dataclass(frozen=True)
class PretrainingOptions(TableOptions):
    """Options of a model for masked words."""

    text_column: str = option("text", help="column of the text in tables and JSON lines")
    mask_probability: float = option(0.15, help="share of a sequence's tokens to predict", training=True)
    top_k: int = option(5, help=f"answers for a [MASK], at most {CANDIDATES}", minimum=1)
