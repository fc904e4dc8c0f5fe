"""How far two computations of the same sequences agree."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass
class Agreement:
    """Sums over the sequences that were compared.

    sequences: how many they are.  agreeing: how many have the same largest logit; where a sequence has a row of logits
    for each token, the share of its tokens.  largest: the largest difference of two logits.
    """

    sequences: int = 0
    agreeing: float = 0.0
    largest: float = 0.0

    @property
    def disagreeing(self) -> float:
        """How many sequences do not agree."""
        return self.sequences - self.agreeing

    def add(self, here: Sequence[npt.NDArray[np.float32]], full: Sequence[npt.NDArray[np.float32]]) -> None:
        """Count some more sequences.

        Shape: (outputs,) or (tokens, outputs) each.
        """
        for one, other in zip(here, full, strict=True):
            self.sequences += 1
            self.agreeing += float((one.argmax(-1) == other.argmax(-1)).mean())
            self.largest = max(self.largest, float(np.abs(one - other).max()))

    def __str__(self) -> str:
        share = self.agreeing / max(1, self.sequences)
        return f"{share:.1%} of the first {self.sequences} sequences' answers agree, logits within {self.largest:.3f}"
