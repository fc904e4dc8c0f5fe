"""What ranks do in tests: called in real processes by `Nursery.ranks`."""

import importlib
import json
import os
import signal
from pathlib import Path
from typing import Any

import torch

from bertune.distributed import gradients
from bertune.distributed.gradients import GradientSums
from bertune.distributed.world import current, leave, start


def without_dropout(*arguments: str) -> int:
    """A command of bertune whose heads drop nothing either; their rate is fixed."""
    from bertune.cli.main import main

    torch.nn.Dropout.forward = lambda self, x: x  # type: ignore[method-assign, assignment]
    return main(list(arguments))


def evaluate_and_predict(model: str, folder: str, output: str) -> int:
    """Metrics of every file in a folder, written by rank 0; and predictions by the command itself."""
    from bertune.model.use import load

    world = start()
    loaded = load(model, device="cpu")
    found = {}
    for path in sorted(Path(folder).glob("*.jsonl")):
        metrics = loaded.evaluate(path, feature_cache=False)
        found[path.stem] = {name: value for name, value in metrics.items() if name != "examples_per_second"}
    everyone = world.gather(found)
    assert all(one == found for one in everyone)
    if world.is_first:
        Path(output).write_text(json.dumps(found), encoding="utf-8")
    leave()
    return 0


def add_gradients(output: str, how: str) -> int:
    """Dense, sparse, mixed and absent gradients of every rank, and the sums. how: `memory` or `messages`."""
    world = start()
    if how == "messages":
        gradients.share_memory = lambda *_: None  # type: ignore[attr-defined]
    one = torch.full((2, 3), float(world.rank + 1))
    rows = torch.tensor([[0, world.rank + 1]])
    sparse = torch.sparse_coo_tensor(rows, torch.tensor([[1.0, 1.0], [2.0, 2.0]]) * (world.rank + 1), (6, 2))
    mixed = sparse if world.rank else sparse.to_dense()
    fine = (one + 1 / 512).bfloat16()
    own = [one, sparse, mixed, None, None if world.rank else one.half(), None if world.rank else sparse, fine]
    like = [
        torch.zeros(2, 3),
        torch.zeros(6, 2),
        torch.zeros(6, 2),
        torch.zeros(1),
        torch.zeros(2, 3),
        torch.zeros(6, 2),
        torch.zeros(2, 3),
    ]
    sum_gradients = GradientSums(world, like)
    assert (sum_gradients._shared is None) == (how == "messages")
    for again in range(3):  # in the same memory
        sums, totals = sum_gradients(own, torch.tensor([1.0, world.rank + again]))
        assert totals.tolist() == [3.0, 3.0 + 3 * again]
    kinds = [None if total is None else total.is_sparse for total in sums]
    values = [None if total is None else (total.to_dense() if total.is_sparse else total).tolist() for total in sums]
    parts = [part.tolist() for part in world.gather_tensors(torch.arange(world.rank))]
    everyone = world.gather((kinds, values, parts))
    assert all(other == everyone[0] for other in everyone)
    if world.is_first:
        Path(output).write_text(json.dumps({"kinds": kinds, "values": values, "parts": parts}), encoding="utf-8")
    leave()
    assert current().size == 1
    return 0


def google_program(name: str, *arguments: str) -> int:
    """A program of google-research/bert, whose head drops nothing."""
    torch.nn.Dropout.forward = lambda self, x: x  # type: ignore[method-assign, assignment]
    status: int = importlib.import_module(f"bertune.google.{name}").main(list(arguments))
    return status


def short_of_memory(rank: str, times: str, *arguments: str) -> int:
    """A training one rank of which has no memory for a forward pass, in its fourth update and so many times."""
    from bertune.training.loop import loop

    forward, calls, found = loop._Update.compute, [0], int(times)

    def compute(self: loop._Update, *given: Any, **more: Any) -> torch.Tensor:
        if os.environ.get("RANK") == rank and self.state.step == 3 and calls[0] < found:
            calls[0] += 1
            raise MemoryError("not enough memory, says the test")
        return forward(self, *given, **more)

    loop._Update.compute = compute  # type: ignore[method-assign]
    return without_dropout(*arguments)


def predict_and_die(*arguments: str) -> int:
    """A prediction whose rank 1 is killed after three answers."""
    from bertune.cli.main import main
    from bertune.prediction import bulk

    answered = bulk._answered

    def dying(*given: Any, **more: Any) -> Any:
        for number, answer in enumerate(answered(*given, **more)):
            if os.environ.get("RANK") == "1" and number == 3:
                os.kill(os.getpid(), signal.SIGKILL)
            yield answer

    bulk._answered = dying
    return main(list(arguments))
