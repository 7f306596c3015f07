"""Layers are counted as by hand."""

import pytest
import torch
from torch import Tensor, nn

from mmshuffle.analysis import Cost, count_layers


def run_on_meta(net: nn.Module, *shape: int):
    net.to('meta').eval()
    with count_layers(net) as counts:
        net(torch.empty(*shape, device='meta'))
    return counts


def test_layers_are_counted_as_by_hand():
    """Memory access is that of ShuffleNet V2, equation 1: hw(c1 + c2) + c1 c2 / g."""
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, padding=1),  # 10x14 to 5x7
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3, padding=1, groups=8, bias=False),
        nn.Conv2d(8, 4, 1, groups=2),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(4, 10),
    )
    assert run_on_meta(net, 1, 3, 10, 14).layers == {
        '0': Cost(35 * 8 * 27, 0, 8 * 35, 3 * 140 + 8 * 35 + 8 * 27),
        '3': Cost(35 * 8 * 9, 0, 8 * 35, 8 * 35 + 8 * 35 + 8 * 9),
        '4': Cost(35 * 4 * 4, 0, 4 * 35, 8 * 35 + 4 * 35 + 4 * 4),
        '7': Cost(40, 0, 10, 4 + 10 + 40),
    }


def test_transposed_convolutions_multiply_once_an_input_element():
    net = nn.ConvTranspose2d(6, 4, 2, stride=2, bias=False)  # 5x7 to 10x14
    (cost,) = run_on_meta(net, 1, 6, 5, 7).layers.values()
    assert cost == Cost(35 * 6 * 4 * 4, 0, 4 * 140, 6 * 35 + 4 * 140 + 6 * 4 * 4)


class Odd(nn.Module):
    """A layer that runs twice, one that does not run, and a product that is in no layer."""

    def __init__(self) -> None:
        super().__init__()
        self.twice = nn.Linear(6, 6)
        self.never = nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.twice(self.twice(x))
        return x.transpose(0, 1) @ x


def test_what_runs_twice_counts_twice_and_what_does_not_run_is_named():
    counts = run_on_meta(Odd(), 3, 6)
    assert counts.layers['twice'] == Cost(2 * 3 * 36, 0, 2 * 18, 2 * (18 + 18 + 36))
    assert counts.idle == ['never']
    assert counts.outside == 6 * 3 * 6


def test_what_runs_later_does_not_count():
    """Also after a failure."""
    net = nn.Sequential(nn.Linear(4, 4))
    counts = run_on_meta(net, 1, 4)
    with pytest.raises(RuntimeError), count_layers(net) as failed:
        net(torch.empty(1, 5, device='meta'))
    net(torch.empty(1, 4, device='meta'))
    assert counts.layers['0'].multiply_adds == 16 and failed.idle == ['0']
