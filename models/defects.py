"""Renders metal surfaces: good ones, and ones with a scratch, a dent or a stain.

Brushed metal is noise smoothed along one direction, lit unevenly. A scratch is a thin bright line, a dent a shaded
disc, a stain a soft dark blob; all are faint enough that single pixels do not give them away.

    S side in pixels
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt

Plane = npt.NDArray[np.float64]
Rng = np.random.Generator


def samples(count: int, side: int, seed: int) -> Iterator[tuple[str, npt.NDArray[np.uint8]]]:
    """`count` pictures as (path, uint8 [S, S]), classes in turn; the same for the same count, side and seed."""
    names = list(KINDS)
    for index in range(count):
        rng = np.random.default_rng((seed, index))
        name = names[index % len(names)]
        plane = KINDS[name](surface(side, rng), rng)
        noise = rng.normal(0.0, 2.0, plane.shape)
        yield f"{name}/{index:05}.png", np.clip(plane + noise, 0, 255).round().astype(np.uint8)


def surface(side: int, rng: Rng) -> Plane:
    """Brushed metal [S, S], about 70 to 180."""
    grain = rng.normal(0.0, 1.0, (side, side + 16))
    kernel = np.ones(16) / 4.0
    brushed = np.stack([np.convolve(row, kernel, "valid")[:side] for row in grain])
    if rng.random() < 0.5:
        brushed = brushed.T
    y, x = _grid(side)
    angle = rng.uniform(0, 2 * np.pi)
    light = (x * np.cos(angle) + y * np.sin(angle)) * rng.uniform(5, 30)
    return np.asarray(rng.uniform(105, 145) + light + brushed * rng.uniform(5, 9))


def _good(plane: Plane, rng: Rng) -> Plane:
    return plane


def _scratch(plane: Plane, rng: Rng) -> Plane:
    y, x = _grid(len(plane))
    angle, offset = rng.uniform(0, np.pi), rng.uniform(-0.5, 0.5)
    bend = rng.uniform(-0.3, 0.3)
    along = x * np.cos(angle) + y * np.sin(angle)
    across = -x * np.sin(angle) + y * np.cos(angle) - offset - bend * along**2
    middle, half = rng.uniform(-0.3, 0.3), rng.uniform(0.4, 0.8)
    width = rng.uniform(0.9, 1.6) / len(plane)
    line = np.exp(-((across / (2 * width)) ** 2)) * (np.abs(along - middle) < half)
    return np.asarray(plane + line * rng.choice([-1.0, 1.0]) * rng.uniform(35, 65))


def _dent(plane: Plane, rng: Rng) -> Plane:
    y, x = _grid(len(plane))
    radius = rng.uniform(0.18, 0.34)
    cy, cx = rng.uniform(-0.55, 0.55, 2)
    distance = np.hypot(y - cy, x - cx) / radius
    angle = rng.uniform(0, 2 * np.pi)
    slope = ((x - cx) * np.cos(angle) + (y - cy) * np.sin(angle)) / radius
    return np.asarray(plane + slope * np.exp(-(distance**4)) * rng.uniform(35, 60))


def _stain(plane: Plane, rng: Rng) -> Plane:
    y, x = _grid(len(plane))
    blot = np.zeros_like(plane)
    cy, cx = rng.uniform(-0.5, 0.5, 2)
    for _ in range(rng.integers(2, 5)):
        dy, dx = rng.normal(0, 0.16, 2)
        blot = np.maximum(blot, np.exp(-(((y - cy - dy) ** 2 + (x - cx - dx) ** 2) / rng.uniform(0.02, 0.06))))
    return plane - blot * rng.uniform(28, 50)


def _grid(side: int) -> tuple[Plane, Plane]:
    """Rows and columns [S, S], both from -1 to 1."""
    line = np.linspace(-1.0, 1.0, side)
    y, x = np.meshgrid(line, line, indexing="ij")
    return y, x


KINDS: dict[str, Callable[[Plane, Rng], Plane]] = {"good": _good, "scratch": _scratch, "dent": _dent, "stain": _stain}
