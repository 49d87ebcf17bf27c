"""What each training step is given: which samples, changed how, in which parts, on which rank.

All of it follows from seed, epoch and step alone, so that a run goes on in the middle of an epoch as if it had never
stopped, and so that one rank with one part, and many ranks with many, see the same samples changed in the same way.

B samples in a batch
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from models.pace import Pace
from models.ranks import Ranks, Share

Change = Callable[[Tensor, torch.Generator, Share], Tensor]

# An epoch takes no more steps than this: from there on the batches grow instead.
STEPS = 250
# More steps than an epoch can have: what its seed is multiplied by.
_ROOM = 4096


@dataclass(frozen=True)
class Part:
    """The rows of a batch that go through the net at once, on this rank, and which of the batch they are."""

    inputs: Tensor
    labels: Tensor
    share: Share


@dataclass(frozen=True)
class Step:
    """One step of the optimiser: step `number` of `count`, over `samples` [B] of all parts and ranks."""

    number: int
    count: int
    samples: Tensor
    seed: int
    parts: Sequence[Share]

    @property
    def whole(self) -> bool:
        """Whether the batch goes through the net at once, on this rank alone."""
        return len(self.parts) == 1 and self.parts[0].count == len(self.samples)


class Feed:
    """The training split in random order, epoch by epoch. `change`, if any, is what samples go through first."""

    def __init__(
        self, inputs: Tensor, labels: Tensor, *, batch: int, accumulate: int, seed: int, change: Change | None,
        ranks: Ranks, pace: Pace,
    ) -> None:  # fmt: skip
        self.count = len(labels)
        self._inputs, self._labels = inputs, labels
        self._size, self._accumulate = max(batch * accumulate, self.count // STEPS), accumulate
        self._seed, self._change, self._ranks, self._pace = seed, change, ranks, pace
        self._rng = torch.Generator()

    def steps(self, epoch: int, first: int = 0) -> Iterator[tuple[Step, Iterator[Part]]]:
        """The steps of an epoch from step `first` on, each with its parts on the device."""
        seed = self._seed * 100_003 + epoch
        batches = batches_of(self.count, self._size, self._rng.manual_seed(seed))
        steps = [
            Step(number, len(batches), samples, seed * _ROOM + number, self._parts(len(samples)))
            for number, samples in enumerate(batches)
        ][first:]
        ready = self._pace.ahead(self._drawn(step, share) for step in steps for share in step.parts)
        for step in steps:
            yield step, (Part(*next(ready), share) for share in step.parts)

    def _parts(self, whole: int) -> list[Share]:
        """This rank's share of each part: parts of two samples at least, for one alone has no variance to norm by."""
        count = max(1, min(self._accumulate, whole // 2))
        cuts = [whole * place // count for place in range(count + 1)]
        found = []
        for start, end in itertools.pairwise(cuts):
            own = self._ranks.share(end - start)
            found.append(Share(start + own.first, own.count, whole))
        return found

    def _drawn(self, step: Step, share: Share) -> tuple[Tensor, Tensor]:
        place = step.samples if step.whole else share.of(step.samples)
        inputs = self._inputs[place]
        if self._change is not None:
            # Another stream than that of the net's own noise.
            inputs = self._change(inputs, self._rng.manual_seed(~step.seed), share)
        return inputs, self._labels[place]


def batches_of(count: int, size: int, rng: torch.Generator) -> list[Tensor]:
    """All samples in random order. A last batch of one goes to the one before: alone it has no variance to norm by."""
    order = torch.randperm(count, generator=rng)
    batches = list(torch.split(order, size))
    if len(batches) > 1 and len(batches[-1]) == 1:
        batches[-2:] = [torch.cat(batches[-2:])]
    return batches
