"""Quantisation-aware fine-tuning: the net learns to answer as before while its layers are rounded to eight bits.

The trained net is the teacher, so that no label is needed, and only the training split is read. What comes out is a
float net again, whose weights sit where rounding costs little; every exporter quantises it in its own way.

N samples   K classes, or 1 where the answer is a number
"""

from __future__ import annotations

import copy
import logging
import time
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrize

from models import net
from models.export.exporter import Source, Unavailable

# Steps, not seconds, are what usually ends it, so that the same net is tuned to the same weights.
EPOCHS, STEPS, BATCH, RATE = 4, 240, 32, 1e-4
SEED = 17
QUANTISED = (nn.Conv1d, nn.Conv2d, nn.Linear)
log = logging.getLogger(__name__)


def tuned(source: Source, seconds: float) -> Source:
    """The source with its net fine-tuned for 4 epochs of the training split, 240 steps at most, `seconds` at most.

    Rounding follows Jacob et al., Quantization and training of neural networks for efficient integer-arithmetic-only
    inference, 2018: weights per output channel, an activation by its range, gradients straight through. Statistics of
    batch normalisation stay, as an exporter folds them into the weights. What the rounded net answers to the
    calibration set decides; raises Unavailable where that is no nearer to the trained net's than before.
    """
    until = time.monotonic() + seconds
    student = copy.deepcopy(source.net).eval()
    calibration = torch.from_numpy(source.calibration.tensors.copy())
    hooks = _rounded(student, calibration)
    inputs = torch.from_numpy(source.calibration.everything().copy())
    optimizer = torch.optim.AdamW((part for part in student.parameters() if part.requires_grad), lr=RATE)
    batches = _batches(len(inputs))
    rates = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.05, total_iters=len(batches))
    before = _distance(student, source.net, calibration)
    for batch in batches:
        if time.monotonic() > until:
            break
        with torch.no_grad():
            wanted = source.net(inputs[batch])
        loss = _loss(student(inputs[batch]), wanted)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        optimizer.step()
        rates.step()
    after = _distance(student, source.net, calibration)
    log.info("fine-tuning: the rounded net's logits are off by %.4f, before by %.4f", after, before)
    if after >= before:
        raise Unavailable("fine-tuning brought the rounded net no nearer to the trained one")
    for hook in hooks:
        hook.remove()
    for part in _layers(student):
        parametrize.remove_parametrizations(part, "weight", leave_parametrized=False)
    return Source(student, net.Answer(student, source.contract).eval(), source.contract, source.calibration)


def _batches(count: int) -> list[Tensor]:
    rng = torch.Generator().manual_seed(SEED)
    epochs = (torch.split(torch.randperm(count, generator=rng), BATCH) for _ in range(EPOCHS))
    return [batch for epoch in epochs for batch in epoch][:STEPS]


def _loss(found: Tensor, wanted: Tensor) -> Tensor:
    """Of logits [N, K] the divergence from the teacher's and their distance; of numbers [N, 1] the distance alone."""
    distance = functional.mse_loss(found, wanted)
    if found.shape[1] == 1:
        return distance
    given, target = functional.log_softmax(found, 1), functional.log_softmax(wanted, 1)
    return functional.kl_div(given, target, reduction="batchmean", log_target=True) + 0.1 * distance


def _distance(student: nn.Module, teacher: nn.Module, tensors: Tensor) -> float:
    """Relative L2 distance of the logits."""
    with torch.no_grad():
        parts = [(student(part), teacher(part)) for part in torch.split(tensors, BATCH)]
    found, wanted = (torch.cat(side) for side in zip(*parts, strict=True))
    return float((found - wanted).norm() / wanted.norm().clamp_min(1e-12))


def _layers(student: nn.Module) -> list[nn.Module]:
    return [part for part in student.modules() if isinstance(part, QUANTISED)]


def _rounded(student: nn.Module, calibration: Tensor) -> list[Any]:
    """Makes every layer round its weights and what comes in, by the ranges that the calibration set shows."""
    ranges: dict[nn.Module, tuple[float, float]] = {}

    def watch(part: nn.Module, given: tuple[Tensor, ...]) -> None:
        low, high = ranges.get(part, (0.0, 0.0))
        ranges[part] = min(low, float(given[0].min())), max(high, float(given[0].max()))

    watching = [part.register_forward_pre_hook(watch) for part in _layers(student)]
    with torch.no_grad():
        for batch in torch.split(calibration, BATCH):
            student(batch)
    for hook in watching:
        hook.remove()
    hooks = []
    for part in _layers(student):
        parametrize.register_parametrization(part, "weight", _Weight())
        low, high = ranges[part]
        hooks.append(part.register_forward_pre_hook(_Activation(low, high)))
    return hooks


class _Weight(nn.Module):
    """Weights [K, ...] in 127 steps each way from zero, a step for each output channel."""

    def forward(self, weight: Tensor) -> Tensor:
        step = weight.detach().flatten(1).abs().amax(1).clamp_min(1e-12) / 127
        step = step.view(-1, *[1] * (weight.dim() - 1))
        return weight + (torch.round(weight / step) * step - weight).detach()


class _Activation:
    """A layer's input in 255 steps from `low`, which is at most zero, to `high`; what lies beyond is cut off."""

    def __init__(self, low: float, high: float) -> None:
        self._step = max(high - low, 1e-12) / 255
        self._zero = round(-low / self._step)

    def __call__(self, part: nn.Module, given: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        scaled = given[0] / self._step + self._zero
        rounded = scaled + (torch.round(scaled) - scaled).detach()
        return ((rounded.clamp(0, 255) - self._zero) * self._step, *given[1:])
