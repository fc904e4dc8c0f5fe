"""Families beside their own classes in transformers: one training step and one forward pass, interleaved, in float32.

python -m benchmarks.families [--families mpnet,deberta-v2] [--size minilm] [--layers 6] [--repetitions 5]

Both sides have the same random numbers, 32 sequences of 24 to 96 tokens, and PyTorch's AdamW in training.
Padding is what each side makes of the lengths: transformers' model pads to the longest, ours packs. Least milliseconds.
"""

import argparse
import json
import time
from collections.abc import Callable
from typing import Any

import torch
import transformers
from rich.console import Console
from rich.table import Table
from torch import nn

from benchmarks.machine import save_result
from bertune.checkpoints.huggingface import config_from_json
from bertune.encoder.encoder import Encoder
from bertune.encoder.float32_route import fast_float32
from bertune.encoder.layout import Layout

SIZES = {
    "minilm": {"vocab_size": 1000, "hidden_size": 384, "num_attention_heads": 12, "intermediate_size": 1536},
    "base": {"vocab_size": 1000, "hidden_size": 768, "num_attention_heads": 12, "intermediate_size": 3072},
}
DEBERTA = {"relative_attention": True, "pos_att_type": ["p2c", "c2p"], "position_biased_input": False}
DEBERTA |= {"position_buckets": 256, "share_att_key": True, "norm_rel_ebd": "layer_norm"}
SPECIAL = dict.fromkeys(("bos_token_id", "eos_token_id", "cls_token_id", "sep_token_id", "mask_token_id"), 2)
FAMILIES: dict[str, dict[str, Any]] = {
    "bert": {},
    "roberta": {"max_position_embeddings": 514, "type_vocab_size": 1},
    "distilbert": {},
    "electra": {"embedding_size": 128},
    "albert": {"embedding_size": 128},
    "mpnet": {"max_position_embeddings": 514},
    "deberta-v2": DEBERTA,
    "eurobert": {"pad_token_id": 0, **SPECIAL},
    "ultrabert": {"pad_token_id": 0, **SPECIAL},
    "nomic_bert": {},
    "gte": {"pad_token_id": 0},
    "modernbert": {"pad_token_id": 0, **SPECIAL},
}
_DISTILBERT = {"hidden_size": "dim", "num_attention_heads": "n_heads", "intermediate_size": "hidden_dim"}
"""DistilBERT's config names these otherwise."""
LENGTHS = torch.linspace(24, 96, 32).long().tolist()


def sides(family: str, size: str, layers: int) -> tuple[nn.Module, nn.Module, Callable[[], Any], Callable[[], Any]]:
    """Both encoders, and their forward passes on the same sequences."""
    numbers: dict[str, Any] = {**SIZES[size], **FAMILIES[family]}
    if family == "distilbert":
        numbers = {_DISTILBERT.get(name, name): value for name, value in numbers.items()} | {"n_layers": layers}
    else:
        numbers["num_hidden_layers"] = layers
    config = transformers.AutoConfig.for_model(family, **numbers)
    theirs = transformers.AutoModel.from_config(config)
    ours = Encoder(config_from_json(json.loads(config.to_json_string(use_diff=False)), family))
    mask = torch.arange(max(LENGTHS)) < torch.tensor(LENGTHS)[:, None]
    ids = torch.randint(5, 1000, mask.shape, generator=torch.Generator().manual_seed(0))
    places = torch.arange(mask.shape[1]).expand(mask.shape)
    padded = {"input_ids": torch.where(mask, ids, config.pad_token_id or 0), "attention_mask": mask.long()}
    flat, layout = ids[mask], Layout.packed(LENGTHS)

    def their_forward() -> torch.Tensor:
        found: torch.Tensor = theirs(**padded).last_hidden_state[mask]
        return found

    def our_forward() -> torch.Tensor:
        return ours(flat, torch.zeros_like(flat), places[mask], layout).sequence_output  # type: ignore[no-any-return]

    return theirs, ours, their_forward, our_forward


def milliseconds(work: Callable[[], object]) -> float:
    """How long one call takes."""
    start = time.perf_counter()
    work()
    return 1000 * (time.perf_counter() - start)


def step(module: nn.Module, forward: Callable[[], Any]) -> Callable[[], None]:
    """A training step of a side."""
    optimizer = torch.optim.AdamW([p for p in module.parameters() if p.requires_grad], lr=1e-5)

    def work() -> None:
        optimizer.zero_grad()
        forward().square().mean().backward()
        optimizer.step()

    return work


def measure(family: str, size: str, layers: int, repetitions: int) -> dict[str, float]:
    """Least milliseconds of both sides, in training and in prediction."""
    theirs, ours, their_forward, our_forward = sides(family, size, layers)
    found: dict[str, list[float]] = {}
    for mode in ("training", "prediction"):
        train = mode == "training"
        theirs.train(train)
        ours.train(train)
        works = {"transformers": (theirs, their_forward), "bertune": (ours, our_forward)}
        ready = {name: step(*work) if train else work[1] for name, work in works.items()}
        with torch.set_grad_enabled(train):
            for _ in range(repetitions + 1):
                for name, work in ready.items():
                    found.setdefault(f"{mode} {name}", []).append(milliseconds(work))
    return {name: min(times[1:]) for name, times in found.items()}


def main() -> None:
    """Measure, print a table, keep the result."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--families", default=",".join(FAMILIES))
    parser.add_argument("--size", choices=SIZES, default="minilm")
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--repetitions", type=int, default=5)
    options = parser.parse_args()
    table = Table(
        "family", "training: transformers", "bertune", "times", "prediction: transformers", "bertune", "times"
    )
    results = {}
    with fast_float32(torch.device("cpu")):
        for family in options.families.split(","):
            found = results[family] = measure(family, options.size, options.layers, options.repetitions)
            cells = []
            for mode in ("training", "prediction"):
                one, other = found[f"{mode} transformers"], found[f"{mode} bertune"]
                cells += [f"{one:.0f} ms", f"{other:.0f} ms", f"{one / other:.2f}"]
            table.add_row(family, *cells)
            print(family, *cells, flush=True)  # should the rest be cut off
    Console(width=120).print(table)
    save_result(
        "families", {"size": options.size, "layers": options.layers, "lengths": LENGTHS, "milliseconds": results}
    )


if __name__ == "__main__":
    main()
