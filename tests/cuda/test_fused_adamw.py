"""Updates decided on the device equal those that the host decides, in all that an update may be."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from bertune.cuda.fused_adamw import works
from bertune.options import AdamWOptions
from bertune.training.loop.optimizer import GOOGLE_ADAMW, AdamW

STEPS = 12


def made(*, on_device: bool, options: AdamWOptions, dtype: torch.dtype) -> tuple[AdamW, dict[str, nn.Parameter]]:
    """An optimizer of five weights: matrices that may be kept in half precision, a table, vectors."""
    torch.manual_seed(0)
    shapes = {"low.weight": (7, 5), "high.weight": (5, 7), "table": (9, 5), "bias": (5,), "unused": (3, 3)}
    weights = {name: nn.Parameter(torch.randn(shape)) for name, shape in shapes.items()}
    optimizer = AdamW(weights.items(), options, lambda name: 0.5 if "low" in name else 1.0, on_device=on_device)
    for name, weight in weights.items():
        if name.endswith(".weight"):
            weight.data = weight.data.to(dtype)
    return optimizer, weights


def gradients(step: int, weights: dict[str, nn.Parameter]) -> None:
    """Gradients of a step, large at times, for all but one weight."""
    generator = torch.Generator().manual_seed(step)
    for name, weight in weights.items():
        if name != "unused":
            size = 30.0 if step % 3 == 0 else 0.1
            weight.grad = (torch.randn(weight.shape, generator=generator) * size).to(weight.dtype)


def run(optimizer: AdamW, weights: dict[str, nn.Parameter], change: Callable[[int], None]) -> list[float]:
    """Some steps, `change` applied to the gradients of each; the norms."""
    norms = []
    for step in range(STEPS):
        gradients(step, weights)
        change(step)
        norms.append(float(optimizer.step(1e-2 / (step + 1), torch.tensor(0.25) if step % 2 else 0.25)))
    return norms


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    "options",
    [AdamWOptions(), GOOGLE_ADAMW, AdamWOptions(max_grad_norm=0), AdamWOptions(weight_decay=0.3)],
    ids=["usual", "google", "never clipped", "decay"],
)
def test_equals_the_host(options: AdamWOptions, dtype: torch.dtype) -> None:
    found = [made(on_device=here, options=options, dtype=dtype) for here in (False, True)]
    norms = [run(*one, lambda step: None) for one in found]
    assert norms[1] == pytest.approx(norms[0], rel=1e-5)
    assert max(norms[0]) > 1 > min(norms[0])  # some are clipped, some not
    (host, _), (device, weights) = found
    states = [optimizer.state() for optimizer in (host, device)]
    assert states[0].keys() == states[1].keys()
    for name, value in states[0].items():
        torch.testing.assert_close(states[1][name], value, rtol=2e-5, atol=1e-7, msg=name)
    for name, weight in weights.items():
        assert torch.equal(weight.data, device.masters()[name].to(weight.dtype)), name


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_what_is_not_finite_changes_nothing(bad: float) -> None:
    def spoil(optimizer: AdamW, weights: dict[str, nn.Parameter]) -> Callable[[int], None]:
        before: dict[str, Tensor] = {}

        def change(step: int) -> None:
            if step == 4:
                before.update({name: value.clone() for name, value in optimizer.state().items()})
                gradient = weights["low.weight"].grad
                assert gradient is not None
                gradient[0, 0] = bad
            elif step == 5:
                assert all(torch.equal(before[name], value) for name, value in optimizer.state().items())
                assert before["step"] == 4

        return change

    found = [made(on_device=here, options=AdamWOptions(), dtype=torch.bfloat16) for here in (False, True)]
    norms = [run(optimizer, weights, spoil(optimizer, weights)) for optimizer, weights in found]
    for norm in norms:
        assert not math.isfinite(norm[4])
        assert sum(map(math.isfinite, norm)) == STEPS - 1
    for optimizer, _ in found:
        assert optimizer.step_count == STEPS - 1
    for name, value in found[0][0].state().items():
        torch.testing.assert_close(found[1][0].state()[name], value, rtol=2e-5, atol=1e-7, msg=name)


def test_a_kernel_that_does_not_fit_is_not_used(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    cpu = torch.device("cpu")
    works.cache_clear()
    assert works(cpu, AdamWOptions())
    assert works(cpu, GOOGLE_ADAMW)

    def changed(*arguments: object, **named: object) -> None:
        raise TypeError("_fused_adamw_() got an unexpected keyword argument 'grad_scale'")

    monkeypatch.setattr(torch, "_fused_adamw_", changed)
    works.cache_clear()
    assert not works(cpu, AdamWOptions())
    assert "unexpected keyword argument" in caplog.text
    monkeypatch.setattr(torch, "_fused_adamw_", lambda *arguments, **named: None)
    works.cache_clear()
    assert not works(cpu, AdamWOptions())
    works.cache_clear()


def test_parts_of_a_batch_and_a_saved_state() -> None:
    whole, all_weights = made(on_device=True, options=AdamWOptions(), dtype=torch.float32)
    parts, some_weights = made(on_device=True, options=AdamWOptions(), dtype=torch.float32)
    for step in range(3):
        gradients(step, all_weights)
        whole.step(0.1)
        for _ in range(2):
            gradients(step, some_weights)
            parts.accumulate()
        parts.step(0.1, 0.5)
    resumed, weights = made(on_device=True, options=AdamWOptions(), dtype=torch.float32)
    resumed.restore({name: value.clone() for name, value in parts.state().items()})
    for optimizer, own in ((whole, all_weights), (parts, some_weights), (resumed, weights)):
        gradients(7, own)
        optimizer.step(0.1)
    for name, value in whole.state().items():
        torch.testing.assert_close(parts.state()[name], value, rtol=1e-6, atol=1e-8, msg=name)
        assert torch.equal(resumed.state()[name], parts.state()[name]), name
