"""Pre-training's losses and twenty optimizer steps of google-research/bert, loss by loss and weight by weight."""

from pathlib import Path

import numpy as np
import pytest
import torch

from bertune.checkpoints import google
from bertune.checkpoints.names import for_layers, to_ours
from bertune.encoder.layout import Layout
from bertune.features import IGNORED
from bertune.network import Batch, Network
from bertune.pretraining.data import FixedSequences
from bertune.pretraining.initial_model import open_initial_model
from bertune.pretraining.instances import Instances, open_instances
from bertune.pretraining.options import PretrainOptions
from bertune.pretraining.pretrain import score
from bertune.tasks.masking.head import PretrainingHead, pretraining_loss
from bertune.tasks.masking.scores import LOG_PROBABILITY, NEXT, PretrainingScores
from bertune.training.loop.optimizer import GOOGLE_ADAMW, AdamW, Schedule


@pytest.fixture
def network(shared: Path, tmp_path: Path) -> Network:
    """The recorded encoder with both of its heads, in full precision."""
    options = PretrainOptions(encoder=str(shared / "golden/tiny"), train=[], output=str(tmp_path))
    with open_initial_model(options) as start:
        assert start.masked_lm is not None
        assert start.next_sentence is not None
        return start.network(next_sentence=True).eval()  # without dropout, as recorded


def padded_batch(recorded: dict[str, np.ndarray]) -> Batch:
    ids, mask = torch.from_numpy(recorded["input_ids"]).long(), torch.from_numpy(recorded["input_mask"])
    count, width = ids.shape
    labels = torch.full_like(ids, IGNORED)
    positions, words = (torch.from_numpy(recorded[f"masked_lm_{name}"]).long() for name in ("positions", "ids"))
    sequence, place = torch.nonzero(torch.from_numpy(recorded["masked_lm_weights"]), as_tuple=True)
    labels[sequence, positions[sequence, place]] = words[sequence, place]
    following = torch.from_numpy(recorded["next_sentence_labels"]).long().reshape(-1)
    return Batch(
        ids.reshape(-1),
        torch.from_numpy(recorded["segment_ids"]).long().reshape(-1),
        torch.arange(width).repeat(count),
        Layout.padded(mask.sum(1).tolist(), width),
        {"labels": labels.reshape(-1), "next_sentence": following},
        np.arange(count),
    )


def test_losses_equal_the_original(network: Network, shared: Path) -> None:
    recorded = dict(np.load(shared / "golden/tiny/forward.npz"))
    batch = padded_batch(recorded)
    with torch.no_grad():
        logits = network(batch)
        output = network.encoder(batch.input_ids, batch.segment_ids, batch.positions, batch.layout)
        head = network.head
        assert isinstance(head, PretrainingHead)
        masked = torch.from_numpy(recorded["masked_lm_positions"] + 96 * np.arange(6)[:, None]).long().reshape(-1)
        words = head.masked_lm(output.sequence_output[masked], network.encoder.embeddings.word.weight)
    np.testing.assert_allclose(words.log_softmax(1)[:, :2000].numpy(), recorded["mlm_log_probs"], atol=1e-4)
    weights = recorded["masked_lm_weights"].reshape(-1) > 0
    flat = masked[torch.from_numpy(weights)]
    np.testing.assert_allclose(-logits[flat, LOG_PROBABILITY], recorded["mlm_example_loss"][weights], atol=1e-4)
    scores = logits[batch.layout.starts, NEXT]
    np.testing.assert_allclose(scores.log_softmax(1), recorded["nsp_log_probs"], atol=1e-4)

    told = PretrainingScores()
    labels, following = batch.targets["labels"].numpy(), batch.targets["next_sentence"].numpy()
    told.add(logits.numpy(), labels, batch.layout.starts.numpy(), following)
    metrics = told.metrics()
    np.testing.assert_allclose(metrics["masked_lm_loss"], recorded["mlm_loss"], rtol=1e-5)
    np.testing.assert_allclose(metrics["next_sentence_loss"], recorded["nsp_loss"], rtol=1e-5)
    total, count = pretraining_loss(logits, batch.targets, batch.layout)
    np.testing.assert_allclose(total / count, recorded["mlm_loss"] + recorded["nsp_loss"], rtol=1e-5)


def test_evaluation_of_recorded_instances_equals_the_original(network: Network, shared: Path, tmp_path: Path) -> None:
    """The first 40 records: five batches of eight, as run_pretraining evaluated them."""
    instances = open_instances([shared / "golden/pretraining/instances.tf_record"], tmp_path, 30522)
    assert len(instances) == 305
    first = Instances(instances.rows[:40], instances.length, instances.masks)
    metrics = score(network, FixedSequences(first, next_sentence=True), most=1000)
    lines = (shared / "golden/pretraining/eval_results.txt").read_text().splitlines()
    recorded = {name: float(value) for name, value in (line.split(" = ") for line in lines)}
    for name in ("masked_lm_accuracy", "masked_lm_loss", "next_sentence_accuracy", "next_sentence_loss"):
        assert metrics[name] == pytest.approx(recorded[name], abs=1e-5), name


@pytest.mark.parametrize("layout", ["padded", "packed"])
def test_twenty_steps_equal_the_original(layout: str, network: Network, shared: Path) -> None:
    recorded = dict(np.load(shared / "golden/training/pretraining.npz"))
    batches = {key.removeprefix("batch/"): value for key, value in recorded.items() if key.startswith("batch/")}
    network.encoder.embeddings.word.sparse = False
    optimizer = AdamW(network.named_parameters(), GOOGLE_ADAMW)
    schedule = Schedule(1e-3, 20, 4, google=True)
    losses = []
    for step in range(20):
        batch = padded_batch({name: value[step] for name, value in batches.items()})
        if layout == "packed":
            batch = packed(batch)
        total, count = pretraining_loss(network(batch), batch.targets, batch.layout)
        total.backward()  # type: ignore[no-untyped-call]
        losses.append(float(total.detach() / count))
        optimizer.step(schedule(step), scale=1 / float(count))
    np.testing.assert_allclose(losses, recorded["losses"], rtol=1e-4)

    final = {key.removeprefix("final/"): torch.from_numpy(value) for key, value in recorded.items() if "final/" in key}
    names = for_layers(google.ENCODER, network.encoder.config.num_hidden_layers)
    names += [*google.HEADS["masked-lm"], *google.HEADS["next-sentence"]]
    expected, missing, unused = to_ours(names, final)
    assert not missing
    assert not unused
    state = {name.removeprefix("encoder.").removeprefix("head."): value for name, value in network.state_dict().items()}
    assert expected.keys() == state.keys()
    for key, value in expected.items():
        np.testing.assert_allclose(state[key][: len(value)], value, atol=1e-4, rtol=0, err_msg=key)


def packed(batch: Batch) -> Batch:
    """The same sequences without padding."""
    inside = batch.layout.rows()[batch.layout.mask()]
    return Batch(
        batch.input_ids[inside],
        batch.segment_ids[inside],
        batch.positions[inside],
        Layout.packed(batch.layout.lengths.tolist()),
        {"labels": batch.targets["labels"][inside], "next_sentence": batch.targets["next_sentence"]},
        batch.rows,
    )
