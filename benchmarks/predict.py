"""Prediction on MRPC's development set beside transformers, ONNX Runtime and OpenVINO, all in turn.

python -m benchmarks.predict [--isa avx2] [--encoder minilm|bert-base] [--precision fp32|bf16|int8] [--full]

Peers: transformers through its Trainer and called directly, in bertune's precision (for int8, in bfloat16 or float32),
and OpenVINO and ONNX Runtime in the same precision as bertune; ONNX Runtime has no bfloat16 on a CPU, and takes part in
float32 and int8. --isa holds PyTorch, oneDNN, MKL and bertune to an instruction set by their variables. ONNX Runtime
reads none and keeps the processor's full set; so does OpenVINO. --full adds run_glue's defaults.
"""

from benchmarks.compare import Choice, Comparison, Peer, choose, native_precisions, run

BATCHES = {"minilm": (12, 12), "bert-base": (4, 4)}


def comparisons(choice: Choice) -> list[Comparison]:
    """What is measured."""
    chosen = []
    floating = native_precisions(choice.isa)[0]
    for encoder in choice.encoders:
        for precision in choice.precisions:
            theirs = floating if precision == "int8" else precision
            peers = [Peer("Trainer", theirs), Peer("transformers", theirs), Peer("openvino", precision)]
            if precision != "bf16":
                peers.append(Peer("onnxruntime", precision))
            if choice.full:
                peers.append(Peer("Trainer", "fp32", "max"))
            rounds = 5 if encoder == "minilm" else 3
            chosen.append(Comparison("predict", encoder, precision, tuple(peers), BATCHES[encoder], rounds))
    return chosen


if __name__ == "__main__":
    options = choose(__doc__)
    run(comparisons(options), options.isa)
