"""A network to be fine-tuned: an encoder from a checkpoint, and a task's head on it."""

import dataclasses
import logging
from typing import Any

from bertune.checkpoints.names import for_layers, to_ours
from bertune.checkpoints.source import Checkpoint, build_encoder
from bertune.network import Network
from bertune.tasks.protocol import Task

logger = logging.getLogger(__name__)


def build_network(task: Task[Any], checkpoint: Checkpoint) -> Network:
    """Encoder and head; the head's weights are taken over from a checkpoint that has one for this very task.

    Raises:
        InputError: the encoder's tensors are not all there.
    """
    encoder, report = build_encoder(checkpoint)
    head = task.new_head(checkpoint.config)
    names = for_layers(task.huggingface().names, checkpoint.config.num_hidden_layers)
    state, _, _ = to_ours(names, checkpoint.tensors)
    shapes = {name: tensor.shape for name, tensor in head.state_dict().items()}
    fits = {name: tensor.shape for name, tensor in state.items()} == shapes
    keeps_head = fits and task.keeps_head(checkpoint.settings)
    if keeps_head:
        of_head = {their for name in names for their in name.theirs}
        report = dataclasses.replace(report, unused=[name for name in report.unused if name not in of_head])
    logger.info("%s", report)
    if keeps_head:
        head.load_state_dict({name: tensor.float() for name, tensor in state.items()})
        logger.info("head: reused from %s", checkpoint.source)
    else:
        logger.info("head: new (%s)", ", ".join(f"{name} {tuple(shape)}" for name, shape in shapes.items()))
    return Network(encoder, head)
