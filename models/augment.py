"""Changes to pictures that leave their meaning: moved, lighter or darker, mirrored.

B samples in a batch   C, H, W channels, height, width
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from models.ranks import Share

# Which axes may be mirrored; what must not be, such as a digit, says "none".
FLIPS: dict[str, tuple[int, ...]] = {"none": (), "horizontal": (3,), "vertical": (2,), "both": (2, 3)}


def pictures(
    pixels: Tensor, rng: torch.Generator, *, shift: float, jitter: float, flip: str, share: Share | None = None
) -> Tensor:
    """uint8 [B, C, H, W] -> the same or float32, 0..255, each sample changed on its own.

    `share` says which rows of a larger batch these are; they change as they would within it.
    """
    return flipped(jittered(shifted(pixels, shift, rng, share), jitter, rng, share), flip, rng, share)


def shifted(pixels: Tensor, distance: float, rng: torch.Generator, rows: Share | None = None) -> Tensor:
    """Each sample of [B, C, H, W] moved by up to `distance` of its size, edges repeated: its place is no feature."""
    reach = round(distance * max(pixels.shape[2:]))
    if reach == 0:
        return pixels
    rows = rows or _all(pixels)
    height, width = pixels.shape[2:]
    padded = nn.functional.pad(pixels.float(), (reach,) * 4, mode="replicate")
    tops, lefts = rows.of(torch.randint(0, 2 * reach + 1, (2, rows.whole), generator=rng), 1)
    down = tops[:, None] + torch.arange(height)
    across = lefts[:, None] + torch.arange(width)
    index = torch.arange(len(pixels))[:, None, None]
    return padded[index, :, down[:, :, None], across[:, None, :]].permute(0, 3, 1, 2)


def jittered(pixels: Tensor, share: float, rng: torch.Generator, rows: Share | None = None) -> Tensor:
    """Contrast and brightness of each sample changed by up to `share`: light is no feature."""
    if share == 0:
        return pixels
    rows = rows or _all(pixels)
    contrast, brightness = (rows.of(torch.rand((2, rows.whole, 1, 1, 1), generator=rng), 1) * 2 - 1) * share
    found = pixels.float()
    middle = found.mean((1, 2, 3), keepdim=True)
    deviation = found.std((1, 2, 3), keepdim=True)
    changed: Tensor = middle + (found - middle) * (1 + contrast) + brightness * deviation
    return changed.clamp(0.0, 255.0)


def flipped(pixels: Tensor, flip: str, rng: torch.Generator, rows: Share | None = None) -> Tensor:
    """Every second sample mirrored at random, at each axis that `flip` names."""
    rows = rows or _all(pixels)
    for axis in FLIPS[flip]:
        chosen = rows.of(torch.rand((rows.whole, 1, 1, 1), generator=rng)) < 0.5
        pixels = torch.where(chosen, pixels.flip(axis), pixels)
    return pixels


def _all(pixels: Tensor) -> Share:
    return Share(0, len(pixels), len(pixels))
