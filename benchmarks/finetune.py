"""Fine-tuning on MRPC, batch 32, beside transformers.Trainer: `python -m benchmarks.finetune [--full]`."""

import sys

from benchmarks.compare import Comparison, run

SHORT = [
    Comparison("train", "minilm", "bf16", ("dynamic", "bf16"), 40, 20, 5),
    Comparison("train", "bert-base", "bf16", ("dynamic", "bf16"), 6, 4, 3),
]
FULL = [
    *SHORT,
    Comparison("train", "minilm", "bf16", ("max", "fp32"), 20, 4, 3),
    Comparison("train", "bert-base", "bf16", ("max", "fp32"), 6, 1, 3),
    Comparison("train", "minilm", "fp32", ("dynamic", "fp32"), 20, 10, 3),
    Comparison("train", "bert-base", "fp32", ("dynamic", "fp32"), 4, 2, 3),
]

if __name__ == "__main__":
    run(FULL if "--full" in sys.argv else SHORT)
