"""A norm over several ranks does what a plain batch norm does with the whole batch in one process."""

import json
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from models.ranks import Ranks
from models.shared_norm import share_norms, whole_statistics

# Of five and three, ranks have unlike shares; of two, one of three ranks has none.
SCRIPT = """
import json, sys
import torch
from torch import nn
from models import ranks
from models.shared_norm import share_norms

KINDS = {"image": (nn.BatchNorm2d, (5, 6, 7)), "series": (nn.BatchNorm1d, (5, 9)), "table": (nn.BatchNorm1d, (5,))}
found = {}
with ranks.joined() as among:
    for kind, (norm, shape) in KINDS.items():
        torch.manual_seed(3)
        net = nn.Sequential(norm(5))
        with torch.no_grad():
            net[0].weight.uniform_(0.5, 2), net[0].bias.uniform_(-1, 1)
        if among.world > 1:
            share_norms(net, among)
        grads = ranks.Gradients(net, among)
        for count in (8, 5, 7, 2):
            share, batch, pull = among.share(count), torch.randn(count, *shape) * 3 + 10, torch.randn(count, *shape)
            own = share.of(batch).clone()
            if kind == "image":
                own = own.contiguous(memory_format=torch.channels_last)
            own.requires_grad_()
            answer = net(own)
            (answer * share.of(pull)).sum().backward()
            found[f"{kind}: answers to {count}"] = among.joined(answer.detach(), share).tolist()
            found[f"{kind}: gradients of {count}"] = among.joined(own.grad, share).tolist()
        grads.add_up()
        found |= {f"{kind}: gradient of {name}": part.grad.tolist() for name, part in net.named_parameters()}
        found |= {f"{kind}: {name}": part.tolist() for name, part in net.state_dict().items()}
        found[f"{kind}: answers in evaluation"] = net.eval()(batch).tolist()
    if among.first:
        print(json.dumps(found))
"""


@pytest.mark.slow
@pytest.mark.parametrize("world", [2, 3])
def test_outputs_gradients_and_running_statistics_are_those_of_one_process(
    started: Callable[..., list[Any]], world: int
) -> None:
    (alone,), (first, *_) = started(1, SCRIPT), started(world, SCRIPT)
    assert first.rc == 0, first.err
    wanted, found = json.loads(alone.out), json.loads(first.out)
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        torch.testing.assert_close(
            torch.tensor(found[name]),
            torch.tensor(value),
            rtol=1e-4,
            atol=2e-5,
            msg=lambda text, n=name: f"{n}: {text}",
        )


def test_statistics_far_from_zero_do_not_cancel() -> None:
    values = torch.randn(64, 2, 3, 3) + 10_000
    mean, var, count = whole_statistics(values, Ranks.alone())
    wanted = torch.var_mean(values.double(), (0, 2, 3), correction=0)
    assert count == 64 * 9
    torch.testing.assert_close(mean.double(), wanted[1], rtol=1e-6, atol=0)
    torch.testing.assert_close(var.double(), wanted[0], rtol=1e-2, atol=0)


def test_a_single_value_cannot_be_normed_and_the_message_says_what_to_change() -> None:
    with pytest.raises(ValueError, match="make `batch` larger"):
        whole_statistics(torch.ones(1, 3), Ranks.alone())


def test_weights_keep_their_names() -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    share_norms(model, Ranks.alone())
    after = model.state_dict()
    assert after.keys() == before.keys() and all(torch.equal(after[name], before[name]) for name in before)
