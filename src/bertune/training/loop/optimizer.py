"""AdamW and its learning rates: PyTorch's arithmetic, and google-research/bert's.

Weights that compute in half precision have a float32 master here; one pass over memory updates master, moments and the
working copy.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from bertune.cuda.fused_adamw import FusedAdamW, Weights, in_float32, works
from bertune.distributed.gradients import GradientSums
from bertune.distributed.world import World
from bertune.encoder.kernels import calls
from bertune.options import AdamWOptions
from bertune.training.loop.averaging import Average, LastWeights, WeightAverage

GOOGLE_ADAMW = AdamWOptions(eps=1e-6, bias_correction=False)
"""google-research/bert's optimization.py."""


DECAYS: Mapping[str, Callable[[float], float]] = {
    "linear": lambda left: left,
    "cosine": lambda left: (1 - math.cos(math.pi * left)) / 2,
    "constant": lambda left: 1.0 if left else 0.0,
    "polynomial": lambda left: left**2,
}
"""From the share of the updates after the warm-up that is left to the share of the peak. Cosine: Loshchilov & Hutter,
2017, without restarts. Polynomial: of degree 2."""


@dataclass(frozen=True)
class Schedule:
    """Linear warm-up to the peak, then decay to zero at the last step.

    peak: highest learning rate.  steps: updates of the whole run.  warmup: updates of the warm-up.
    decay: how the rate falls with the share of the remaining updates, a name in `DECAYS`.
    google: google-research/bert's form instead: the decay line starts at step 0, and the k-th update (from 0) reads the
    line at k + 1, as recorded from the original.
    """

    peak: float
    steps: int
    warmup: int
    google: bool = False
    decay: str = "linear"

    def __call__(self, step: int) -> float:
        """Learning rate of update `step`, counted from 0."""
        if self.google:
            at = step + 1
            return self.peak * (at / self.warmup if at < self.warmup else 1 - min(at, self.steps) / self.steps)
        if step < self.warmup:
            return self.peak * (step + 1) / self.warmup
        return self.peak * DECAYS[self.decay](max(0.0, (self.steps - step) / max(1, self.steps - self.warmup)))


@dataclass
class _Slot:
    """What the optimizer keeps of one weight.

    rate: multiplies the learning rate.  seen: rows of a sparse table that ever had a gradient.
    summed: this update's gradient, summed over ranks.
    """

    name: str
    parameter: nn.Parameter
    master: Tensor
    m: Tensor
    v: Tensor
    decays: bool
    rate: float = 1.0
    grad_accum: Tensor | None = None
    seen: Tensor | None = None
    summed: Tensor | None = None


class AdamW:
    """Adam with decoupled weight decay; decay spares vectors (biases, norms).

    Gradients may be those of a sum of losses: `scale` turns them into a mean's without a pass of its own.
    """

    def __init__(
        self,
        parameters: Iterable[tuple[str, nn.Parameter]],
        options: AdamWOptions,
        rates: Callable[[str], float] | None = None,
        *,
        on_device: bool | None = None,
    ) -> None:
        """Made while the weights are still float32: those tensors stay the masters of copies in half precision.

        Args:
            parameters: names and weights, on the device that they stay on; those that need no gradient stay as they
                are.
            options: Adam's numbers.
            rates: by what a weight's learning rate is multiplied, from its name.
            on_device: decide everything on the device, so that the host never waits; None: on CUDA.
        """
        self.options = options
        self._host_steps = 0
        self._slots: list[_Slot] = []
        self._frozen: dict[str, Tensor] = {}
        for name, parameter in parameters:
            master = parameter.data if parameter.dtype == torch.float32 else parameter.data.float()
            if not parameter.requires_grad:
                self._frozen[name] = master
                continue
            zeros = torch.zeros_like(master)
            rate = rates(name) if rates is not None else 1.0
            self._slots.append(_Slot(name, parameter, master, zeros, zeros.clone(), parameter.ndim > 1, rate))
        device = self._slots[0].master.device if self._slots else torch.device("cpu")
        fused = device.type == "cuda" and works(device, options) if on_device is None else on_device
        self._fused = FusedAdamW(options, device) if fused else None
        self._sums: GradientSums | None = None
        self.average: Average | None = None
        """Of the weights that are trained, where one is kept (`keep_average`, `keep_last`)."""

    def keep_average(self, decay: float) -> None:
        """Keep a moving average of the weights from now on; the loop updates it, `averaged` uses it."""
        self.average = WeightAverage({slot.name: slot.master for slot in self._slots}, decay)

    def keep_last(self, count: int) -> None:
        """Keep the mean of the weights at the last evaluations; the loop tells of them, `averaged` uses it."""
        self.average = LastWeights({slot.name: slot.master for slot in self._slots}, count)

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Within it the network has the averaged weights, where an average is kept."""
        if self.average is None:
            yield
            return
        self._exchange(self.average)
        try:
            yield
        finally:
            self._exchange(self.average)

    def _exchange(self, average: Average) -> None:
        average.exchange()
        for slot in self._slots:
            if slot.parameter.data is not slot.master:
                slot.parameter.data.copy_(slot.master)

    @property
    def step_count(self) -> int:
        """Updates made so far; on a device that decides them itself, reading waits for it."""
        return self._host_steps if self._fused is None else int(self._fused.steps)

    def masters(self) -> dict[str, Tensor]:
        """The float32 value of every weight, by name. Shape: those of the weights."""
        return {slot.name: slot.master for slot in self._slots} | self._frozen

    def accumulate(self) -> None:
        """Add this part of a batch's gradients to float32 sums, and clear them."""
        for slot in self._slots:
            gradient = slot.parameter.grad
            if gradient is None:
                continue
            dense = gradient.to_dense() if gradient.is_sparse else gradient
            if slot.grad_accum is None:
                slot.grad_accum = torch.zeros_like(slot.master)
            slot.grad_accum.add_(dense)
            slot.parameter.grad = None

    def sum_over(self, world: World, totals: Tensor) -> Tensor:
        """Replace the gradients of this rank's share of a batch by the whole batch's; all ranks call this together.

        totals: numbers to sum along with them. Shape: (n,)

        Returns: their sums. Shape: (n,)
        """
        if self._sums is None:
            self._sums = GradientSums(world, [slot.master for slot in self._slots])
        sums, totals = self._sums([self._take_gradient(slot) for slot in self._slots], totals)
        for slot, total in zip(self._slots, sums, strict=True):
            slot.summed = total
        return totals

    def clear(self) -> None:
        """Forget the gradients of an update that is not to be made."""
        for slot in self._slots:
            slot.parameter.grad = slot.grad_accum = slot.summed = None

    def step(self, learning_rate: float | Tensor, scale: float | Tensor = 1.0) -> float | Tensor:
        """Update all weights and clear the gradients.

        Args:
            learning_rate: of this step. Shape: ().
            scale: multiplies every gradient first (one over the number of examples). Shape: ().

        Returns: the joint norm of the scaled gradients before clipping; on CUDA a tensor there, Shape: (). A norm that
        is not finite updates nothing.
        """
        gradients = [self._take_gradient(slot) for slot in self._slots]
        if self._fused is not None:
            return self._step_on_device(self._fused, gradients, learning_rate, scale)
        return self._step_from_host(gradients, float(learning_rate), float(scale))

    def _step_on_device(
        self,
        fused: FusedAdamW,
        gradients: list[Tensor | None],
        learning_rate: float | Tensor,
        scale: float | Tensor,
    ) -> Tensor:
        groups: dict[tuple[float, float], list[int]] = {}
        for i, slot in enumerate(self._slots):
            groups.setdefault((slot.rate, self._decay(slot)), []).append(i)
        slots = self._slots
        weights = [
            Weights(rate, decay, [slots[i].master for i in at], [slots[i].m for i in at], [slots[i].v for i in at])
            for (rate, decay), at in groups.items()
        ]
        dense = [in_float32([gradients[i] for i in at], [slots[i].master for i in at]) for at in groups.values()]
        norm = fused.update(weights, dense, learning_rate, scale)
        halves = [slot for slot in self._slots if slot.parameter.data.dtype != torch.float32]
        if halves:
            torch._foreach_copy_([slot.parameter.data for slot in halves], [slot.master for slot in halves])
        return norm

    def _step_from_host(self, gradients: list[Tensor | None], learning_rate: float, scale: float) -> float:
        norm = scale * math.sqrt(sum(_sum_of_squares(gradient) for gradient in gradients if gradient is not None))
        if not math.isfinite(norm):
            return norm
        limit = self.options.max_grad_norm
        if limit and norm > limit:
            scale *= limit / (norm + 1e-6)
        self._host_steps += 1
        for slot, gradient in zip(self._slots, gradients, strict=True):
            self._update(slot, gradient, learning_rate, scale)
        return norm

    def _take_gradient(self, slot: _Slot) -> Tensor | None:
        if slot.summed is not None:
            summed, slot.summed = slot.summed, None
            return summed
        if slot.grad_accum is not None:
            self.accumulate()
            grad_accum, slot.grad_accum = slot.grad_accum, None
            return grad_accum
        gradient = slot.parameter.grad
        slot.parameter.grad = None
        if gradient is not None and gradient.is_sparse:
            return gradient.coalesce()
        return gradient

    def _update(self, slot: _Slot, gradient: Tensor | None, learning_rate: float, scale: float) -> None:
        if gradient is not None and gradient.is_sparse:
            if calls.available(slot.master):
                self._update_rows(slot, gradient, learning_rate, scale)
                return
            gradient = gradient.to_dense()
        elif slot.seen is not None:
            slot.seen.fill_(1)
        numbers = self._numbers(slot, learning_rate, scale)
        working = slot.parameter.data
        if calls.available(working):
            in_kind = gradient is None or gradient.dtype == working.dtype
            calls.adamw(slot.master, slot.m, slot.v, gradient, working if in_kind else slot.master, numbers)
            if not in_kind:  # float32 sums of several parts of a batch
                working.copy_(slot.master)
        else:
            _adamw_in_pytorch(slot, gradient, numbers)

    def _update_rows(self, slot: _Slot, gradient: Tensor, learning_rate: float, scale: float) -> None:
        if slot.seen is None:
            slot.seen = (slot.v.amax(1) > 0).to(torch.uint8)
        places = torch.full((slot.master.shape[0],), -1, dtype=torch.int32)
        places[gradient.indices()[0]] = torch.arange(gradient.indices().shape[1], dtype=torch.int32)
        numbers = self._numbers(slot, learning_rate, scale)
        calls.adamw_rows(slot.master, slot.m, slot.v, gradient.values().contiguous(), (places, slot.seen), numbers)

    def _decay(self, slot: _Slot) -> float:
        return self.options.weight_decay if slot.decays else 0.0

    def _numbers(self, slot: _Slot, learning_rate: float, scale: float) -> calls.AdamWNumbers:
        options, step = self.options, self._host_steps
        return calls.AdamWNumbers(
            learning_rate * slot.rate,
            options.beta1,
            options.beta2,
            options.eps,
            self._decay(slot),
            1 - options.beta1**step if options.bias_correction else 1.0,
            1 - options.beta2**step if options.bias_correction else 1.0,
            scale,
        )

    def state(self) -> dict[str, Tensor]:
        """Everything an exact continuation needs, as named tensors. Shape: those of the weights; `step`: ()."""
        state = {"step": torch.tensor(self.step_count)}
        for slot in self._slots:
            state |= {f"master.{slot.name}": slot.master, f"m.{slot.name}": slot.m, f"v.{slot.name}": slot.v}
            if slot.grad_accum is not None:
                state[f"gathered.{slot.name}"] = slot.grad_accum
        return state if self.average is None else state | self.average.state()

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Take up a state that `state` gave, weights included. Shape: as there.

        Raises:
            KeyError: it lacks one of them.
        """
        self._host_steps = int(state["step"])
        if self._fused is not None:
            self._fused.steps.fill_(self._host_steps)
        for slot in self._slots:
            slot.master.copy_(state[f"master.{slot.name}"])
            slot.m.copy_(state[f"m.{slot.name}"])
            slot.v.copy_(state[f"v.{slot.name}"])
            slot.seen = None
            grad_accum = state.get(f"gathered.{slot.name}")
            slot.grad_accum = None if grad_accum is None else grad_accum.clone()
            if slot.parameter.data is not slot.master:
                slot.parameter.data.copy_(slot.master)
        if self.average is not None:
            self.average.restore(state)


def _sum_of_squares(gradient: Tensor) -> float:
    values = gradient.values() if gradient.is_sparse else gradient
    if calls.available(values):
        return calls.sum_of_squares(values.contiguous())
    return float(values.float().square().sum().item())


def _adamw_in_pytorch(slot: _Slot, gradient: Tensor | None, numbers: calls.AdamWNumbers) -> None:
    """The same update in PyTorch's operations, for devices without kernels of ours."""
    scaled = torch.zeros_like(slot.master) if gradient is None else gradient.float() * numbers.scale
    slot.m.lerp_(scaled, 1 - numbers.beta1)
    slot.v.mul_(numbers.beta2).addcmul_(scaled, scaled, value=1 - numbers.beta2)
    root = slot.v.sqrt().div_(math.sqrt(numbers.bias2)).add_(numbers.eps)
    slot.master.mul_(1 - numbers.learning_rate * numbers.decay)
    slot.master.addcdiv_(slot.m, root, value=-numbers.learning_rate / numbers.bias1)
    if slot.parameter.data is not slot.master:
        slot.parameter.data.copy_(slot.master)
