"""The net: what goes in, what comes out, and that a saved one answers as before."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from models import image_net, layers, net
from models.contract import Contract

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
