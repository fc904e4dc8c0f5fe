"""What ranks do in tests: called in real processes by `Nursery.ranks`."""

import importlib
import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import torch

from bertune.distributed import gradients, world
from bertune.distributed.gradients import GradientSums
from bertune.distributed.world import current, leave, start


def evaluate_and_predict(model: str, folder: str, output: str) -> int:
    """Metrics of every file in a folder, written by rank 0; and predictions by the command itself."""
    from bertune.model.use import load

    ranks = start()
    loaded = load(model, device="cpu")
    found = {}
    for path in sorted(Path(folder).glob("*.jsonl")):
        metrics = loaded.evaluate(path, feature_cache=False)
        found[path.stem] = {name: value for name, value in metrics.items() if name != "examples_per_second"}
    everyone = ranks.gather(found)
    assert all(one == found for one in everyone)
    if ranks.is_first:
        Path(output).write_text(json.dumps(found), encoding="utf-8")
    leave()
    return 0


def add_gradients(output: str, how: str) -> int:
    """Dense, sparse, mixed and absent gradients of every rank, and the sums. how: `memory` or `messages`."""
    ranks = start()
    if how == "messages":
        gradients.share_memory = lambda *_: None  # type: ignore[attr-defined]
    one = torch.full((2, 3), float(ranks.rank + 1))
    rows = torch.tensor([[0, ranks.rank + 1]])
    sparse = torch.sparse_coo_tensor(rows, torch.tensor([[1.0, 1.0], [2.0, 2.0]]) * (ranks.rank + 1), (6, 2))
    mixed = sparse if ranks.rank else sparse.to_dense()
    fine = (one + 1 / 512).bfloat16()
    own = [one, sparse, mixed, None, None if ranks.rank else one.half(), None if ranks.rank else sparse, fine]
    like = [
        torch.zeros(2, 3),
        torch.zeros(6, 2),
        torch.zeros(6, 2),
        torch.zeros(1),
        torch.zeros(2, 3),
        torch.zeros(6, 2),
        torch.zeros(2, 3),
    ]
    sum_gradients = GradientSums(ranks, like)
    assert (sum_gradients._shared is None) == (how == "messages")
    for again in range(3):  # in the same memory
        sums, totals = sum_gradients(own, torch.tensor([1.0, ranks.rank + again]))
        assert totals.tolist() == [3.0, 3.0 + 3 * again]
    kinds = [None if total is None else total.is_sparse for total in sums]
    values = [None if total is None else (total.to_dense() if total.is_sparse else total).tolist() for total in sums]
    parts = [part.tolist() for part in ranks.gather_tensors(torch.arange(ranks.rank))]
    everyone = ranks.gather((kinds, values, parts))
    assert all(other == everyone[0] for other in everyone)
    if ranks.is_first:
        Path(output).write_text(json.dumps({"kinds": kinds, "values": values, "parts": parts}), encoding="utf-8")
    leave()
    assert current().size == 1
    return 0


def google_program(name: str, *arguments: str) -> int:
    """A program of google-research/bert."""
    status: int = importlib.import_module(f"bertune.google.{name}").main(list(arguments))
    return status


def short_of_memory(rank: str, times: str, *arguments: str) -> int:
    """A training one rank of which has no memory for a forward pass, in its fourth update and so many times."""
    from bertune.cli.main import main
    from bertune.training.loop import loop

    forward, calls, found = loop._Update.compute, [0], int(times)

    def compute(self: loop._Update, *given: Any, **more: Any) -> torch.Tensor:
        if os.environ.get("RANK") == rank and self.state.step == 3 and calls[0] < found:
            calls[0] += 1
            raise MemoryError("not enough memory, says the test")
        return forward(self, *given, **more)

    loop._Update.compute = compute  # type: ignore[method-assign]
    return main(list(arguments))


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


def busy_first(seconds: str, *arguments: str) -> int:
    """A command whose rank 0 has something to do before it first meets the others, who wait."""
    from bertune.cli.main import main

    exchange, met = world._exchange, [False]

    def late(*given: Any) -> None:
        if not met[0]:
            met[0] = True
            os.write(2, b"waits\n")
            if os.environ["RANK"] == "0":
                time.sleep(float(seconds))
        exchange(*given)

    world._exchange = late  # type: ignore[assignment]
    return main(list(arguments))


def slowly(*arguments: str) -> int:
    """A command whose batches take a while."""
    from bertune.cli.main import main
    from bertune.network import Network

    forward = Network.forward

    def slow(self: Network, *given: Any, **more: Any) -> Any:
        os.write(2, b"computes\n")
        time.sleep(0.1)
        return forward(self, *given, **more)

    Network.forward = slow  # type: ignore[method-assign]
    return main(list(arguments))
