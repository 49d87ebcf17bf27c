"""Seeded tasks that no net solves whole: textures under noise, patterns in sensor windows, rows of a noisy table.

N samples   C, H, W channels, height, width   T steps   F columns   K classes
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Samples = tuple[npt.NDArray[Any], npt.NDArray[np.int64]]

CLASSES = 6
PIXELS = 64
STEPS, SENSORS = 96, 9
COLUMNS = 20
PATTERN = 48


def textures(count: int, rng: np.random.Generator) -> Samples:
    """uint8 [N, 3, 64, 64]: filtered noise whose direction is the class, under more noise of any strength."""
    labels = rng.integers(CLASSES, size=count)
    rows, columns = np.meshgrid(np.fft.fftfreq(PIXELS), np.fft.fftfreq(PIXELS), indexing="ij")
    radius, angle = np.hypot(rows, columns), np.arctan2(rows, columns)
    pictures = np.empty((count, 3, PIXELS, PIXELS), np.uint8)
    for place, label in enumerate(labels):
        direction = (label + rng.normal(0, 0.22)) * np.pi / CLASSES
        along = np.cos(angle - direction) ** 2
        amplitude = np.exp(-(((radius - rng.uniform(0.08, 0.25)) / 0.05) ** 2)) * along**6
        spectrum = amplitude * np.exp(2j * np.pi * rng.random((PIXELS, PIXELS)))
        texture = np.fft.ifft2(spectrum).real
        texture /= texture.std() + 1e-9
        colour = rng.uniform(0.4, 1.0, (3, 1, 1))
        noise = rng.normal(0, rng.uniform(0.5, 3.0), (3, PIXELS, PIXELS))
        pictures[place] = np.clip(128 + rng.uniform(8, 24) * (colour * texture + noise), 0, 255)
    return pictures, labels


def windows(count: int, rng: np.random.Generator) -> Samples:
    """float32 [N, T, F]: the class's pattern somewhere in the window, stretched and weak, in drifting noise."""
    fixed = np.random.default_rng(11)  # the patterns are the task: the same for every split
    patterns = _smooth(fixed.normal(size=(CLASSES, PATTERN, SENSORS)), 5)
    labels = rng.integers(CLASSES, size=count)
    noise = _smooth(rng.normal(size=(count, STEPS, SENSORS)), 2) + 0.3 * rng.normal(size=(count, 1, SENSORS))
    found = np.empty((count, STEPS, SENSORS), np.float32)
    for place, label in enumerate(labels):
        length = int(rng.integers(PATTERN // 2, PATTERN))
        at = np.linspace(0, PATTERN - 1, length).astype(int)
        start = int(rng.integers(STEPS - length))
        found[place] = noise[place]
        found[place, start : start + length] += rng.uniform(0.25, 1.2) * patterns[label][at]
    scale = fixed.uniform(0.5, 20.0, SENSORS)
    return (found * scale + 3 * scale).astype(np.float32), labels


def _smooth(values: npt.NDArray[Any], steps: int) -> npt.NDArray[Any]:
    """A moving average along axis 1, back at unit deviation."""
    kernel = np.ones(steps) / steps
    averaged = np.apply_along_axis(lambda line: np.convolve(line, kernel, mode="same"), 1, values)
    return averaged / averaged.std()  # type: ignore[no-any-return]  # numpy types the quotient as Any


def rows(count: int, rng: np.random.Generator) -> Samples:
    """float32 [N, F]: numbers on scales of their own, the class by products and steps of a few, and noise."""
    fixed = np.random.default_rng(12)
    mix = fixed.normal(size=(COLUMNS, 3, CLASSES)) * (fixed.random((COLUMNS, 3, CLASSES)) < 0.1)
    values = rng.normal(size=(count, COLUMNS))
    terms = np.stack([values, np.sign(values) * (np.abs(values) > 0.7), values * np.roll(values, 1, axis=1)], axis=2)
    scores = np.einsum("nft,ftk->nk", terms, mix)
    scores /= scores.std()
    labels = (scores + rng.gumbel(0, 0.06, scores.shape)).argmax(1)
    scale = fixed.uniform(0.1, 100.0, COLUMNS)
    return (values * scale + scale).astype(np.float32), labels.astype(np.int64)
