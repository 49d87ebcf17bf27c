"""Raw tensors to the columns that baselines see, in torch: what `baseline` and `window_features` do in numpy.

All in float64, as there: a mean that differs in its last digit may fall on the other side of a tree's threshold.

N samples   C, H, W channels, height, width   T steps   F columns   D columns that are seen
"""

from __future__ import annotations

import torch
from torch import Tensor

from models.contract import Contract
from models.window_features import LARGEST


def columns(raw: Tensor, contract: Contract, step: int) -> Tensor:
    """Raw [N, ...] -> float64 [N, D]; pictures are averaged over squares of `step` pixels."""
    if contract.modality == "image":
        return _flat(raw, step)
    return raw.double() if contract.modality == "tabular" else _windows(raw.double(), contract)


def last(values: Tensor) -> Tensor:
    """The last value that is there, of each column: [N, T, F] -> [N, F]."""
    steps = torch.arange(values.shape[1])[None, :, None]
    step = torch.where(torch.isnan(values), torch.zeros_like(steps), steps).amax(1, keepdim=True)
    return values.gather(1, step).squeeze(1)


def _flat(pixels: Tensor, step: int) -> Tensor:
    channels, height, width = (side - side % step if axis else side for axis, side in enumerate(pixels.shape[1:]))
    planes = pixels[:, :, :height, :width].double() / 255.0
    if step > 1:
        planes = planes.reshape(-1, channels, height // step, step, width // step, step).mean((3, 5))
    return planes.flatten(1)


def _windows(values: Tensor, contract: Contract) -> Tensor:
    numbers = [place for place, column in enumerate(contract.columns) if column.values is None]
    categories = [place for place, column in enumerate(contract.columns) if column.values is not None]
    parts = [_numbers(values[:, :, numbers])] if numbers else []
    parts += [last(values[:, :, categories])] if categories else []
    return torch.cat(parts, 1)


def _numbers(values: Tensor) -> Tensor:
    """[N, T, F] -> [N, 7F], see `window_features.STATISTICS`."""
    there = ~torch.isnan(values)
    zero = torch.zeros_like(values)
    known = there.double()
    count = known.sum(1)
    some = count.clamp(min=1.0)
    mean = torch.where(there, values, zero).sum(1) / some
    centred = torch.where(there, values - mean[:, None], zero)
    std = (centred.square().sum(1) / some).sqrt()
    lowest = torch.where(there, values, zero + torch.inf).amin(1)
    highest = torch.where(there, values, zero - torch.inf).amax(1)
    time = torch.arange(values.shape[1], dtype=torch.float64)[None, :, None]
    when = (time - (known * time).sum(1, keepdim=True) / some[:, None]) * known
    slope = (when * centred).sum(1) / when.square().sum(1).clamp(min=1e-12)
    found = torch.stack([last(values), mean, std, lowest, highest, slope, _difference(values)], 1)
    found = found.clamp(-LARGEST, LARGEST).float().double()
    return torch.where(count[:, None] > 0, found, torch.full_like(found, torch.nan)).flatten(1)


def _difference(values: Tensor) -> Tensor:
    if values.shape[1] < 2:
        return torch.zeros_like(values[:, 0])
    steps = values[:, 1:] - values[:, :-1]
    there = ~torch.isnan(steps)
    count = there.double().sum(1).clamp(min=1.0)
    zero = torch.zeros_like(steps)
    mean = torch.where(there, steps, zero).sum(1) / count
    return (torch.where(there, steps - mean[:, None], zero).square().sum(1) / count).sqrt()
