"""`bertune.embed`: vectors of texts from any encoder, as sentence-transformers computes them."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import numpy as np
import numpy.typing as npt
from tokenizers.normalizers import Lowercase

from bertune.argument_names import python_call
from bertune.checkpoints.sentence_transformers import (
    POOLING_MODES,
    Module,
    SentenceFolder,
    pooling_modes,
    read_sentence_folder,
)
from bertune.checkpoints.source import SourceOptions, build_encoder, open_checkpoint
from bertune.data.in_memory import as_items, as_table, texts_of
from bertune.encoder.float32_route import fast_float32, pack_for_prediction
from bertune.errors import InputError
from bertune.files.json_files import read_json
from bertune.hardware import choose_device, choose_dtype
from bertune.inference.evaluation import infer, record_forwards
from bertune.inference.sentence_modules import SentenceHead
from bertune.model.use import load
from bertune.network import Network
from bertune.option_values import whole_number
from bertune.tasks.embedding import Pair
from bertune.tasks.options import POOLINGS
from bertune.tasks.shared.heads import PoolingHead
from bertune.tasks.shared.texts import by_example, text_features
from bertune.tokenization.tokenizer import Tokenizer


class Embedder:
    """An encoder, ready to turn texts into vectors.

    Attributes:
        max_seq_length: longest sequence in tokens; longer texts are cut.
        width: numbers of a vector.
        prompts: texts that the folder names to be put before a text (`query`, `document`), by name.
    """

    def __init__(
        self,
        encoder: str | Path = "minilm",
        *,
        pooling: str | None = None,
        max_seq_length: int | None = None,
        normalize: bool | None = None,
        device: str = "auto",
        precision: str = "auto",
        do_lower_case: bool | None = None,
    ) -> None:
        """Open an encoder.

        Args:
            encoder: a model folder or what `--encoder` takes. A folder of sentence-transformers runs its own modules
                (pooling, dense layers, normalisation); one that `--task embedding` left keeps its layers and its policy
                on long texts.
            pooling: mean, cls, max, mean_sqrt_len_tokens, weightedmean or lasttoken; None: what the folder says, else
                mean.
            max_seq_length: longest sequence in tokens; None: what the folder says, else all that the encoder takes.
            normalize: give vectors of length 1; None: as a folder of sentence-transformers says, else yes.
            device: auto, cpu, cuda or mps.
            precision: auto, bf16, fp16 or fp32.
            do_lower_case: lower text or not, whatever the encoder says of its casing; None: as it says.

        Raises:
            InputError: no encoder there, a module that is not supported, or an option it cannot have.
        """
        if pooling is not None and pooling not in POOLING_MODES:
            raise InputError(f"embed: pooling {pooling!r}; known: {', '.join(POOLING_MODES)}")
        opened = _opened(encoder, pooling, normalize, do_lower_case)
        network, self.tokenizer, self.long_text = opened.network, opened.tokenizer, opened.long_text
        self.normalize, self.width, self.prompts = opened.normalize, opened.width, opened.folder.prompts
        self._folder = opened.folder
        most = network.encoder.config.max_position_embeddings
        if max_seq_length is None:
            self.max_seq_length = min(opened.folder.max_seq_length or most, most)
        else:
            self.max_seq_length = whole_number("embed: max_seq_length", max_seq_length)
        if not 3 <= self.max_seq_length <= most:
            raise InputError(f"embed: max_seq_length {self.max_seq_length}; must lie between 3 and {most}")
        target = choose_device(device)
        network.encoder.set_compute_dtype(choose_dtype(precision, target))
        self.network = network.to(target).eval()
        if target.type == "cpu":
            pack_for_prediction(network.encoder, target)
        else:
            record_forwards(network)

    def __call__(
        self, texts: Iterable[str], *, batch_size: int = 256, prompt: str | None = None, prompt_name: str | None = None
    ) -> npt.NDArray[np.float32]:
        """Vectors of texts, in their order; of a text in several windows their mean. Shape: (texts, width).

        Args:
            texts: what to embed, from any iterable; or a table with one column of text.
            batch_size: largest number of sequences in a batch.
            prompt: a text to put before each; None: the one of `prompt_name`.
            prompt_name: one of `prompts`; None: the folder's default prompt, where it names one.

        Raises:
            InputError: something that is no text, or an unknown prompt.
        """
        batch_size = whole_number("embed: batch_size", batch_size)
        table = as_table(texts)
        texts = list(as_items(texts, "embed", "text")) if table is None else texts_of(table, "embed")
        before = self._prompt(prompt, prompt_name)
        self._skip(before)
        pairs = [Pair(self._lowered(before + text) if isinstance(text, str) else text) for text in texts]
        features = text_features(pairs, self.tokenizer, self.max_seq_length, {}, self.long_text)
        with fast_float32(self.network.device):
            rows = infer(self.network, features, batch_size=batch_size).logits
        if not rows:
            return np.zeros((0, self.width), np.float32)
        vectors = by_example(rows, features, len(texts))
        if self.normalize and len(rows) > len(texts):
            vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
        return vectors

    def _prompt(self, prompt: str | None, name: str | None) -> str:
        if prompt is not None:
            return prompt
        if name is not None and name not in self.prompts:
            known = ", ".join(self.prompts) or "none"
            raise InputError(f"embed: prompt_name {name!r}; this model's prompts: {known}")
        name = name or self._folder.default_prompt
        return self.prompts.get(name, "") if name else ""

    def _skip(self, prompt: str) -> None:
        """Tell pooling how many tokens a prompt has, where pooling leaves prompts out."""
        head = self.network.head
        if isinstance(head, SentenceHead) and head.excludes_prompt:
            length = min(1 + len(self.tokenizer.encode([self._lowered(prompt)])[0]), self.max_seq_length - 1)
            head.skip(length if prompt else 0)

    def _lowered(self, text: str) -> str:
        lower = self._folder.do_lower_case and not self.tokenizer.do_lower_case
        return str(Lowercase().normalize_str(text)) if lower else text


@python_call
def embed(
    texts: Iterable[str],
    encoder: str | Path = "minilm",
    *,
    pooling: str | None = None,
    max_seq_length: int | None = None,
    normalize: bool | None = None,
    precision: str = "auto",
    prompt_name: str | None = None,
) -> npt.NDArray[np.float32]:
    """Vectors of texts. Shape: (texts, width). To embed more than once make an `Embedder`, whose arguments these are.

    Raises:
        InputError: no such encoder, an illegal option, something that is no text.
    """
    made = Embedder(encoder, pooling=pooling, max_seq_length=max_seq_length, normalize=normalize, precision=precision)
    return made(texts, prompt_name=prompt_name)


@dataclass(frozen=True)
class _Opened:
    """A network whose head gives vectors, in float32, and how texts become its input."""

    network: Network
    tokenizer: Tokenizer
    folder: SentenceFolder
    long_text: str
    normalize: bool
    width: int


def _opened(
    encoder: str | Path, pooling: str | None, normalize: bool | None, do_lower_case: bool | None = None
) -> _Opened:
    record = Path(encoder) / "bertune.json"
    described = read_json(record) if record.is_file() else {}
    task = described.get("task", {})
    if not isinstance(task, dict):
        raise InputError(f"{record}: its task is {str(task)[:40]!r}, not as bertune wrote it")
    if task.get("name") == "embedding":
        return _own_model(encoder, pooling, normalize is not False)
    with open_checkpoint(encoder, options=SourceOptions(do_lower_case=do_lower_case)) as checkpoint:
        folder = read_sentence_folder(checkpoint.folder, checkpoint.path)
        if isinstance(length := described.get("max_seq_length"), int):
            folder = replace(folder, max_seq_length=length)
        modules = folder.modules
        if modules is None:
            modules, normalize = (_pooling_alone(checkpoint.path),), normalize is not False
        if pooling is not None:
            modules = tuple(_with_pooling(module, pooling) for module in modules)
        head = SentenceHead(
            modules,
            checkpoint.config,
            normalize=normalize,
            truncate_dim=folder.truncate_dim,
            all_layers=bool(checkpoint.settings.get("output_hidden_states")),
        )
        network = Network(build_encoder(checkpoint)[0], head)
        return _Opened(network, checkpoint.tokenizer, folder, "truncate", bool(normalize), head.width)


def _own_model(encoder: str | Path, pooling: str | None, normalize: bool) -> _Opened:
    """A model of `--task embedding`; an own head is kept for a learned mix of layers."""
    model = load(encoder, device="cpu", precision="fp32")
    head = cast(PoolingHead, model.network.head)
    head.normalize = normalize
    if pooling not in {None, *POOLINGS}:
        raise InputError(f"embed: pooling {pooling!r}; models of --task embedding have: {', '.join(POOLINGS)}")
    head.pooling = pooling or model.task.options.pooling
    width = head.mix.width if head.needs_layers else model.network.encoder.config.hidden_size
    folder = SentenceFolder(max_seq_length=model.max_seq_length)
    return _Opened(model.network, model.tokenizer, folder, model.task.options.long_text, normalize, width)


def _pooling_alone(folder: Path) -> Module:
    """Pooling for a folder without modules.json: what a 1_Pooling folder says, else the mean."""
    file = folder / "1_Pooling" / "config.json"
    modes = pooling_modes(read_json(file), str(file)) if file.is_file() else ("mean",)
    return Module("Pooling", {"modes": modes, "include_prompt": True})


def _with_pooling(module: Module, pooling: str) -> Module:
    return replace(module, config={**module.config, "modes": (pooling,)}) if module.kind == "Pooling" else module
