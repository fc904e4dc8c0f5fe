"""Where a student starts: an encoder from any source, or every K-th layer of its teacher."""

import copy
import dataclasses
import re

from bertune.checkpoints.source import open_checkpoint
from bertune.encoder.encoder import Encoder
from bertune.errors import InputError
from bertune.model.build import build_network
from bertune.model.use import Model
from bertune.network import Network
from bertune.tasks.protocol import Task

_EVERY = re.compile(r"every:(\d+)")


def every(student: str) -> int | None:
    """K of `every:K`; None for a source. Raises InputError for a K that means nothing."""
    found = _EVERY.fullmatch(student.strip())
    if found is None:
        if student.startswith("every"):
            raise InputError(f"--student {student}: expected every:K with a number, like every:2")
        return None
    if int(found[1]) < 2:
        raise InputError(f"--student {student}: K must be at least 2; every:1 is the teacher itself")
    return int(found[1])


def layers_of(model: Model, step: int) -> list[int]:
    """The teacher's layers that a student of every `step`-th keeps: the highest of each group, counted from 0.

    Raises:
        InputError: fewer layers than `step`, or layers that are not alike.
    """
    config = model.network.encoder.config
    if config.shared_layers or not config.has_plain_layers:
        raise InputError(
            f"--student every:{step}: layers of the family {config.family} are shared or unlike one another; name an "
            "encoder as --student"
        )
    if config.num_hidden_layers < step:
        raise InputError(f"--student every:{step}: the teacher has only {config.num_hidden_layers} layers")
    return list(range(step - 1, config.num_hidden_layers, step))


def network_of_layers(model: Model, layers: list[int]) -> Network:
    """Embeddings, some layers, pooler and head of a teacher, as a new network in float32."""
    teacher = model.network
    config = dataclasses.replace(teacher.encoder.config, num_hidden_layers=len(layers))
    encoder = Encoder(config)
    places = {layer: place for place, layer in enumerate(layers)}
    state = {}
    for name, tensor in teacher.encoder.state_dict().items():
        found = re.fullmatch(r"layers\.(\d+)\.(.*)", name)
        if found is None:
            state[name] = tensor.float()
        elif int(found[1]) in places:
            state[f"layers.{places[int(found[1])]}.{found[2]}"] = tensor.float()
    encoder.load_state_dict(state)
    return Network(encoder, copy.deepcopy(teacher.head).float())


def network_from_source(task: Task, student: str) -> Network:  # type: ignore[type-arg]
    """A new network on an encoder, with a new head unless the encoder's own is for this very task."""
    with open_checkpoint(student) as checkpoint:
        return build_network(task, checkpoint)
