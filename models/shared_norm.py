"""Batch normalisation over a batch that lies on several ranks: statistics and gradients are those of the whole batch.

torch's own SyncBatchNorm wants GPUs. Forward and backward each add up one small vector between the ranks; the work on
the rows is done by the kernels of plain batch normalisation, with the statistics given.

N rows of this rank   C channels   W ranks
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from models.ranks import Ranks

_BACKWARD = torch.ops.aten.native_batch_norm_backward


class SharedNorm(nn.Module):
    """Takes the place of a batch norm, whose parameters and statistics it keeps under the same names."""

    def __init__(self, plain: _BatchNorm, ranks: Ranks) -> None:
        super().__init__()
        if not plain.affine or not plain.track_running_stats or plain.momentum is None:
            raise ValueError("a shared norm needs weights, running statistics and a momentum, as batch norms have them")
        self.weight, self.bias = plain.weight, plain.bias
        for name in ("running_mean", "running_var", "num_batches_tracked"):
            self.register_buffer(name, plain.get_buffer(name))
        self.eps, self.momentum = plain.eps, float(plain.momentum)
        self._ranks = ranks

    def forward(self, inputs: Tensor) -> Tensor:
        """float [N, C, ...] -> the same; N may be 0 in training, as long as another rank has rows."""
        running = self.get_buffer("running_mean"), self.get_buffer("running_var")
        if not self.training:
            return nn.functional.batch_norm(inputs, *running, self.weight, self.bias, False, 0.0, self.eps)
        normed: Tensor = self._over_all_ranks(inputs, *running)
        return normed

    @torch.compiler.disable  # type: ignore[untyped-decorator]  # no compiler sees through the exchange
    def _over_all_ranks(self, inputs: Tensor, running_mean: Tensor, running_var: Tensor) -> Tensor:
        mean, var, count = whole_statistics(inputs, self._ranks)
        with torch.no_grad():
            self.get_buffer("num_batches_tracked").add_(1)
            running_mean.lerp_(mean, self.momentum)
            running_var.lerp_(var * (count / (count - 1)), self.momentum)
        normed: Tensor = _Normed.apply(inputs, self.weight, self.bias, mean, var, count, self.eps, self._ranks)  # type: ignore[no-untyped-call]
        return normed


def share_norms(model: nn.Module, ranks: Ranks) -> None:
    """Puts a shared norm in the place of every batch norm."""
    for parent in list(model.modules()):
        for name, part in parent.named_children():
            if isinstance(part, _BatchNorm):
                setattr(parent, name, SharedNorm(part, ranks))


@torch.no_grad()
def whole_statistics(inputs: Tensor, ranks: Ranks) -> tuple[Tensor, Tensor, float]:
    """Mean [C] and variance [C] over the rows of all ranks, and how many values each channel has.

    Each rank's own mean and variance are merged (Chan, Golub and LeVeque, 1979): sums of squares would cancel.
    """
    channels = inputs.shape[1]
    found = torch.zeros((ranks.world, 2 * channels + 1), device=inputs.device)
    own = inputs.numel() // channels
    if own:
        mean, var = torch.batch_norm_update_stats(inputs, None, None, 0.0)
        found[ranks.rank, :channels], found[ranks.rank, channels:-1] = mean, var
        found[ranks.rank, -1] = own
    ranks.add_up(found)
    means, variances, counts = found[:, :channels], found[:, channels:-1], found[:, -1:]
    count = float(counts.sum())
    if count < 2:
        raise ValueError("a batch norm needs more than one value per channel; make `batch` larger")
    mean = (means * counts).sum(0) / count
    var = ((variances + (means - mean).square()) * counts).sum(0) / count
    return mean, var, count


class _Normed(torch.autograd.Function):
    """(x - mean) / sqrt(var + eps) * weight + bias, where mean and var come from x of all ranks."""

    @staticmethod
    def forward(
        ctx: Any, inputs: Tensor, weight: Tensor, bias: Tensor, mean: Tensor, var: Tensor, count: float, eps: float,
        ranks: Ranks,
    ) -> Tensor:  # fmt: skip
        ctx.save_for_backward(inputs, weight, mean, var)
        ctx.count, ctx.eps, ctx.ranks = count, eps, ranks
        if not inputs.numel():
            return inputs.clone()
        return nn.functional.batch_norm(inputs, mean, var, weight, bias, False, 0.0, eps)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        inputs, weight, mean, var = ctx.saved_tensors
        grad, own = grads[0], weight.new_zeros((2, len(weight)))
        found = torch.zeros_like(inputs)
        if inputs.numel():
            found, own[0], own[1] = _BACKWARD(
                grad, inputs, weight, mean, var, None, None, False, ctx.eps, [True, True, True]
            )
        whole = ctx.ranks.add_up(own.clone())
        if inputs.numel():
            # What mean and variance owe to x: - (sum of grad + x̂ · sum of grad · x̂) / count, a line in x per channel.
            inverse = (var + ctx.eps).rsqrt()
            slope = -weight * inverse.square() * whole[0] / ctx.count
            shift = -weight * inverse * whole[1] / ctx.count - slope * mean
            shape = (1, -1, *[1] * (inputs.dim() - 2))
            found.addcmul_(inputs, slope.view(shape)).add_(shift.view(shape))
        return found, own[0], own[1], None, None, None, None, None
