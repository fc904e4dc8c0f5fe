"""Prediction on MRPC's development set beside transformers, ONNX Runtime and OpenVINO, all in turn.

python -m benchmarks.predict [--isa avx2] [--encoder minilm|bert-base] [--precision fp32|bf16|int8] [--full]

Peers: transformers through its Trainer and called directly, in bertune's precision (for int8, in bfloat16 or float32),
and OpenVINO and ONNX Runtime in the same precision as bertune; ONNX Runtime has no bfloat16 on a CPU, and takes part in
float32 and int8. --isa holds PyTorch, oneDNN, MKL and bertune to an instruction set by their variables. Whether
ONNX Runtime and OpenVINO obey any of them was not checked; they may keep the processor's full set.
--full adds run_glue's defaults.
"""

from benchmarks.compare import Choice, Comparison, Peer, choose, native_precisions, run

BATCHES = {"minilm": 12, "bert-base": 3}


def comparisons(choice: Choice) -> list[Comparison]:
    """What is measured: a comparison for each encoder."""
    own = choice.precisions
    floating = [one for one in own if one != "int8"] or native_precisions(choice.isa)[:1]
    peers = [Peer(engine, one) for one in floating for engine in ("Trainer", "transformers")]
    peers += [Peer("openvino", one) for one in own] + [Peer("onnxruntime", one) for one in own if one != "bf16"]
    if choice.full:
        peers.append(Peer("Trainer", "fp32", "max"))
    return [Comparison("predict", encoder, own, tuple(peers), BATCHES[encoder]) for encoder in choice.encoders]


if __name__ == "__main__":
    options = choose(__doc__)
    run(comparisons(options), options.isa)
