"""Fine-tuning on MRPC, batch 32, beside transformers.Trainer: `python -m benchmarks.finetune [--full]`."""

import sys

from benchmarks.compare import Comparison, run

# Turns of 10 steps are whole epochs of the 320 rows, so that both sides see the same sequences.
SHORT = [
    Comparison("train", "minilm", "bf16", ("dynamic", "bf16"), 40, 20, 5),
    Comparison("train", "bert-base", "bf16", ("dynamic", "bf16"), 10, 10, 3),
]
FULL = [
    *SHORT,
    Comparison("train", "minilm", "bf16", ("max", "fp32"), 20, 10, 2),
    Comparison("train", "bert-base", "bf16", ("max", "fp32"), 10, 2, 2),
    Comparison("train", "minilm", "fp32", ("dynamic", "fp32"), 20, 10, 2),
    Comparison("train", "bert-base", "fp32", ("dynamic", "fp32"), 10, 10, 2),
]

if __name__ == "__main__":
    run(FULL if "--full" in sys.argv else SHORT)
