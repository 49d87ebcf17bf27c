"""How a training step is made fast on this device: precision, compilation, the optimiser's kernel, input ahead of time.

Numbers of a step do not depend on it beyond rounding. A GPU gets bf16, a compiled net and pinned, prefetched batches
unless the settings say otherwise; a CPU computes in fp32, where bf16 took twice the time, and compiles only when asked.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from models.anomaly_net import Detector

PRECISIONS = ("auto", "fp32", "bf16")
COMPILES = ("auto", "on", "off")


@dataclass(frozen=True)
class Pace:
    """What `precision` and `compile`, one of the values above, come to on `device`."""

    device: torch.device
    bf16: bool
    compiled: bool

    @classmethod
    def of(cls, precision: str, compile: str, device: torch.device) -> Pace:
        """The settings on this device; `auto` takes what is faster there."""
        gpu = device.type == "cuda"
        return cls(
            device, precision == "bf16" or (precision == "auto" and gpu), compile == "on" or (compile == "auto" and gpu)
        )

    def autocast(self) -> AbstractContextManager[object]:
        """Where forward runs. bfloat16 has float32's range, so that no loss need be scaled."""
        return torch.autocast(self.device.type, torch.bfloat16) if self.bf16 else nullcontext()

    def prepare(self, model: nn.Module) -> None:
        """Compiles what training calls, in place: names of weights stay."""
        if not self.compiled:
            return
        if isinstance(model, Detector):
            model.errors = torch.compile(model.errors)  # type: ignore[method-assign]
        else:
            model.compile()

    def optimizer(self, model: nn.Module, *, rate: float, decay: float) -> torch.optim.Optimizer:
        """AdamW, all weights in one kernel where torch has that for the device, as it has for CPU and CUDA."""
        fused = self.device.type in ("cpu", "cuda")
        return torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=decay, fused=fused)

    def seed(self, value: int) -> None:
        """What the net draws next, on this device. Not torch.manual_seed, which seeks other devices each time."""
        if self.device.type == "cuda":
            torch.cuda.manual_seed(value)
        else:
            torch.default_generator.manual_seed(value)

    def ahead(self, batches: Iterable[tuple[Tensor, Tensor]]) -> Iterator[tuple[Tensor, Tensor]]:
        """The same batches on the device. On a GPU each is copied while the one before is computed on."""
        if self.device.type != "cuda":
            yield from batches
            return
        side, current = torch.cuda.Stream(self.device), torch.cuda.current_stream(self.device)  # type: ignore[no-untyped-call]
        waiting: tuple[Tensor, Tensor] | None = None
        for batch in batches:
            with torch.cuda.stream(side):
                inputs, labels = (part.pin_memory().to(self.device, non_blocking=True) for part in batch)
            if waiting is not None:
                yield waiting
            current.wait_stream(side)
            waiting = inputs, labels
            for part in waiting:  # its memory is not used again before the stream that reads it is done
                part.record_stream(current)
        if waiting is not None:
            yield waiting
