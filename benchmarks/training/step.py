"""Times our training step against other ways to write the loop, in one process and one thread, step by step in turn.

    python -m benchmarks.training.step table bare          one line of JSON: milliseconds of the CPU a step

Every loop trains the same net on the same batches with the same augmentation, loss and fused AdamW. Ours also sets a
seed and a rate at each step and looks whether it is asked to leave, so that a run can be broken off and gone on with.
Time is that of this thread on the CPU, which other processes lengthen least.
"""

from __future__ import annotations

import json
import logging
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.training.nets import prepared
from models import augment
from models.checkpoint import Progress
from models.feed import batches_of
from models.ranks import Ranks
from models.train import Run, learn

STEPS, ROUNDS = 100, 15
# Trains on and on; says after each turn how many steps it took.
Loop = Iterator[int]


def main(argv: list[str]) -> int:
    """Measures net argv[0] with ours and peer argv[1]."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    name, peer = argv
    ours, theirs = _ours(_run(name)), PEERS[peer](_run(name))
    turn = STEPS if peer == "trainer" else 1  # its loop is its own: it cannot stop after a step
    pairs = [_epochs(ours, theirs, turn) for _ in range(ROUNDS + 2)][2:]  # the first ones warm up
    above = [one - other for one, other in pairs]
    row = {
        "step_ms": statistics.median(one for one, _ in pairs),
        "peer_step_ms": statistics.median(other for _, other in pairs),
        "overhead_ms": statistics.median(above),
        "step_ratio": statistics.median(other / one for one, other in pairs),
        "overhead_low_ms": statistics.quantiles(above, n=4)[0],
        "overhead_high_ms": statistics.quantiles(above, n=4)[2],
    }
    print(json.dumps({name: round(value, 4) for name, value in row.items()}))  # noqa: T201 - the caller reads this line
    return 0


def _epochs(ours: Loop, theirs: Loop, turn: int) -> tuple[float, float]:
    """An epoch of each, so many steps of one and then of the other; milliseconds a step."""
    spent = [0.0, 0.0]
    for place in range(0, STEPS, turn):
        # Neither is always the one that finds the other's data in the cache.
        for who in (0, 1) if place // turn % 2 else (1, 0):
            began, done = time.thread_time(), 0
            while done < turn:
                done += next((ours, theirs)[who])
            spent[who] += time.thread_time() - began
    return spent[0] / STEPS * 1000, spent[1] / STEPS * 1000


def _run(name: str) -> Run:
    batch = prepared(name, 2, Ranks.alone()).config.batch
    return prepared(name, batch * STEPS, Ranks.alone())


def _ours(run: Run) -> Loop:
    while True:
        for _ in learn(run, Progress()):
            yield 1
        run.lost()


def _batches(run: Run) -> Iterator[tuple[Tensor, Tensor]]:
    """What any loop needs: the samples in random order, pictures augmented."""
    rng, config = torch.Generator().manual_seed(3), run.config
    for samples in batches_of(len(run.labels), config.batch, rng):
        inputs = run.inputs[samples]
        if run.contract.modality == "image":
            inputs = augment.pictures(inputs, rng, shift=config.shift, jitter=config.jitter, flip=config.flip)
            inputs = inputs.contiguous(memory_format=torch.channels_last)
        yield inputs, run.labels[samples]


def _bare(run: Run) -> Loop:
    """What one writes by hand."""
    model, optimizer, weights = run.model, run.optimizer, torch.ones(len(run.contract.classes))

    while True:
        model.train()
        total = 0.0
        for inputs, labels in _batches(run):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(inputs), labels, weight=weights)
            loss.backward()
            optimizer.step()
            total += loss.item() * len(labels)
            yield 1


def _fabric(run: Run) -> Loop:
    """Lightning Fabric: the loop is one's own, the device and the precision are Fabric's."""
    import lightning

    fabric = lightning.Fabric(accelerator="cpu", devices=1)
    model, optimizer = fabric.setup(run.model, run.optimizer)
    weights = torch.ones(len(run.contract.classes))

    while True:
        model.train()
        total = 0.0
        for inputs, labels in _batches(run):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(inputs), labels, weight=weights)
            fabric.backward(loss)
            optimizer.step()
            total += loss.item() * len(labels)
            yield 1


def _trainer(run: Run) -> Loop:
    """Lightning's Trainer, with all that can be switched off switched off; each epoch has its start in it."""
    import lightning

    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    weights = torch.ones(len(run.contract.classes))

    class Module(lightning.LightningModule):  # type: ignore[misc]  # only the bench extra has it, so a lean environment sees no types
        def __init__(self) -> None:
            super().__init__()
            self.net = run.model

        def training_step(self, batch: Any, _: int) -> Tensor:
            return nn.functional.cross_entropy(self.net(batch[0]), batch[1], weight=weights)

        def configure_optimizers(self) -> Any:
            return run.optimizer

    class Batches(torch.utils.data.IterableDataset):  # type: ignore[type-arg]  # its element type is of no use to anyone
        def __iter__(self) -> Iterator[Any]:
            return _batches(run)

    module, loader = Module(), torch.utils.data.DataLoader(Batches(), batch_size=None)
    options = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)

    while True:
        lightning.Trainer(accelerator="cpu", devices=1, max_epochs=1, **options).fit(module, loader)  # type: ignore[arg-type]  # options by name have one type for all
        yield STEPS


PEERS: dict[str, Callable[[Run], Loop]] = {"bare": _bare, "fabric": _fabric, "trainer": _trainer}

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
