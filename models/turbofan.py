"""Renders run-to-failure series in the manner of turbofan engines: sensors that drift as health declines.

After the idea of C-MAPSS (Saxena et al., Damage Propagation Modeling for Aircraft Engine Run-to-Failure Simulation,
2008): a unit starts with some wear, its health falls ever faster until it fails, three operating settings vary, and
noisy sensors show health, settings or nothing at all.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

SENSORS = 10
COLUMNS = ("unit", "cycle", "setting_1", "setting_2", *(f"sensor_{number}" for number in range(1, SENSORS + 1)))
SHORTEST, LONGEST = 90, 220  # cycles of a unit's life


def rows(units: int, seed: int) -> Iterator[list[str]]:
    """Each unit's cycles in order, as COLUMNS names them; the same for the same units and seed."""
    shared = np.random.default_rng(seed)
    # What the sensors answer to: health, the two settings; a fifth of the reach is a sensor's own.
    health = shared.normal(0, 1, SENSORS) * (np.arange(SENSORS) % 5 != 4)
    settings = shared.normal(0, 0.4, (SENSORS, 2))
    offset, scale = shared.uniform(20, 600, SENSORS), shared.uniform(1, 12, SENSORS)
    for unit in range(1, units + 1):
        rng = np.random.default_rng((seed, unit))
        life = int(rng.integers(SHORTEST, LONGEST))
        done = np.arange(1, life + 1) / life
        wear = rng.uniform(0, 0.1) + (1 - rng.uniform(0, 0.1)) * np.exp(rng.uniform(3.0, 5.0) * (done - 1))
        given = rng.normal(0, 1, (life, 2))
        seen = wear[:, None] * 3.0 * health + given @ settings.T + rng.normal(0, 0.6, (life, SENSORS))
        values = offset + scale * seen
        for cycle in range(life):
            sensors = [f"{value:.4f}" for value in values[cycle]]
            yield [str(unit), str(cycle + 1), *(f"{value:.4f}" for value in given[cycle]), *sensors]
