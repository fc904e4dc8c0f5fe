"""An encoder from any source, written in another layout."""

import logging
import shutil
import tempfile
from pathlib import Path

from bertune.checkpoints import google, huggingface
from bertune.checkpoints.names import to_theirs
from bertune.checkpoints.source import build_encoder, open_checkpoint
from bertune.errors import InputError

logger = logging.getLogger(__name__)


def convert(source: str, folder: Path, *, layout: str = "huggingface") -> None:
    """Write the encoder of `source` and its vocabulary into a new folder; written beside and renamed.

    Args:
        source: as for `open_encoder`.
        folder: must not exist, or be empty.
        layout: `huggingface` (config.json, model.safetensors, tokenizer files) or `google` (bert_model.ckpt,
            bert_config.json, vocab.txt).

    Raises:
        InputError: an unreadable source, or a folder that holds something.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"--output {folder}: exists and is not empty; name a new folder")
    with open_checkpoint(source) as checkpoint:
        encoder, report = build_encoder(checkpoint)
        logger.info("%s", report)
        folder.parent.mkdir(parents=True, exist_ok=True)
        beside = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
        beside.chmod(0o755)
        try:
            config, state = encoder.config, encoder.state_dict()
            if layout == "google":
                tokens = checkpoint.tokenizer.tokens(range(checkpoint.tokenizer.vocab_size))
                google.write_google_checkpoint(beside, config, state, tokens)
            else:
                settings = huggingface.config_to_json(config) | {"architectures": ["BertModel"]}
                tensors = to_theirs(huggingface.encoder_names(config), state)
                huggingface.write_huggingface(beside, settings, tensors)
                checkpoint.tokenizer.save(beside, max_length=config.max_position_embeddings)
            if folder.exists():
                folder.rmdir()
            beside.rename(folder)
        finally:
            shutil.rmtree(beside, ignore_errors=True)
    logger.info("%s: written", folder)
