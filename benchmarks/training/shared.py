"""How many samples a second so many ranks learn from, each started with torchrun's environment on a core of its own.

python -m benchmarks.training.shared image-base 12        12 timed steps; the first rank prints a line of JSON
"""

from __future__ import annotations

import json
import statistics
import sys
import time

import torch

from benchmarks.training.nets import prepared
from models import ranks
from models.checkpoint import Progress
from models.train import learn

WARM = 3


def main(argv: list[str]) -> int:
    """Times steps of net argv[0]: the median step, and what this rank's CPU spent on it."""
    name, steps = argv[0], int(argv[1])
    with ranks.joined() as among:
        torch.set_num_threads(1)
        batch = prepared(name, 2, among).config.batch
        run = prepared(name, batch * (WARM + steps), among)
        seconds, busy = [], []
        began, worked = time.perf_counter(), time.process_time()
        for number, _ in enumerate(learn(run, Progress()), 1):
            if number > WARM:
                seconds.append(time.perf_counter() - began)
                busy.append(time.process_time() - worked)
            began, worked = time.perf_counter(), time.process_time()
        spent = among.add_up(torch.tensor(statistics.median(busy))).item()
        if among.first:
            found = {"batch": batch, "step_s": statistics.median(seconds), "best_s": min(seconds), "cpu_s": spent}
            print(json.dumps(found))  # noqa: T201 - the caller reads this line
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
