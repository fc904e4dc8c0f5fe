"""`bertune.embed`: vectors of texts from any encoder, as sentence-transformers computes them."""

from collections.abc import Sequence
from pathlib import Path
from typing import cast

import numpy as np
import numpy.typing as npt

from bertune.checkpoints.source import build_encoder, open_checkpoint
from bertune.errors import InputError
from bertune.files.json_files import read_json
from bertune.hardware import choose_device, choose_dtype, fast_float32
from bertune.inference.network import Network, infer
from bertune.model.use import load
from bertune.tasks.embedding import Pair, PoolingHead
from bertune.tasks.options import POOLINGS, EmbeddingOptions
from bertune.tasks.texts import by_example, text_features
from bertune.tokenization.tokenizer import Tokenizer


class Embedder:
    """An encoder, ready to turn texts into vectors."""

    def __init__(
        self,
        encoder: str | Path = "minilm",
        *,
        pooling: str | None = None,
        max_seq_length: int | None = None,
        normalize: bool = True,
        device: str = "auto",
        precision: str = "auto",
    ) -> None:
        """Open an encoder.

        Args:
            encoder: a model folder or what `--encoder` takes; one that `--task embedding` left keeps its layers and its
                policy on long texts.
            pooling: mean or cls; None: what the folder says for sentence-transformers, else mean.
            max_seq_length: longest sequence in tokens; None: what the folder says, else all that the encoder takes.
            normalize: give vectors of length 1.
            device: auto, cpu, cuda or mps.
            precision: auto, bf16, fp16 or fp32.

        Raises:
            InputError: no encoder there, or an option it cannot have.
        """
        network, self.tokenizer, options, told_length = _opened(encoder)
        self.pooling = pooling or options.pooling
        if self.pooling not in POOLINGS:
            raise InputError(f"embed: pooling {self.pooling!r}; known: {', '.join(POOLINGS)}")
        most = network.encoder.config.max_position_embeddings
        self.max_seq_length = min(told_length or most, most) if max_seq_length is None else max_seq_length
        if not 3 <= self.max_seq_length <= most:
            raise InputError(f"embed: max_seq_length {self.max_seq_length}; must lie between 3 and {most}")
        self.long_text, self.normalize = options.long_text, normalize
        head = cast(PoolingHead, network.head)
        head.pooling, head.normalize = self.pooling, normalize
        self.width = head.mix.width if head.needs_layers else network.encoder.config.hidden_size
        target = choose_device(device)
        network.encoder.set_compute_dtype(choose_dtype(precision, target))
        self.network = network.to(target).eval()
        if target.type == "cpu":
            network.encoder.pack()
        else:
            network.record()

    def __call__(self, texts: Sequence[str], *, batch_size: int = 256) -> npt.NDArray[np.float32]:
        """Vectors of texts, in their order; of a text in several windows their mean. Shape: (texts, width)."""
        pairs = [Pair(text) for text in texts]
        features = text_features(pairs, self.tokenizer, self.max_seq_length, {}, self.long_text)
        with fast_float32(self.network.device):
            rows = infer(self.network, features, batch_size=batch_size).logits
        if not rows:
            return np.zeros((0, self.width), np.float32)
        vectors = by_example(rows, features, len(texts))
        if self.normalize and len(rows) > len(texts):
            vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
        return vectors


def embed(
    texts: Sequence[str],
    encoder: str | Path = "minilm",
    *,
    pooling: str | None = None,
    max_seq_length: int | None = None,
    normalize: bool = True,
    precision: str = "auto",
) -> npt.NDArray[np.float32]:
    """Vectors of texts. Shape: (texts, hidden). To embed more than once make an `Embedder`, whose arguments these are.

    Raises:
        InputError: no such encoder, an illegal option, something that is no text.
    """
    if isinstance(texts, str):
        raise InputError("embed takes a list of texts, not a single string; write [text]")
    return Embedder(encoder, pooling=pooling, max_seq_length=max_seq_length, normalize=normalize, precision=precision)(
        texts
    )


def _opened(encoder: str | Path) -> tuple[Network, Tokenizer, EmbeddingOptions, int | None]:
    """An encoder with pooling on it, in float32, and what its folder says of options and the longest sequence."""
    record = Path(encoder) / "bertune.json"
    described = read_json(record).get("task", {}) if record.is_file() else {}
    if not isinstance(described, dict):
        raise InputError(f"{record}: its task is {str(described)[:40]!r}, not as bertune wrote it")
    if described.get("name") == "embedding":
        model = load(encoder, device="cpu", precision="fp32")
        return model.network, model.tokenizer, model.task.options, model.max_seq_length
    with open_checkpoint(encoder) as checkpoint:
        pooling, length = _told(checkpoint.path)
        network = Network(build_encoder(checkpoint)[0], PoolingHead(pooling))
        return network, checkpoint.tokenizer, EmbeddingOptions(pooling=pooling), length


def _told(folder: Path) -> tuple[str, int | None]:
    """Pooling and longest sequence that a folder of sentence-transformers names."""
    pooling, length = "mean", None
    if (folder / "1_Pooling" / "config.json").is_file():
        config = read_json(folder / "1_Pooling" / "config.json")
        pooling = "cls" if config.get("pooling_mode_cls_token") else "mean"
    if (folder / "sentence_bert_config.json").is_file():
        length = read_json(folder / "sentence_bert_config.json").get("max_seq_length")
    elif (folder / "bertune.json").is_file():
        length = read_json(folder / "bertune.json").get("max_seq_length")
    return pooling, length if isinstance(length, int) else None
