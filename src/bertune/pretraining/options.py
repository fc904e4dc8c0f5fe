"""Options of `bertune pretrain`."""

from dataclasses import dataclass

from bertune.options import DEVICES, LR_SCHEDULES, PRECISIONS, option


@dataclass(frozen=True, kw_only=True)
class PretrainOptions:
    """Options of `bertune pretrain`. None stands for what fits the start or the data."""

    encoder: str | None = option(None, help="checkpoint to go on from: a folder, a checkpoint, or minilm")
    encoder_config: str | None = option(None, help="start from scratch: a bert_config.json or config.json")
    vocab: str | None = option(None, help="vocab.txt of a start from scratch")
    do_lower_case: bool | None = option(
        None,
        help="lower-case the text and strip accents (default: as the encoder says; yes in a start from scratch)",
    )
    add_tokens: str | None = option(None, help="file of words, one a line, to add to the vocabulary")
    train: list[str] = option(  # noqa: RUF009 (it makes a field)
        help="text, JSON lines, tables or TFRecord instances; names or patterns, gzipped or not"
    )
    validation: list[str] | None = option(  # noqa: RUF009
        None, help="text to evaluate on instead of a part held out of --train"
    )
    validation_share: float = option(0.05, help="share of documents held out of --train for evaluation; 0: none")
    max_validation_sequences: int = option(2000, help="most sequences of an evaluation")
    output: str = option(help="folder for the model and the run; must not hold another run")
    lines: str = option(
        "auto",
        help="what a line of plain text is: a sentence, with blank lines between documents, or a document; auto: "
        "sentences where there are blank lines",
        choices=("auto", "sentences", "documents"),
    )
    text_column: str = option("text", help="column of the text in tables and JSON lines")
    next_sentence: bool | None = option(
        None, help="also learn whether B follows A (default: where the checkpoint has a head for it)"
    )
    skip_short_documents: bool = option(False, help="leave out documents of one sentence where next sentence is on")
    short_sequences: float = option(0.1, help="share of documents with shorter pairs, where next sentence is on")
    whole_words: bool = option(False, help="mask all pieces of a word together")
    words: str = option(
        "pieces",
        help="what a word is to --whole-words: a piece and the ## pieces after it, or all between two spaces, for text "
        "that was segmented (Chinese)",
        choices=("pieces", "spaces"),
    )
    mask_probability: float = option(0.15, help="share of tokens to predict")
    cache: str | None = option(None, help="folder for tokenized corpora (default: the user's cache folder)")
    max_seq_length: int = option(128, help="longest sequence in tokens, special tokens included")
    batch_size: int = option(32, help="sequences an update")
    learning_rate: float | None = option(None, help="highest learning rate (default: 5e-5, from scratch 1e-4)")
    epochs: float = option(3.0, help="passes over the training data; fractions are allowed")
    max_steps: int | None = option(None, help="stop after this many updates instead")
    evaluate_every: int | None = option(None, help="updates between evaluations (default: a tenth of the run)")
    warmup_ratio: float = option(0.1, help="share of the updates over which the learning rate rises")
    lr_schedule: str | None = option(
        None, help="how the learning rate falls after the warm-up (default: linear)", choices=LR_SCHEDULES
    )
    weight_decay: float = option(0.01, help="decay of matrices, times the learning rate; biases and norms are spared")
    max_grad_norm: float = option(1.0, help="clip gradients to this joint norm; 0: never")
    gradient_accumulation: int = option(1, help="parts that a batch is computed in, to save memory")
    activation_checkpointing: bool = option(False, help="compute activations twice, to save memory")
    patience: int | None = option(None, help="stop after this many evaluations without improvement")
    max_skipped: int = option(10, help="updates in a row without finite numbers before the run stops")
    seed: int = option(42, help="governs new weights, order, masks and dropout")
    precision: str = option("auto", help="numbers to compute in", choices=PRECISIONS)
    device: str = option("auto", help="where to compute", choices=DEVICES)
    resume: bool = option(False, help="go on with the run that lies in the output folder")
    checkpoint_every: int | None = option(
        None, help="updates between checkpoints for --resume, besides those after evaluations"
    )
    workers: int = option(1, help="processes that tokenize; any number gives the same corpus", minimum=1)
    keep_checkpoints: int = option(2, help="newest checkpoints that stay; the one before the last is for emergencies")

    def problems(self) -> list[str]:
        """What no run can start with, each option by its flag."""
        found: list[str] = []
        scratch = self.encoder_config is not None or self.vocab is not None
        if (self.encoder is None) == (not scratch) or (scratch and None in (self.encoder_config, self.vocab)):
            found.append(
                "give either --encoder, to go on from a checkpoint, or both --encoder-config and --vocab, to start "
                "from scratch"
            )
        least = {
            "max_seq_length": 5,
            "batch_size": 1,
            "max_steps": 1,
            "evaluate_every": 1,
            "max_validation_sequences": 1,
            "gradient_accumulation": 1,
            "patience": 1,
            "checkpoint_every": 1,
            "keep_checkpoints": 1,
            "workers": 1,
            "seed": 0,
            "max_skipped": 1,
            "weight_decay": 0,
            "max_grad_norm": 0,
        }
        for name, low in least.items():
            value = getattr(self, name)
            if value is not None and value < low:
                found.append(f"--{name.replace('_', '-')} {value}: must be at least {low}")
        for name in ("learning_rate", "epochs"):
            value = getattr(self, name)
            if value is not None and not 0 < value < float("inf"):
                found.append(f"--{name.replace('_', '-')} {value}: must be above 0")
        for name, low_end, high_end in (
            ("warmup_ratio", 0.0, 1.0),
            ("short_sequences", 0.0, 1.0),
            ("mask_probability", 0.001, 0.9),
            ("validation_share", 0.0, 0.9),
        ):
            value = getattr(self, name)
            if not low_end <= value <= high_end:
                found.append(f"--{name.replace('_', '-')} {value}: must lie between {low_end} and {high_end}")
        return found
