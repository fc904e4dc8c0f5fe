"""Fine-tuning on MRPC, batch 32, beside transformers.Trainer with its best settings, both sides in turn.

python -m benchmarks.finetune [--isa avx2] [--encoder minilm|bert-base] [--precision fp32|bf16] [--full]

Without --precision both sides compute in bfloat16 where the processor multiplies it, else in float32. --isa holds both
sides to an instruction set (PyTorch, oneDNN, MKL and bertune by their variables). --full adds run_glue's defaults.
"""

from benchmarks.compare import Choice, Comparison, Peer, choose, run

STEPS = {"minilm": 10, "bert-base": 3}
"""Steps a turn: one epoch of `workloads.TRAINING_ROWS`."""


def comparisons(choice: Choice) -> list[Comparison]:
    """What is measured: a comparison for each encoder and floating-point precision."""
    chosen = []
    for encoder in choice.encoders:
        for precision in choice.precisions:
            if precision == "int8":  # prediction only
                continue
            peers = [Peer("Trainer", precision)]
            if choice.full:
                peers.append(Peer("Trainer", "fp32", "max"))
            rounds = 5 if precision == "bf16" else 3
            chosen.append(Comparison("train", encoder, (precision,), tuple(peers), STEPS[encoder], rounds))
    return chosen


if __name__ == "__main__":
    options = choose(__doc__)
    run(comparisons(options), options.isa)
