"""Changes to pictures that leave their meaning: moved, lighter or darker, mirrored.

B samples in a batch   C, H, W channels, height, width
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

# Which axes may be mirrored; what must not be, such as a digit, says "none".
FLIPS: dict[str, tuple[int, ...]] = {"none": (), "horizontal": (3,), "vertical": (2,), "both": (2, 3)}


def pictures(pixels: Tensor, rng: torch.Generator, *, shift: float, jitter: float, flip: str) -> Tensor:
    """uint8 [B, C, H, W] -> the same or float32, 0..255, each sample changed on its own."""
    return flipped(jittered(shifted(pixels, shift, rng), jitter, rng), flip, rng)


def shifted(pixels: Tensor, share: float, rng: torch.Generator) -> Tensor:
    """Each sample of [B, C, H, W] moved by up to `share` of its size, edges repeated: its place is no feature."""
    reach = round(share * max(pixels.shape[2:]))
    if reach == 0:
        return pixels
    height, width = pixels.shape[2:]
    padded = nn.functional.pad(pixels.float(), (reach,) * 4, mode="replicate")
    tops, lefts = torch.randint(0, 2 * reach + 1, (2, len(pixels)), generator=rng)
    rows = tops[:, None] + torch.arange(height)
    columns = lefts[:, None] + torch.arange(width)
    index = torch.arange(len(pixels))[:, None, None]
    return padded[index, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def jittered(pixels: Tensor, share: float, rng: torch.Generator) -> Tensor:
    """Contrast and brightness of each sample changed by up to `share`: light is no feature."""
    if share == 0:
        return pixels
    contrast, brightness = (torch.rand((2, len(pixels), 1, 1, 1), generator=rng) * 2 - 1) * share
    found = pixels.float()
    middle = found.mean((1, 2, 3), keepdim=True)
    deviation = found.std((1, 2, 3), keepdim=True)
    changed: Tensor = middle + (found - middle) * (1 + contrast) + brightness * deviation
    return changed.clamp(0.0, 255.0)


def flipped(pixels: Tensor, flip: str, rng: torch.Generator) -> Tensor:
    """Every second sample mirrored at random, at each axis that `flip` names."""
    for axis in FLIPS[flip]:
        chosen = torch.rand((len(pixels), 1, 1, 1), generator=rng) < 0.5
        pixels = torch.where(chosen, pixels.flip(axis), pixels)
    return pixels
