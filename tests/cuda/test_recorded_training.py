"""Twenty optimizer steps of google-research/bert, loss by loss and weight by weight."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from bertune.checkpoints import google
from bertune.checkpoints.names import Rename, for_layers, to_ours
from bertune.checkpoints.source import open_encoder
from bertune.encoder.layout import Layout
from bertune.network import Batch, Network
from bertune.tasks.shared.heads import PooledHead
from bertune.tasks.squad.head import SpanHead, span_loss
from bertune.training.loop.optimizer import GOOGLE_ADAMW, AdamW, Schedule

Loss = Callable[[Tensor, Batch], Tensor]


READ_AFTER_ADDING = {"classification": set(range(20)), "squad": {0, 3, 8, 10, 11}}
"""Updates whose learning rate was read at k + 1, all others at k.

In the original's graph reading the step for the schedule and adding 1 to it are not ordered, and the recorded run of
question answering shows both orders: with the other choice at any single update the next loss is off by a percent or
more, with this one all agree to seven digits.
"""


def classification_loss(logits: Tensor, batch: Batch) -> Tensor:
    return torch.nn.functional.cross_entropy(logits, batch.targets["label_ids"], reduction="sum")


def squad_loss(logits: Tensor, batch: Batch) -> Tensor:
    targets = batch.targets["start_positions"], batch.targets["end_positions"]
    return span_loss(logits, *targets, batch.layout, over_padding=True)


def padded_batch(recorded: dict[str, np.ndarray], step: int) -> Batch:
    columns = {name.removeprefix("batch/"): torch.from_numpy(recorded[name][step]) for name in recorded}
    ids, mask = columns.pop("input_ids"), columns.pop("input_mask")
    width = ids.shape[1]
    return Batch(
        ids.reshape(-1),
        columns.pop("segment_ids").reshape(-1),
        torch.arange(width).repeat(len(ids)),
        Layout.padded(mask.sum(1).tolist(), width),
        columns,
        np.arange(len(ids)),
    )


@pytest.mark.parametrize("sparse", [False, True], ids=["dense", "sparse"])
@pytest.mark.parametrize(
    ("name", "prefix", "loss"), [("classification", "", classification_loss), ("squad", "cls/squad/", squad_loss)]
)
def test_twenty_steps_equal_the_original(name: str, prefix: str, loss: Loss, sparse: bool, shared: Path) -> None:
    recorded = dict(np.load(shared / f"golden/training/{name}.npz"))
    encoder, _ = open_encoder(shared / "golden/tiny")
    head = PooledHead(encoder.config, 2) if name == "classification" else SpanHead(encoder.config)
    head.load_state_dict(
        {
            part: torch.from_numpy(recorded[f"initial/{prefix}output_{theirs}"])
            for part, theirs in (("weight", "weights"), ("bias", "bias"))
        }
    )
    network = Network(encoder, head).eval()  # without dropout, as recorded
    encoder.embeddings.word.sparse = sparse
    optimizer = AdamW(network.named_parameters(), GOOGLE_ADAMW)
    schedule = Schedule(1e-3, 20, 4, google=True)
    batches = {key: value for key, value in recorded.items() if key.startswith("batch/")}
    losses = []
    for step in range(20):
        batch = padded_batch(batches, step)
        total = loss(network(batch), batch)
        total.backward()  # type: ignore[no-untyped-call]
        losses.append(float(total.detach()) / 8)
        read_at = step if step in READ_AFTER_ADDING[name] else step - 1
        optimizer.step(schedule(read_at), scale=1 / 8)
    np.testing.assert_allclose(losses, recorded["losses"], rtol=1e-4)

    final = {key.removeprefix("final/"): torch.from_numpy(value) for key, value in recorded.items() if "final/" in key}
    names = for_layers(google.ENCODER, encoder.config.num_hidden_layers)
    names += [
        Rename(f"head.{part}", (f"{prefix}output_{theirs}",))
        for part, theirs in (("weight", "weights"), ("bias", "bias"))
    ]
    expected, missing, unused = to_ours(names, final)
    assert not missing
    assert not unused
    state = {key.removeprefix("encoder."): value for key, value in network.state_dict().items()}
    assert expected.keys() == state.keys()
    for key, value in expected.items():
        rows = len(value)  # large tables are recorded in part
        torch.testing.assert_close(state[key][:rows], value, atol=1e-4, rtol=0, msg=key)


def test_masking_the_padding_alike_gives_the_packed_loss() -> None:
    """What leaving padding out of the softmax changes: exactly its share of probability, nothing else."""
    torch.manual_seed(0)
    lengths, width = [3, 7, 5], 9
    packed, padded = Layout.packed(lengths), Layout.padded(lengths, width)
    logits = torch.randn(3 * width, 2)
    start, end = torch.tensor([0, 2, 4]), torch.tensor([2, 6, 4])
    inside = padded.mask().reshape(-1)
    from_packed = span_loss(logits[inside], start, end, packed)
    masked_alike = span_loss(torch.where(inside[:, None], logits, -torch.inf), start, end, padded, over_padding=True)
    over_padding = span_loss(logits, start, end, padded, over_padding=True)
    torch.testing.assert_close(from_packed, masked_alike)
    share = torch.stack(
        [torch.logsumexp(logits.view(3, width, 2), 1) - packed.to_padded(logits[inside], fill=-torch.inf).logsumexp(1)]
    )
    torch.testing.assert_close(over_padding - from_packed, share.sum() / 2)
