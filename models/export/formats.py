"""The formats that a release knows: what makes each, what runs it, and on which kinds of target it makes sense.

A format's name is `<runtime>-<precision>`. Standard library only: what measures must not import what exports.
"""

from __future__ import annotations

import importlib.metadata
from dataclasses import dataclass

# By target: the kind of machine behind it.
KINDS = {
    "cloud-cpu": "x86",
    "cloud-gpu": "gpu",
    "edge-x86": "x86",
    "edge-arm64": "arm",
    "edge-jetson": "jetson",
}
CPUS = ("x86", "arm")


@dataclass(frozen=True, kw_only=True)
class Format:
    """One format.

    exporter   the module of `models.export` that makes it
    runtime    the module of `models.engines` that runs it
    makes      the distributions that making it needs, beside torch, which holds every net
    runs       the distributions that running it needs, beside numpy
    kinds      of machines where it is a candidate
    tolerance  by how much an answer may differ on another CPU: of a probability, or in the target's deviations
    slow       made by a compiler that takes a minute: tried where it may ship, and where the whole set is installed
    """

    name: str
    exporter: str
    runtime: str
    makes: tuple[str, ...]
    runs: tuple[str, ...]
    kinds: tuple[str, ...]
    tolerance: float = 1e-3
    slow: bool = False

    @property
    def by_batch(self) -> bool:
        """Whether an answer depends on what else is in the batch, from which it takes its ranges."""
        return self.name.endswith("-dynamic")

    @property
    def quantised(self) -> bool:
        """Whether it is made with calibration data."""
        return "-int8" in self.name


def _onnx(name: str, exporter: str, kinds: tuple[str, ...], tolerance: float) -> Format:
    return Format(
        name=name, exporter=exporter, runtime="onnxruntime", makes=("onnx", "onnxscript", "onnxruntime"),
        runs=("onnxruntime",), kinds=kinds, tolerance=tolerance,
    )  # fmt: skip


def _openvino(name: str, tolerance: float, *more: str) -> Format:
    return Format(
        name=name, exporter="openvino", runtime="openvino", makes=("openvino", "onnx", "onnxscript", *more),
        runs=("openvino",), kinds=CPUS, tolerance=tolerance,
    )  # fmt: skip


def _executorch(name: str, tolerance: float, *more: str) -> Format:
    return Format(
        name=name, exporter="executorch", runtime="executorch", makes=("executorch", *more),
        runs=("executorch", "torch"), kinds=CPUS, tolerance=tolerance,
    )  # fmt: skip


def _aoti(name: str, kind: str, tolerance: float) -> Format:
    return Format(
        name=name, exporter="aoti", runtime="aoti", makes=("torch",), runs=("torch",), kinds=(kind,),
        tolerance=tolerance, slow=True,
    )  # fmt: skip


# Tolerances: an 8-bit mantissa (bf16) and an 8-bit step differ by hundredths between kernels, fp16 by thousandths.
ALL = (
    _onnx("onnx-fp32", "onnx", (*CPUS, "gpu", "jetson"), 1e-3),
    _onnx("onnx-fp16", "onnx", (*CPUS, "gpu", "jetson"), 1e-2),
    _onnx("onnx-int8", "onnx_int8", CPUS, 5e-2),
    _onnx("onnx-int8-dynamic", "onnx_int8", CPUS, 5e-2),
    _openvino("openvino-fp32", 1e-3),
    _openvino("openvino-bf16", 5e-2),
    _openvino("openvino-int8", 5e-2, "nncf"),
    _executorch("executorch-fp32", 1e-3),
    _executorch("executorch-int8", 5e-2, "torchao"),
    _aoti("aoti-cpu", "x86", 1e-3),
    _aoti("aoti-cuda", "gpu", 5e-2),
    Format(
        name="tensorrt-fp16",
        exporter="tensorrt",
        runtime="tensorrt",
        makes=("onnx", "onnxscript", "onnxruntime"),
        runs=("tensorrt", "cuda-bindings"),
        kinds=("gpu", "jetson"),
        tolerance=1e-2,
    ),
)
BY_NAME = {form.name: form for form in ALL}


def kind_of(target: str) -> str:
    """The kind of machine behind a target; one that no one knows counts as a kind of its own."""
    return KINDS.get(target, target)


def candidates(target: str, allowed: list[str]) -> list[str]:
    """The names of all formats that make sense for a target, and those that its table allows beside them."""
    sensible = [form.name for form in ALL if kind_of(target) in form.kinds]
    return sensible + [name for name in allowed if name not in sensible]


def absent(distributions: tuple[str, ...]) -> list[str]:
    """Those that are not installed here."""
    return [name for name in distributions if not installed(name)]


def installed(distribution: str) -> bool:
    """Whether a distribution is installed here."""
    return _version(distribution) is not None


def tools() -> dict[str, str | None]:
    """What makes and runs artefacts: the version here of every distribution that any format needs, None for none."""
    needed = {"torch", *(name for form in ALL for name in (*form.makes, *form.runs))}
    return {name: _version(name) for name in sorted(needed)}


def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None
