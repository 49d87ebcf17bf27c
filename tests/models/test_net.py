"""The nets of every task: what goes in, what comes out, and that a saved one answers as before."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from safetensors.torch import load_file

from models import curated, image_net, layers, net
from models.anomaly_net import Detector
from models.contract import ANOMALY, Column, Contract
from models.export import onnx

Make = Callable[..., Contract]


def pixels(count: int, *shape: int) -> torch.Tensor:
    return torch.randint(0, 256, (count, *shape), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def test_normalisation_takes_the_contracts_mean_to_zero_and_its_deviation_to_one() -> None:
    layer = layers.Normalize((10.0, 20.0, 30.0), (2.0, 4.0, 5.0))
    raw = torch.tensor([12, 28, 20], dtype=torch.uint8).view(1, 3, 1, 1)
    assert layer(raw).flatten().tolist() == [1.0, 2.0, -2.0]
    assert layer(raw).dtype == torch.float32
    assert torch.equal(layer(raw.float()), layer(raw))


def test_normalised_training_pixels_have_mean_zero_and_deviation_one() -> None:
    raw = pixels(50, 3, 9, 9)
    means, deviations = raw.float().mean((0, 2, 3)), raw.float().std((0, 2, 3), unbiased=False)
    seen = layers.Normalize(tuple(means.tolist()), tuple(deviations.tolist()))(raw)
    assert seen.mean((0, 2, 3)).tolist() == pytest.approx([0, 0, 0], abs=1e-4)
    assert seen.std((0, 2, 3), unbiased=False).tolist() == pytest.approx([1, 1, 1], abs=1e-4)


@pytest.mark.parametrize("size", ["tiny", "base"])
@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 17, 9), (1, 48, 48), (3, 32, 64)])
def test_every_size_answers_every_shape_with_one_logit_per_class(
    contract: Make, size: str, shape: tuple[int, int, int]
) -> None:
    count = shape[0]
    made = image_net.ConvNet(
        contract(shape=shape, mean=(1.0,) * count, std=(1.0,) * count, classes=tuple("abcde")), size
    ).eval()
    logits = made(pixels(2, *shape))
    assert (logits.shape, logits.dtype) == ((2, 5), torch.float32)
    assert bool(torch.isfinite(logits).all())


def test_base_is_larger_than_tiny(contract: Make) -> None:
    tiny, base = (sum(p.numel() for p in image_net.ConvNet(contract(), size).parameters()) for size in ("tiny", "base"))
    assert base > 3 * tiny


def test_an_unknown_size_is_refused_with_the_known_ones(contract: Make) -> None:
    with pytest.raises(ValueError, match="size is 'huge'; allowed: tiny, base"):
        image_net.ConvNet(contract(), "huge")


def test_an_answer_does_not_depend_on_its_neighbours(contract: Make) -> None:
    made = image_net.ConvNet(contract(), "tiny").eval()
    batch = pixels(6, 1, 8, 8)
    alone = torch.cat([made(one[None]) for one in batch])
    torch.testing.assert_close(made(batch), alone, rtol=1e-4, atol=1e-4)


def test_a_saved_net_loads_with_the_same_answers(contract: Make, tmp_path: Path) -> None:
    torch.manual_seed(3)
    made = image_net.ConvNet(contract(), "tiny").eval()
    net.save(made, contract(), "tiny", tmp_path / "deep" / "model")
    loaded, read = net.load(tmp_path / "deep" / "model")
    assert read == contract()
    assert not loaded.training
    assert torch.equal(loaded(pixels(3, 1, 8, 8)), made(pixels(3, 1, 8, 8)))


def test_what_is_saved_is_weights_json_and_the_contract_and_no_pickle(contract: Make, tmp_path: Path) -> None:
    net.save(image_net.ConvNet(contract(), "base"), contract(), "base", tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["contract.json", "model.json", "model.safetensors"]
    assert json.loads((tmp_path / "model.json").read_text())["size"] == "base"
    assert "normalize.mean" in load_file(tmp_path / "model.safetensors")


TASKS = ["table", "prices", "engines", "machine"]


def settled(data: Path, size: str) -> tuple[net.Net, Contract, np.ndarray]:
    """A net that was never trained but knows its data, and test samples."""
    contract = Contract.load(data / "contract.json")
    tensors, labels, _ = curated.read(data, "validation")
    torch.manual_seed(0)
    made = net.build(contract, size)
    raw = torch.from_numpy(np.array(tensors))
    net.observe(made, raw)
    made.train()(raw)
    if isinstance(made, Detector):
        made.settle(raw, raw, torch.from_numpy(np.array(labels)))
    return made.eval(), contract, curated.read(data, "test")[0]


@pytest.mark.parametrize("size", net.SIZES)
@pytest.mark.parametrize("name", TASKS)
def test_every_tasks_net_answers_as_its_contract_says_and_loads_as_it_was_saved(
    name: str, size: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    made, contract, tensors = settled(request.getfixturevalue(name), size)
    answers = net.answers(made, tensors)
    assert (answers.shape, answers.dtype) == ((len(tensors), len(contract.classes) or 1), np.float32)
    assert np.isfinite(answers).all()
    if contract.categorical:
        np.testing.assert_allclose(answers.sum(1), 1.0, atol=1e-5)
    net.save(made, contract, size, tmp_path)
    loaded, read = net.load(tmp_path)
    assert read == contract
    np.testing.assert_array_equal(net.answers(loaded, tensors), answers)


@pytest.mark.parametrize("name", TASKS)
def test_an_answer_is_finite_where_everything_is_missing_or_far_out(name: str, request: pytest.FixtureRequest) -> None:
    made, _, tensors = settled(request.getfixturevalue(name), "tiny")
    strange = np.stack([np.full_like(tensors[0], value) for value in (np.nan, 3e38, -3e38)])
    assert np.isfinite(net.answers(made, strange)).all()


@pytest.mark.parametrize("name", ["table", "prices", "engines"])
def test_a_number_comes_in_the_targets_unit_and_a_life_within_its_cap(
    name: str, request: pytest.FixtureRequest
) -> None:
    made, contract, tensors = settled(request.getfixturevalue(name), "tiny")
    raw = made(torch.from_numpy(np.array(tensors))).detach().numpy()
    answers = net.answers(made, tensors)
    if contract.target is None:
        assert ((answers[:, 1] > 0.5) == (raw[:, 1] > raw[:, 0])).all()
        return
    wanted = raw * contract.target.std + contract.target.mean
    cap = contract.target.cap
    np.testing.assert_allclose(answers, wanted if cap is None else np.clip(wanted, 0, cap), rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 17, 9), (1, 48, 48), (3, 5, 40)])
@pytest.mark.parametrize("size", net.SIZES)
def test_a_detector_of_pictures_rebuilds_every_shape(contract: Make, size: str, shape: tuple[int, int, int]) -> None:
    count = shape[0]
    made = net.build(
        contract(task="anomaly", classes=ANOMALY, shape=shape, mean=(1.0,) * count, std=(1.0,) * count), size
    )
    assert isinstance(made, Detector)
    assert made.eval().errors(pixels(2, *shape)).shape == (2, *shape)
    assert made(pixels(2, *shape)).shape == (2, 2)


def test_a_series_of_categories_alone_has_nothing_to_find_anomalies_in(contract: Make) -> None:
    given = contract(
        modality="timeseries", task="anomaly", classes=ANOMALY, shape=(4, 1), mean=(0.0,), std=(1.0,),
        columns=(Column(name="state", values=("a", "b")),),
    )  # fmt: skip
    with pytest.raises(ValueError, match="every column is a category"):
        net.build(given, "tiny")


def test_half_is_where_the_score_meets_the_threshold(request: pytest.FixtureRequest) -> None:
    made, _, tensors = settled(request.getfixturevalue("machine"), "tiny")
    assert isinstance(made, Detector)
    scores = made.score(torch.from_numpy(np.array(tensors))).detach().numpy()
    answers = net.answers(made, tensors)
    assert ((answers[:, 1] > 0.5) == (scores > float(made.get_buffer("threshold")))).all()


@pytest.mark.slow
@pytest.mark.parametrize("name", [*TASKS, "curated"])
def test_every_net_is_exported_with_the_same_answers_for_any_batch(
    name: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    made, contract, tensors = settled(request.getfixturevalue(name), "tiny")
    onnx.write(net.Answer(made, contract), contract, tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    for count in (1, 3, len(tensors)):
        (found,) = session.run(None, {onnx.INPUT: tensors[:count]})
        np.testing.assert_allclose(found, net.answers(made, tensors[:count]), rtol=1e-4, atol=1e-4)
