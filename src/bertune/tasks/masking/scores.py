"""What the pre-training heads' output says, and the metrics that follow from it."""

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from bertune.features import IGNORED

LOG_PROBABILITY, CORRECT, NEXT = 0, 1, slice(2, 4)
"""What the columns of the head's output say: of a masked token, the log-probability of its label and whether the label
is the most probable; of a sequence, in its first token's row, the logits of next sentence."""


@dataclass
class PretrainingScores:
    """Sums over batches of what the metrics are made of."""

    sums: npt.NDArray[np.float64] = field(default_factory=lambda: np.zeros(6))

    def add(
        self,
        logits: npt.NDArray[np.float32],
        labels: npt.NDArray[np.integer],
        starts: npt.NDArray[np.integer],
        next_sentence: npt.NDArray[np.integer] | None,
    ) -> None:
        """Take in a batch: the head's output, labels, sequences' first rows, and whether B is random, where known."""
        masked = logits[labels != IGNORED].astype(np.float64)
        self.sums[:3] += [len(masked), -masked[:, LOG_PROBABILITY].sum(), masked[:, CORRECT].sum()]
        if next_sentence is not None:
            scores = logits[starts, NEXT].astype(np.float64)
            log_prob = scores - np.logaddexp(scores[:, :1], scores[:, 1:])
            loss = -log_prob[np.arange(len(starts)), next_sentence].sum()
            self.sums[3:] += [len(starts), loss, (scores.argmax(1) == next_sentence).sum()]

    def metrics(self) -> dict[str, float]:
        """masked_lm_loss, perplexity (e to that), masked_lm_accuracy; with pairs next_sentence_loss and _accuracy."""
        masks, loss, correct, pairs, next_loss, next_correct = self.sums.tolist()
        mean = loss / max(masks, 1)
        found = {
            "masked_lm_loss": mean,
            "perplexity": float(np.exp(min(mean, 700))),
            "masked_lm_accuracy": correct / max(masks, 1),
        }
        if pairs:
            found |= {"next_sentence_loss": next_loss / pairs, "next_sentence_accuracy": next_correct / pairs}
        return found | {"loss": mean + next_loss / max(pairs, 1)}
