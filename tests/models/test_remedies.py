"""Remedies: what is tried, in which order and when not, and what each does to an artefact."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from models import gate, net
from models.contract import Contract
from models.export import formats, onnx_int8, remedies, sensitivity, tuning
from models.export.calibration import Calibration
from models.export.candidates import Candidates, Made
from models.export.exporter import PLAIN, Exported, Recipe, Source, Unavailable
from models.export.fidelity import Samples
from models.export.trials import Conditions, Measured

LIMITS = {"min_agreement": 0.995}
TARGET: dict[str, Any] = {"formats": ["onnx-fp32", "onnx-int8", "openvino-int8"], "threads": 1}
ONE = Conditions(threads=1, batch=1)
FIGURES = {"p50_ms": 1.0, "p95_ms": 1.1, "cpu_per_wall": 1.0, "peak_mb": 60.0}
MakeContract = Callable[..., Contract]


def answers(wrong: int) -> np.ndarray:
    """Sure answers of class 0 to 100 samples, but for the first `wrong`."""
    found = np.tile(np.float32([0.9, 0.1]), (100, 1))
    found[:wrong] = found[:wrong, ::-1]
    return found


@dataclass
class Tried:
    """Stands for the candidates of a release: what each recipe answers wrongly is given, and what was asked is kept."""

    folder: Path
    samples: Samples
    wrong: dict[tuple[Recipe, bool], int]
    milliseconds: float = 1.0
    source: Any = None
    asked: list[tuple[Recipe, bool]] = field(default_factory=list)
    adopted: list[Made] = field(default_factory=list)

    def made(self, name: str, allowed: list[str]) -> Made:
        return self._made(name, PLAIN, False)

    def remade(self, name: str, recipe: Recipe, source: Any = None) -> Made:
        self.asked.append((recipe, source is not None))
        if (recipe, source is not None) not in self.wrong:
            raise Unavailable("not made so")
        return self._made(name, recipe, source is not None)

    def measured(self, made: Made, conditions: Conditions) -> Measured:
        found = answers(self.wrong[made.recipe, made.tuned])
        return Measured({**FIGURES, "p50_ms": self.milliseconds}, found, found[:8])

    def adopt(self, made: Made) -> None:
        self.adopted.append(made)

    def _made(self, name: str, recipe: Recipe, tuned: bool) -> Made:
        (self.folder / "model.onnx").write_bytes(b"graph")
        return Made(formats.BY_NAME[name], Exported(("model.onnx",)), self.folder, recipe, tuned)


@pytest.fixture
def tried(contract: MakeContract, tmp_path: Path) -> Callable[..., Tried]:
    labels = np.zeros(100, np.int64)
    held = Samples(np.zeros((100, 1, 8, 8), np.uint8), labels, np.full(100, True), answers(0), contract())
    return lambda wrong, **more: Tried(tmp_path, held, wrong, **more)


def row(name: str, wrong: int, milliseconds: float, samples: Samples, **more: Any) -> dict[str, Any]:
    found = {"format": name, "target": "edge-x86", "skipped": None, "notes": "", **FIGURES, "p50_ms": milliseconds}
    found |= {"install_mb": 10.0, "bytes": 5, **samples.figures_of(answers(wrong)), **more}
    return {**found, "dropped": "; ".join(gate.drops(found, LIMITS, TARGET)) or None}


def applied(given: Tried, *rows: dict[str, Any]) -> list[dict[str, Any]]:
    found = list(rows)
    remedies.apply(cast(Candidates, given), found, ONE, TARGET, LIMITS)
    return found


def test_nothing_is_tried_for_what_keeps_the_gate_or_is_slower_than_what_does(tried: Callable[..., Tried]) -> None:
    given = tried({})
    fits, slow = row("onnx-fp32", 0, 2.0, given.samples), row("onnx-int8", 5, 3.0, given.samples)
    assert slow["dropped"]
    assert applied(given, fits, slow) == [fits, slow]
    assert given.asked == []


def test_nothing_is_tried_where_more_than_the_answers_is_amiss(tried: Callable[..., Tried]) -> None:
    given = tried({})
    applied(given, row("onnx-fp32", 0, 2.0, given.samples), row("onnx-int8", 5, 1.0, given.samples, cpu_per_wall=1.9))
    assert given.asked == []


def test_the_first_ranges_that_keep_the_gate_win_and_the_row_says_so(tried: Callable[..., Tried]) -> None:
    given = tried({(Recipe("percentile"), False): 2, (Recipe("entropy"), False): 0})
    fits, mended = applied(given, row("onnx-fp32", 0, 2.0, given.samples), row("onnx-int8", 5, 1.5, given.samples))
    assert given.asked == [(Recipe(bits=7), False), (Recipe("percentile"), False), (Recipe("entropy"), False)]
    assert (mended["agreement"], mended["dropped"], mended["p50_ms"]) == (1.0, None, 1.0)
    assert mended["notes"] == "remedy: ranges by entropy"
    assert [made.recipe for made in given.adopted] == [Recipe("entropy")]
    assert fits["notes"] == ""


def test_what_seven_bits_mend_in_part_keeps_them_with_every_later_remedy(tried: Callable[..., Tried]) -> None:
    seven, other = Recipe(bits=7), Recipe("percentile", bits=7)
    given = tried({(seven, False): 2, (other, False): 0})
    _, mended = applied(given, row("onnx-fp32", 0, 2.0, given.samples), row("onnx-int8", 5, 1.5, given.samples))
    assert given.asked == [(seven, False), (other, False)]
    assert mended["notes"] == "remedy: weights in 7 bits, ranges by percentile"


def test_then_the_most_sensitive_layers_stay_in_float_and_last_the_net_is_tuned(
    tried: Callable[..., Tried], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sensitivity, "order", lambda *given: [("a", 0.9), ("b", 0.5), ("c", 0.1), ("d", 0.0)])
    monkeypatch.setattr(tuning, "tuned", lambda source, seconds: object())
    wrong = {(Recipe("percentile"), False): 1, (Recipe("entropy"), False): 3}
    wrong |= {(Recipe("percentile", floats), False): 1 for floats in (("a",), ("a", "b"))}
    given = tried({**wrong, (PLAIN, True): 0})
    _, mended = applied(given, row("onnx-fp32", 0, 2.0, given.samples), row("onnx-int8", 5, 1.5, given.samples))
    assert given.asked[1:] == [*wrong, (PLAIN, True)], "two of four layers, and not more than half"
    assert mended["notes"] == "remedy: fine-tuned for 0 s"
    assert given.adopted[0].tuned


def test_what_no_remedy_mends_stays_dropped_and_says_how_near_it_came(
    tried: Callable[..., Tried], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sensitivity, "order", lambda *given: [])
    monkeypatch.setattr(tuning, "tuned", lambda source, seconds: object())
    given = tried({(Recipe("percentile"), False): 4, (Recipe("entropy"), False): 2})
    before = row("onnx-int8", 5, 1.5, given.samples)
    _, after = applied(given, row("onnx-fp32", 0, 2.0, given.samples), dict(before))
    notes = "2 remedies tried, the best of them (ranges by entropy) agrees on 0.9800"
    assert after == {**before, "notes": notes}
    assert given.adopted == []


def test_a_remedy_that_costs_the_lead_is_none(tried: Callable[..., Tried], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remedies, "LADDERS", {"onnx-int8": (({"ranges": "percentile"},), False)})
    monkeypatch.setattr(tuning, "tuned", lambda source, seconds: object())
    given = tried({(Recipe("percentile"), False): 0}, milliseconds=2.5)
    _, after = applied(given, row("onnx-fp32", 0, 2.0, given.samples), row("onnx-int8", 5, 1.5, given.samples))
    assert after["dropped"] and given.adopted == []


def test_remedies_end_when_their_time_is_over(tried: Callable[..., Tried], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remedies, "SECONDS", 0.0)
    given = tried({(Recipe("percentile"), False): 0})
    applied(given, row("onnx-fp32", 0, 2.0, given.samples), row("onnx-int8", 5, 1.5, given.samples))
    assert given.asked == []


@pytest.fixture(scope="module")
def source(trained: Path, curated: Path) -> Source:
    model, contract = net.load(trained)
    return Source(model, net.Answer(model, contract).eval(), contract, Calibration(curated))


def nodes(folder: Path) -> list[Any]:
    return list(onnx.load(folder / "model.onnx").graph.node)


@pytest.mark.slow
def test_a_layer_that_is_left_in_float_reads_no_rounded_weights(source: Source, tmp_path: Path) -> None:
    first, *others = onnx_int8.layers(source)
    onnx_int8.export(source, "onnx-int8", tmp_path, Recipe(floats=(first,)))
    rounded = {out for node in nodes(tmp_path) if node.op_type == "DequantizeLinear" for out in node.output}
    weights = {node.name: set(node.input[1:2]) <= rounded for node in nodes(tmp_path)}
    assert weights[first] is False
    assert all(weights[name] for name in others)


@pytest.mark.slow
def test_the_softmax_of_an_answer_is_not_rounded(source: Source, tmp_path: Path) -> None:
    onnx_int8.export(source, "onnx-int8", tmp_path)
    assert nodes(tmp_path)[-1].op_type == "Softmax"


@pytest.mark.slow
def test_seven_bits_leave_half_of_a_weights_steps_free(source: Source, tmp_path: Path) -> None:
    onnx_int8.export(source, "onnx-int8", tmp_path, Recipe(bits=7))
    weights = [onnx.numpy_helper.to_array(part) for part in onnx.load(tmp_path / "model.onnx").graph.initializer]
    largest = [
        int(np.abs(values.astype(int)).max()) for values in weights if values.dtype == np.int8 and values.ndim > 1
    ]
    assert largest and max(largest) <= 64


@pytest.mark.slow
@pytest.mark.parametrize("ranges", ["percentile", "entropy"])
def test_other_ranges_cut_off_what_is_rare(source: Source, ranges: str, tmp_path: Path) -> None:
    def steps(recipe: Recipe) -> float:
        onnx_int8.export(source, "onnx-int8", tmp_path, recipe)
        graph = onnx.load(tmp_path / "model.onnx").graph
        values = {part.name: onnx.numpy_helper.to_array(part) for part in graph.initializer}
        return float(sum(values[node.input[1]] for node in graph.node if node.op_type == "QuantizeLinear"))

    assert 0 < steps(Recipe(ranges)) < steps(PLAIN)


class Spoilt(nn.Module):
    """Two layers; a huge weight of the second, whose input is always zero, leaves few steps to the others."""

    def __init__(self, contract: Contract) -> None:
        super().__init__()
        size = int(np.prod(contract.shape))
        self.contract = contract
        self.first, self.second = nn.Linear(size, 16), nn.Linear(16, len(contract.classes))
        with torch.no_grad():
            self.first.weight[0], self.first.bias[0] = 0.0, -1.0
            self.second.weight[:, 0] = 20.0

    def forward(self, raw: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.second(torch.relu(self.first(raw.flatten(1) / 255.0)))
        return found


@pytest.fixture
def spoilt(source: Source) -> Source:
    torch.manual_seed(0)
    found = Spoilt(source.contract).eval()
    return Source(found, net.Answer(found, source.contract).eval(), source.contract, source.calibration)


@pytest.mark.slow
def test_the_scan_finds_the_layer_whose_weights_do_not_fit_eight_bits(spoilt: Source) -> None:
    (worst, damage), (_, least) = sensitivity.order(spoilt, Recipe(bits=7), 60.0)
    assert worst == onnx_int8.layers(spoilt)[1]
    assert damage > 3 * least


@pytest.mark.slow
def test_a_tuned_net_answers_nearer_to_the_trained_one_when_it_is_rounded(spoilt: Source, tmp_path: Path) -> None:
    before = {name: value.clone() for name, value in spoilt.net.state_dict().items()}
    tuned = tuning.tuned(spoilt, 60.0)
    plain, better = (distance(given, spoilt, tmp_path) for given in (spoilt, tuned))
    assert better < 0.8 * plain
    assert all(torch.equal(value, before[name]) for name, value in spoilt.net.state_dict().items())
    assert tuned.net.state_dict().keys() == before.keys()
    assert tuned.calibration is spoilt.calibration


def distance(given: Source, trained: Source, folder: Path) -> float:
    """Of an INT8 artefact's logits from the trained net's."""
    import onnxruntime

    onnx_int8.export(given, "onnx-int8", folder)
    session = onnxruntime.InferenceSession(str(folder / "model.onnx"), providers=["CPUExecutionProvider"])
    tensors = trained.calibration.tensors
    found = np.log(session.run(None, {"samples": tensors})[0])
    with torch.no_grad():
        wanted = torch.log_softmax(trained.net(torch.from_numpy(tensors.copy())), 1).numpy()
    centred = [logits - logits.mean(1, keepdims=True) for logits in (found, wanted)]
    return float(np.linalg.norm(centred[0] - centred[1]))


@pytest.mark.slow
def test_tuning_that_brings_nothing_is_refused(source: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tuning, "STEPS", 0)
    with pytest.raises(Unavailable, match="no nearer to the trained one"):
        tuning.tuned(source, 60.0)
