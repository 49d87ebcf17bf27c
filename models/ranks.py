"""The processes that train one net together: each takes its share of every batch, and what they find is added up.

`torchrun` starts them and says in the environment which one each is. Between CPUs gloo carries the sums, between GPUs
NCCL. A process alone is a rank too, the first of one, for which nothing here does anything.

W ranks
"""

from __future__ import annotations

import datetime
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, distributed, nn

# A rank that does not answer for so long has hung; one that ended is noticed at once. Machines come up one by one.
PATIENCE_SECONDS = 600.0


class RankError(Exception):
    """Another rank has ended or hangs; the message says where to look."""


@dataclass(frozen=True)
class Share:
    """Rows `first` to `first + count` of a batch of `whole`."""

    first: int
    count: int
    whole: int

    def of(self, batch: Tensor, dim: int = 0) -> Tensor:
        """Its own rows of a whole batch."""
        return batch.narrow(dim, self.first, self.count)


@dataclass(frozen=True)
class Ranks:
    """This process among `world`, and the device that it computes on."""

    rank: int
    world: int
    device: torch.device

    @classmethod
    def alone(cls) -> Ranks:
        """One process, on a GPU where there is one."""
        return cls(0, 1, torch.device("cuda" if torch.cuda.is_available() else "cpu"))

    @property
    def first(self) -> bool:
        """Whether this one writes and speaks for all."""
        return self.rank == 0

    def share(self, whole: int) -> Share:
        """Which rows of a batch of `whole` are this rank's: as even as can be, none where there are too few."""
        first, end = (whole * place // self.world for place in (self.rank, self.rank + 1))
        return Share(first, end - first, whole)

    def add_up(self, values: Tensor) -> Tensor:
        """The sum over all ranks, in place of `values`; the same bits on each. Raises RankError."""
        if self.world > 1:
            with _explained():
                distributed.all_reduce(values)
        return values

    def any(self, flag: bool) -> bool:
        """Whether it is true on any rank."""
        return flag if self.world == 1 else bool(self.add_up(torch.tensor(float(flag))).item())

    def joined(self, part: Tensor, share: Share) -> Tensor:
        """The rows of all ranks [whole, ...] from this rank's own [count, ...], on the CPU."""
        if self.world == 1:
            return part.cpu()
        whole = torch.zeros((share.whole, *part.shape[1:]), dtype=part.dtype)
        share.of(whole).copy_(part)
        return self.add_up(whole)

    def given(self, data: bytes | None) -> bytes:
        """The first rank's bytes, on every rank."""
        if self.world == 1:
            return data or b""
        length = self.add_up(torch.tensor([len(data or b"") if self.first else 0]))
        held = torch.frombuffer(bytearray(data or b"") or bytearray(1), dtype=torch.uint8)
        box = held if self.first else torch.empty(max(1, int(length)), dtype=torch.uint8)
        with _explained():
            distributed.broadcast(box, 0)
        return bytes(box[: int(length)].numpy())


class Gradients:
    """The gradients of a net; of several ranks as views into one vector, `all`, which they add up in one go."""

    def __init__(self, model: nn.Module, ranks: Ranks) -> None:
        self._ranks = ranks
        self._learned = [part for part in model.parameters() if part.requires_grad]
        if ranks.world == 1:
            return
        self.all = torch.zeros(sum(part.numel() for part in self._learned), device=ranks.device)
        place = 0
        for part in self._learned:
            # In the layout of the weight: the optimiser goes through both side by side.
            part.grad = self.all[place : place + part.numel()].as_strided(part.shape, part.stride())
            place += part.numel()

    def add_up(self) -> None:
        """The gradient of the whole batch on every rank. Raises RankError."""
        if self._ranks.world > 1:
            self._ranks.add_up(self.all)

    def clear(self) -> None:
        """Forgets them."""
        if self._ranks.world > 1:
            self.all.zero_()
            return
        for part in self._learned:
            part.grad = None


@contextmanager
def joined(environ: Mapping[str, str] = os.environ, patience: float = PATIENCE_SECONDS) -> Iterator[Ranks]:
    """This process among those that `torchrun` started, alone where it did not. Raises RankError."""
    world = int(environ.get("WORLD_SIZE") or 1)
    if world == 1:
        yield Ranks.alone()
        return
    device = torch.device("cpu")
    if torch.cuda.is_available():
        device = torch.device("cuda", int(environ.get("LOCAL_RANK") or 0))
        torch.cuda.set_device(device)
    # gloo beside NCCL: flags and checkpoints stay on the CPU.
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    with _explained():
        distributed.init_process_group(backend, timeout=datetime.timedelta(seconds=patience))
    try:
        yield Ranks(distributed.get_rank(), world, device)
    finally:
        distributed.destroy_process_group()


@contextmanager
def _explained() -> Iterator[None]:
    try:
        yield
    except (RuntimeError, ValueError) as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise RankError(
            f"another rank has ended or does not answer; look at the end of each rank's log for the one that failed "
            f"first (torch says: {first[:300]})"
        ) from error
