"""Where pre-training starts: a checkpoint with its heads, or new weights; with more words where asked for."""

import contextlib
import dataclasses
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from bertune.checkpoints.google_config import read_bert_config
from bertune.checkpoints.huggingface import config_from_json
from bertune.checkpoints.names import Rename, to_ours
from bertune.checkpoints.source import Checkpoint, SourceOptions, build_encoder, open_checkpoint
from bertune.encoder.config import EncoderConfig
from bertune.encoder.encoder import Encoder
from bertune.errors import InputError, Problems
from bertune.files.json_files import read_json
from bertune.network import Network
from bertune.pretraining.options import PretrainOptions
from bertune.tasks.masking.head import PretrainingHead, head_names
from bertune.tokenization.tokenizer import Tokenizer
from bertune.tokenization.vocabulary import Extension, extended

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class InitialModel:
    """What a run begins with. name: what the model card says it came from.

    checkpoint: None from scratch.  masked_lm, next_sentence: the heads' tensors where the checkpoint has them.
    extension: words to add, where there are new ones.
    """

    name: str
    config: EncoderConfig
    tokenizer: Tokenizer
    checkpoint: Checkpoint | None = None
    masked_lm: dict[str, Tensor] | None = None
    next_sentence: dict[str, Tensor] | None = None
    extension: Extension | None = None

    def network(self, *, next_sentence: bool) -> Network:
        """Encoder and heads, with the checkpoint's weights where it has them and new ones elsewhere.

        Raises:
            InputError: an encoder tensor that is missing or has another shape.
        """
        if self.checkpoint is None:
            encoder = Encoder(self.config)
        else:
            encoder, report = build_encoder(self.checkpoint)
            logger.info("%s", report)
        head = PretrainingHead(encoder.config, next_sentence=next_sentence)
        taken = (self.masked_lm or {}) | ((self.next_sentence or {}) if next_sentence else {})
        left = head.load_state_dict({name: tensor.float() for name, tensor in taken.items()}, strict=False)
        if taken:
            logger.info("heads: %d tensors reused from %s", len(taken), self.name)
        if left.missing_keys:
            logger.info("heads: new: %s", ", ".join(left.missing_keys))
        network = Network(encoder, head)
        return network if self.extension is None else _widened(network, self.extension)


def _widened(network: Network, extension: Extension) -> Network:
    """The network with a vector and a bias for every new word, the means of its pieces'."""
    old, head = network.encoder, network.head
    assert isinstance(head, PretrainingHead)
    table = extension.rows(old.embeddings.word.weight.data)
    config = dataclasses.replace(old.config, vocab_size=len(table))
    encoder = Encoder(config)
    encoder.load_state_dict(old.state_dict() | {"embeddings.word.weight": table})
    wide = PretrainingHead(config, next_sentence=head.next_sentence is not None)
    bias = extension.rows(head.masked_lm.output_bias.data)
    wide.load_state_dict(head.state_dict() | {"masked_lm.output_bias": bias})
    return Network(encoder, wide)


@contextlib.contextmanager
def open_initial_model(options: PretrainOptions) -> Iterator[InitialModel]:
    """Read the start that the options name.

    Raises:
        InputError: no such checkpoint or files, files that do not fit together, a vocabulary without [MASK].
    """
    if options.encoder is not None:
        with open_checkpoint(options.encoder, options=SourceOptions(do_lower_case=options.do_lower_case)) as checkpoint:
            yield _extended(_from_checkpoint(checkpoint), options)
    else:
        yield _extended(_from_scratch(options), options)


def _from_checkpoint(checkpoint: Checkpoint) -> InitialModel:
    if checkpoint.config.family != "bert":  # others shape and name their heads for masked words in their own ways
        raise InputError(
            f"--encoder {checkpoint.source}: is of family {checkpoint.config.family}; pre-training goes on from BERT's"
        )
    tensors = dict(checkpoint.tensors)
    if "cls.predictions.decoder.bias" in tensors:  # the same vector under its other name
        tensors.setdefault("cls.predictions.bias", tensors["cls.predictions.decoder.bias"])
    decoder, words = tensors.get("cls.predictions.decoder.weight"), tensors.get("embeddings.word_embeddings.weight")
    if decoder is not None and words is not None and not (decoder.shape == words.shape and torch.equal(decoder, words)):
        logger.warning("%s: has word vectors of its own for predictions; the encoder's are used", checkpoint.source)
    masked, pair = (_head(names, tensors) for names in head_names(checkpoint.dialect))
    start = InitialModel(checkpoint.source, checkpoint.config, checkpoint.tokenizer, checkpoint, masked, pair)
    with torch.device("meta"):
        shapes = {
            name: t.shape for name, t in PretrainingHead(checkpoint.config, next_sentence=True).named_parameters()
        }
    problems = Problems()
    problems.extend(
        f"{checkpoint.source}: the head's tensor {name} has shape {tuple(tensor.shape)}, expected {tuple(shapes[name])}"
        for name, tensor in ((masked or {}) | (pair or {})).items()
        if tensor.shape != shapes[name]
    )
    problems.raise_if_any()
    return start


def _head(names: list[Rename], tensors: dict[str, Tensor]) -> dict[str, Tensor] | None:
    """A head's tensors by our names; None where not all of them are there."""
    found, missing, _ = to_ours(names, tensors)
    return None if missing else found


def _from_scratch(options: PretrainOptions) -> InitialModel:
    config_file, vocabulary = Path(options.encoder_config or ""), Path(options.vocab or "")
    problems = Problems()
    for flag, path in (("--encoder-config", config_file), ("--vocab", vocabulary)):
        if not path.is_file():
            problems.add(f"{flag} {path}: no such file")
    problems.raise_if_any()
    settings = read_json(config_file)
    theirs = "model_type" in settings  # as transformers writes it; there "gelu" is the exact form
    config = config_from_json(settings, str(config_file)) if theirs else read_bert_config(config_file)
    tokenizer = Tokenizer.from_vocab(vocabulary, do_lower_case=options.do_lower_case is not False)
    if tokenizer.vocab_size != config.vocab_size:
        raise InputError(
            f"{vocabulary} has {tokenizer.vocab_size} entries, but {config_file} says vocab_size {config.vocab_size}; "
            f"set it to {tokenizer.vocab_size}, or name the vocabulary that belongs to it"
        )
    return InitialModel(str(config_file), config, tokenizer)


def _extended(start: InitialModel, options: PretrainOptions) -> InitialModel:
    where = options.vocab or options.encoder
    if start.tokenizer.special.mask is None:
        raise InputError(f"{where}: the vocabulary lacks [MASK], which masked words need; add a line [MASK] to it")
    if options.add_tokens is None:
        return start
    if not Path(options.add_tokens).is_file():
        raise InputError(f"--add-tokens {options.add_tokens}: no such file")
    extension = extended(start.tokenizer, Path(options.add_tokens))
    if extension is None:
        logger.info("--add-tokens: the vocabulary has all of these words already")
        return start
    shown = ", ".join(extension.words[:5]) + (", …" if len(extension.words) > 5 else "")
    logger.info("vocabulary: %d words added (%s), each with the mean of its pieces", len(extension.words), shown)
    return dataclasses.replace(start, tokenizer=extension.tokenizer, extension=extension)
