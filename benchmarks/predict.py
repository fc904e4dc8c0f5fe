"""Prediction on MRPC's development set beside transformers.Trainer: `python -m benchmarks.predict [--full]`."""

import sys

from benchmarks.compare import Comparison, run

SHORT = [
    Comparison("predict", "minilm", "bf16", ("dynamic", "bf16"), 12, 12, 5),
    Comparison("predict", "minilm", "int8", ("dynamic", "bf16"), 12, 12, 5),
    Comparison("predict", "bert-base", "bf16", ("dynamic", "bf16"), 8, 4, 3),
    Comparison("predict", "bert-base", "int8", ("dynamic", "bf16"), 8, 4, 3),
]
FULL = [
    *SHORT,
    Comparison("predict", "minilm", "bf16", ("max", "fp32"), 12, 4, 3),
    Comparison("predict", "bert-base", "bf16", ("max", "fp32"), 8, 1, 3),
]

if __name__ == "__main__":
    run(FULL if "--full" in sys.argv else SHORT)
