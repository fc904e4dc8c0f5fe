"""R-Drop and adversarial embeddings: their formulas, computed anew here, and what they do in an update."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from torch import Tensor

from bertune.encoder.layout import Layout
from bertune.encoder.modules import Dropout
from bertune.network import Batch, Network, pack
from bertune.tasks.shared.divergence import binary_divergence, divergence, padded_groups
from bertune.training.loop.loop import update
from bertune.training.loop.regularization import (
    APART,
    AdversarialEmbeddings,
    BackwardOf,
    FreeLB,
    RDrop,
    gradients_by,
    one_pass,
    start_in_ball,
    within_ball,
    worst_step,
)
from bertune.training.loop.state import TrainState
from tests.training import small_run


def batch_with(targets: dict[str, Tensor], sequences: int = 2) -> Batch:
    """Sequences of three tokens with these targets."""
    features = small_run.features(sequences, shortest=3, longest=3)
    return dataclasses.replace(pack(features, np.arange(sequences)), targets=targets)


def test_divergence_of_two_coins() -> None:
    fair, biased = torch.zeros(1, 2), torch.tensor([[math.log(3.0), 0.0]])  # 1/2, 1/2 and 3/4, 1/4
    expected = 0.5 * math.log(0.5 / 0.75) + 0.5 * math.log(0.5 / 0.25)
    assert divergence(biased, fair).item() == pytest.approx(expected, rel=1e-6)
    one_label = binary_divergence(torch.tensor([[math.log(3.0)]]), torch.zeros(1, 1))
    assert one_label.item() == pytest.approx(expected, rel=1e-6)
    warm = divergence(2 * biased, 2 * fair, temperature=2.0)
    assert warm.item() == pytest.approx(4 * expected, rel=1e-6)
    far = binary_divergence(torch.tensor([[200.0]]), torch.tensor([[-200.0]]))
    assert far.item() == pytest.approx(200, rel=1e-6)  # finite where probabilities round to 0 and 1


def test_groups_of_several_sizes_are_padded() -> None:
    padded = padded_groups(torch.tensor([1.0, 2, 3]), torch.tensor([0, 0, 1]), torch.tensor([2, 1]))
    assert padded.tolist() == [[1, 2], [3, -1e4]]


def test_how_far_outputs_are_apart_of_every_kind() -> None:
    one, other = torch.zeros(2, 2), torch.tensor([[math.log(3.0), 0.0], [0.0, 0.0]])
    there = 0.5 * math.log(0.5 / 0.75) + 0.5 * math.log(0.5 / 0.25)
    back = 0.75 * math.log(0.75 / 0.5) + 0.25 * math.log(0.25 / 0.5)
    expected = (there + back) / 2
    assert APART["classes"](one, other, batch_with({})).tolist() == pytest.approx([expected, 0], abs=1e-6)
    right = {"choice": torch.tensor([0, 1]), "question": torch.tensor([0, 0])}
    scores = APART["choices"](torch.zeros(2, 1), torch.tensor([[math.log(3.0)], [0.0]]), batch_with(right))
    assert scores.tolist() == pytest.approx([expected], rel=1e-5)
    assert APART["number"](torch.tensor([[1.0]]), torch.tensor([[3.0]]), batch_with({})).tolist() == [4]
    tags = torch.full((32,), -100)
    tags[1] = 0
    first, second = torch.zeros(32, 2), torch.zeros(32, 2)
    second[1, 0], second[2, 0] = math.log(3.0), 50  # the second token is not answered
    found = APART["tags"](first, second, batch_with({"tag": tags}))
    assert found.tolist() == pytest.approx([expected], rel=1e-5)
    starts = torch.zeros(32, 2)
    starts[0, 0] = 5
    spans = APART["span"](torch.zeros(32, 2), starts, batch_with({}))
    assert spans.shape == (2,)
    assert spans[0] > 0
    assert spans[1] == 0


def test_r_drop_is_the_mean_loss_and_the_divergence_of_two_passes() -> None:
    net, batch = small_run.network(dropout=0.3), pack(small_run.features(8), np.arange(8))
    net.train()
    torch.manual_seed(4)
    total, count = RDrop(2.0, "classes")(net, small_run.loss, batch)
    torch.manual_seed(4)
    one, other = net(batch), net(batch)
    p, q = one.double().softmax(1), other.double().softmax(1)
    apart = 0.5 * ((p * (p / q).log()).sum(1) + (q * (q / p).log()).sum(1))
    plain = (small_run.loss(one, batch)[0] + small_run.loss(other, batch)[0]) / 2
    assert int(count) == 8
    assert apart.mean() > 1e-4
    assert total.item() == pytest.approx((plain + 2 * apart.sum()).item(), rel=1e-5)


def test_without_dropout_r_drop_changes_nothing() -> None:
    data, rows = small_run.features(16), np.arange(16)
    found = []
    for gradients in (None, BackwardOf(RDrop(3.0, "classes"))):
        setup = dataclasses.replace(small_run.parts(small_run.network(dropout=0.0), data), gradients=gradients)
        update(setup, small_run.plan(4, 16), rows, TrainState())
        found.append(setup.optimizer.state())
    for name, expected in found[0].items():
        assert torch.allclose(found[1][name], expected, atol=1e-6), name


def test_the_worst_step_has_its_length_in_every_sequence() -> None:
    gradients = torch.tensor([[3.0, 0], [0, 4], [0, 0], [6, 8], [0, 0]])
    positions = torch.tensor([0, 1, 2, 0, 0])  # sequences of 3 and 1 tokens, and a tail of none
    step = worst_step(gradients, positions, 0.5)
    assert torch.allclose(step, torch.tensor([[0.3, 0], [0, 0.4], [0, 0], [0.3, 0.4], [0, 0]]))


def test_adversarial_embeddings_make_the_loss_worse_by_the_gradient_and_learn_from_both() -> None:
    net, batch = small_run.network(dropout=0.0), pack(small_run.features(8), np.arange(8))
    net.train()
    plain, _ = one_pass(net, small_run.loss, batch)
    value, count = AdversarialEmbeddings(1e-3)(net, small_run.loss, batch)
    # To first order the loss grows by epsilon times the gradient's norm, summed over sequences.
    vectors = net.encoder.embeddings.word(batch.input_ids).detach().requires_grad_()
    with net.encoder.embeddings.word.register_forward_hook(lambda _, __, output: output * 0 + vectors):
        again, _ = one_pass(net, small_run.loss, batch)
        (gradient,) = torch.autograd.grad(again, vectors)
    lengths = batch.layout.lengths
    norms = [float(part.norm()) for part in gradient.split([*lengths, len(gradient) - sum(lengths)])[: len(lengths)]]
    growth = 2 * (value - plain).item()
    assert int(count) == 8
    assert growth == pytest.approx(1e-3 * sum(norms), rel=0.05)
    assert not net.encoder.embeddings.word._forward_hooks  # nothing is left behind


@pytest.mark.parametrize("frozen", [False, True])
def test_both_together_learn_eight_sequences_by_heart(frozen: bool) -> None:
    data, rows = small_run.features(8), np.arange(8)
    net = small_run.network(dropout=0.1)
    net.encoder.embeddings.requires_grad_(not frozen)
    setup = small_run.parts(net, data)
    setup = dataclasses.replace(setup, gradients=gradients_by(0.5, "classes", 0.1))
    state, losses = TrainState(), []
    for step in range(60):
        state.step = step
        losses.append(update(setup, small_run.plan(80), rows, state).read()[0])
    assert sum(losses[-5:]) < 0.5 * sum(losses[:5])
    assert gradients_by(None, "classes", None) is None


def test_steps_stay_within_their_ball_in_every_sequence() -> None:
    positions = torch.tensor([0, 1, 2, 0])
    layout = Layout.packed([3, 1])
    keyed = dataclasses.replace(layout, keys=torch.tensor([8, 2]))
    for drawn in (start_in_ball(torch.zeros(4, 100), positions, 0.5, one) for one in (layout, keyed)):
        for part in (drawn[:3], drawn[3:]):
            assert 0.2 < part.norm() < 0.5  # of numbers between -1 and 1 about 1 / sqrt(3)
    far = torch.tensor([[3.0, 0], [0, 4], [0, 0], [0.1, 0]])
    assert torch.allclose(within_ball(far, positions, 1.0), torch.tensor([[0.6, 0], [0, 0.8], [0, 0], [0.1, 0]]))


def test_the_first_step_and_dropout_of_the_same_vectors_are_drawn_apart() -> None:
    """The generator is put back behind the step, so both begin with the same seed."""
    layout = dataclasses.replace(Layout.packed([40, 50]), keys=torch.tensor([3, 8]))
    positions = torch.cat([torch.arange(40), torch.arange(50)])
    torch.manual_seed(1)
    step = start_in_ball(torch.empty(90, 768), positions, 1.0, layout)
    torch.manual_seed(1)
    kept = Dropout(0.1).train()(torch.ones(90, 768), layout) > 0
    scaled = step / step.abs().amax(1, keepdim=True)
    for values in (scaled[kept], scaled[~kept]):
        assert abs(float(values.mean())) < 5 * 0.58 / len(values) ** 0.5
        assert float(((values > 0) & (values < 0.2)).float().mean()) == pytest.approx(0.1, abs=0.02)


def weight_gradients(gradients: BackwardOf | FreeLB, net: Network, batch: Batch) -> tuple[float, dict[str, Tensor]]:
    torch.manual_seed(4)
    net.zero_grad()
    value, _ = gradients(net, small_run.loss, batch)
    return value.item(), {name: w.grad.clone().to_dense() for name, w in net.named_parameters() if w.grad is not None}


def test_freelb_without_a_radius_is_the_plain_update_with_the_same_dropout_in_every_pass() -> None:
    net, batch = small_run.network(dropout=0.3), pack(small_run.features(8), np.arange(8))
    net.train()
    plain, expected = weight_gradients(BackwardOf(one_pass), net, batch)
    value, found = weight_gradients(FreeLB(1e-12, 3), net, batch)
    assert value == pytest.approx(plain, rel=1e-5)
    for name, gradient in expected.items():
        assert torch.allclose(found[name], gradient, rtol=1e-3, atol=1e-6), name


def test_freelb_makes_the_loss_worse_step_by_step_and_learns() -> None:
    net, batch = small_run.network(dropout=0.0), pack(small_run.features(8), np.arange(8))
    net.train()
    plain, _ = weight_gradients(BackwardOf(one_pass), net, batch)
    one, three, ten = (weight_gradients(FreeLB(0.05, steps), net, batch)[0] for steps in (1, 3, 10))
    assert plain + 0.01 < three < ten
    assert abs(one - plain) < three - plain  # one random step alone goes nowhere
    assert not net.encoder.embeddings.word._forward_hooks
    setup = dataclasses.replace(
        small_run.parts(net, small_run.features(8)), gradients=gradients_by(0.5, "classes", None, (0.1, 2))
    )
    state, losses = TrainState(), []
    for step in range(60):
        state.step = step
        losses.append(update(setup, small_run.plan(80), np.arange(8), state).read()[0])
    assert sum(losses[-5:]) < 0.5 * sum(losses[:5])
