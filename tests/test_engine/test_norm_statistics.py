"""Statistics estimated at the end of training."""

from pathlib import Path

import pytest
import torch
from torch import distributed, multiprocessing, nn

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


def test_without_batches_the_statistics_stay_and_a_failing_one_restores_the_momentum():
    net = network()
    with pytest.raises(RuntimeError):
        estimate_statistics(net, iter([batches(1)[0], (torch.rand(1),)]))
    assert net[1].momentum == 0.1
    net = network()
    net(*batches(1)[0])
    before = net[1].running_mean.clone()
    with pytest.raises(ValueError, match='batches is empty'):
        estimate_statistics(net, iter([]))
    assert torch.equal(net[1].running_mean, before) and net[1].num_batches_tracked == 1


def estimate_in_a_process(rank: int, folder: Path) -> None:
    store = f'file://{folder}/store'
    distributed.init_process_group('gloo', init_method=store, rank=rank, world_size=2)
    torch.manual_seed(0)
    net, data = network(), batches(4)
    estimate_statistics(net, data[rank::2])
    torch.save(net.state_dict(), folder / f'{rank}.pth')
    distributed.destroy_process_group()


def test_processes_share_the_mean_over_all_their_batches(tmp_path):
    both = dict(args=(tmp_path,), nprocs=2, start_method='fork')  # spawned ones import PyTorch
    multiprocessing.start_processes(estimate_in_a_process, **both)
    net, data = network(), batches(4)
    estimate_statistics(net, data)
    for rank in (0, 1):
        found = torch.load(tmp_path / f'{rank}.pth', weights_only=True)
        for key in ('1.running_mean', '1.running_var', '4.running_mean', '4.running_var'):
            assert torch.allclose(found[key], net.state_dict()[key]), key


def test_the_number_of_batches_is_checked():
    with pytest.raises(ValueError, match='num_batches=0'):
        PreciseBNHook(0)
