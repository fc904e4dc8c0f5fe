"""Options of `bertune pretrain`."""

from dataclasses import dataclass
from typing import ClassVar

from bertune.option_values import broken_limits
from bertune.options import LR_SCHEDULES, option, run_option


@dataclass(frozen=True, kw_only=True)
class PretrainOptions:
    """Options of `bertune pretrain`. None stands for what fits the start or the data."""

    checks_limits: ClassVar[bool] = True

    encoder: str | None = option(None, help="pretrained encoder to start from: a folder, a checkpoint, or minilm")
    encoder_config: str | None = option(None, help="start from scratch: a bert_config.json or config.json")
    vocab: str | None = option(None, help="start from scratch: a vocab.txt")
    do_lower_case: bool | None = option(
        None,
        help="lower-case the text and strip accents (default: as the encoder declares; on from scratch)",
    )
    add_tokens: str | None = option(None, help="file of words to add to the vocabulary, one per line")
    train: list[str] = option(  # noqa: RUF009 (it makes a field)
        help="text, JSON lines, tables or TFRecord instances: files or patterns, gzipped or not"
    )
    validation: list[str] | None = option(  # noqa: RUF009
        None, help="text to evaluate on, instead of holding out a part of --train"
    )
    validation_share: float = option(
        0.05, help="share of documents held out of --train for evaluation; 0: none", minimum=0, maximum=0.9
    )
    max_validation_sequences: int = option(2000, help="largest number of sequences in an evaluation", minimum=1)
    output: str = run_option("output")
    lines: str = option(
        "auto",
        help="what a line of plain text is: a sentence, with blank lines between documents, or a document; auto: "
        "sentences where there are blank lines",
        choices=("auto", "sentences", "documents"),
    )
    text_column: str = option("text", help="column of the text in tables and JSON lines")
    next_sentence: bool | None = option(
        None,
        help="next-sentence prediction: also learn whether B follows A (default: if the checkpoint has a head for it)",
    )
    skip_short_documents: bool = option(
        False, help="with next-sentence prediction: leave out documents of one sentence"
    )
    short_sequences: float = option(
        0.1, help="with next-sentence prediction: share of documents that give shorter pairs", minimum=0, maximum=1
    )
    whole_words: bool = option(False, help="mask all pieces of a word together")
    words: str = option(
        "pieces",
        help="what --whole-words takes for a word: a piece and the ## pieces after it, or everything between "
        "two spaces (for segmented Chinese text)",
        choices=("pieces", "spaces"),
    )
    mask_probability: float = option(0.15, help="share of the tokens to mask and predict", minimum=0.001, maximum=0.9)
    cache: str | None = option(None, help="folder for tokenized corpora (default: the user's cache folder)")
    max_seq_length: int = option(128, help="longest sequence in tokens, special tokens included", minimum=5)
    batch_size: int = option(32, help="sequences per step", minimum=1)
    learning_rate: float | None = option(None, help="highest learning rate (default: 5e-5, from scratch 1e-4)", above=0)
    epochs: float = option(3.0, help="passes over the training data; fractions are allowed", above=0)
    max_steps: int | None = run_option("max_steps")
    evaluate_every: int | None = option(None, help="steps between evaluations (default: a tenth of the run)", minimum=1)
    warmup_ratio: float = run_option("warmup_ratio")
    lr_schedule: str | None = option(
        None, help="how the learning rate falls after the warm-up (default: linear)", choices=LR_SCHEDULES
    )
    weight_decay: float = run_option("weight_decay")
    max_grad_norm: float = run_option("max_grad_norm")
    gradient_accumulation: int = run_option("gradient_accumulation")
    activation_checkpointing: bool = run_option("activation_checkpointing")
    patience: int | None = run_option("patience")
    max_skipped: int = run_option("max_skipped")
    seed: int = option(42, help="seed of new weights, data order, masks and dropout", minimum=0)
    precision: str = run_option("precision")
    device: str = run_option("device")
    resume: bool = run_option("resume")
    checkpoint_every: int | None = run_option("checkpoint_every")
    workers: int | None = option(
        None,
        help="number of tokenizing processes; does not change the result (default: 1; with --engine ray one a core)",
        minimum=1,
    )
    engine: str = option(
        "local",
        help="what tokenizes the text: local: processes of this machine; ray: tasks of Ray; does not change the result",
        choices=("local", "ray"),
    )
    ray_address: str | None = option(None, help="address of a Ray cluster, or auto (default: Ray on this machine)")
    keep_checkpoints: int = run_option("keep_checkpoints")

    def problems(self) -> list[str]:
        """What no run can start with, each option by its flag."""
        found = broken_limits(self)
        scratch = self.encoder_config is not None or self.vocab is not None
        if (self.encoder is None) == (not scratch) or (scratch and None in (self.encoder_config, self.vocab)):
            found.append(
                "give either --encoder, to continue from a checkpoint, or both --encoder-config and --vocab, to start "
                "from scratch"
            )
        if self.engine != "ray" and self.ray_address is not None:
            found.append("--ray-address: is for --engine ray")
        return found
