"""Statistics estimated at the end of training."""

import pytest
import torch
from torch import nn

from mmshuffle.engine.norm_statistics import PreciseBNHook, estimate_statistics


def network() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 5, 1), nn.BatchNorm2d(5)
    ).double()


def batches(count: int) -> list[tuple[torch.Tensor]]:
    return [(torch.rand(4, 3, 8, 8).double() * (i + 1) + i,) for i in range(count)]


def test_statistics_are_means_over_the_batches():
    net, data = network(), batches(5)
    net(data[0][0])  # leaves a moving average behind
    estimate_statistics(net, iter(data))
    with torch.no_grad():
        first = [net[0](x) for (x,) in data]
        mean = torch.stack([y.mean((0, 2, 3)) for y in first]).mean(0)
        variance = torch.stack([y.var((0, 2, 3)) for y in first]).mean(0)
    assert torch.allclose(net[1].running_mean, mean)
    assert torch.allclose(net[1].running_var, variance)
    # Behind a BatchNorm in training mode, every batch is normalised by itself.
    with torch.no_grad():
        second = [net[3](net[2](net[1](y))) for y in first]
    mean = torch.stack([y.mean((0, 2, 3)) for y in second]).mean(0)
    assert torch.allclose(net[4].running_mean, mean)


def test_weights_and_momentum_and_frozen_layers_stay():
    net = network()
    net[1].eval()
    net[4].momentum = 0.03
    frozen = net[1].running_mean.clone()
    before = [p.detach().clone() for p in net.parameters()]
    estimate_statistics(net, iter(batches(3)))
    assert torch.equal(net[1].running_mean, frozen)
    assert net[4].momentum == 0.03 and net[1].momentum == 0.1
    assert all(torch.equal(p, q) for p, q in zip(net.parameters(), before, strict=True))


def test_a_failing_batch_restores_the_momentum():
    net = network()
    with pytest.raises(RuntimeError):
        estimate_statistics(net, iter([(torch.rand(4, 3, 8, 8).double(),), (torch.rand(1),)]))
    assert net[1].momentum == 0.1


def test_the_number_of_batches_is_checked():
    with pytest.raises(ValueError, match='num_batches=0'):
        PreciseBNHook(0)
