"""Hyper-parameters that fit bertune's own tasks. Imports nothing that computes: `--help` shows them."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Defaults:
    """Hyper-parameters that fit a task when nothing else is said."""

    max_seq_length: int = 128
    batch_size: int = 32
    learning_rate: float = 5e-5
    epochs: float = 3.0


USUAL = Defaults()
QUESTION_ANSWERING = Defaults(max_seq_length=384, batch_size=16)
MULTIPLE_CHOICE = Defaults(batch_size=16)
EMBEDDING = Defaults(learning_rate=2e-5, epochs=1.0)
