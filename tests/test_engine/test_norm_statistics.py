"""Statistics estimated at the end of training."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from mmengine.evaluator import BaseMetric
from mmengine.hooks import Hook
from torch import distributed, multiprocessing, nn

from mmshuffle.engine.norm_statistics import PreciseBNHook, estimate_statistics
from tests.tiny import OneLayer, make_runner


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


def in_two_processes(function: Callable[..., dict], folder: Path, *arguments: object) -> list[dict]:
    """What a function returns in each, which takes its rank."""
    both = dict(nprocs=2, start_method='fork')  # spawned ones import PyTorch
    multiprocessing.start_processes(_in_a_process, (folder, function, arguments), **both)
    return [torch.load(folder / f'{rank}.pth', weights_only=True) for rank in (0, 1)]


def _in_a_process(rank: int, folder: Path, function: Callable[..., dict], arguments: tuple) -> None:
    store = f'file://{folder}/store'
    distributed.init_process_group('gloo', init_method=store, rank=rank, world_size=2)
    torch.save(function(rank, *arguments), folder / f'{rank}.pth')
    distributed.destroy_process_group()


def estimate(rank: int) -> dict:
    torch.manual_seed(0)
    net, data = network(), batches(4)
    estimate_statistics(net, data[rank::2])
    return net.state_dict()


def test_processes_share_the_mean_over_all_their_batches(tmp_path):
    both = in_two_processes(estimate, tmp_path)
    net, data = network(), batches(4)
    estimate_statistics(net, data)
    for found in both:
        for key in ('1.running_mean', '1.running_var', '4.running_mean', '4.running_var'):
            assert torch.allclose(found[key], net.state_dict()[key]), key


INPUTS = torch.linspace(0, 1, 16).view(8, 2) ** 2


class Mean(BaseMetric):
    def process(self, data_batch, data_samples) -> None:
        self.results += [sample.item() for sample in data_samples]

    def compute_metrics(self, results: list) -> dict:
        return dict(mean=sum(results) / len(results))


class Figures(Hook):
    def __init__(self) -> None:
        self.seen: list[float] = []

    def after_val_epoch(self, runner, metrics) -> None:
        self.seen.append(metrics['mean'])


def validate(rank: int, work: Path, loop: dict, hooks: list) -> dict:
    figures, dataset = Figures(), [dict(inputs=x) for x in INPUTS]
    sampler = dict(type='DefaultSampler', shuffle=False)
    make_runner(
        work,
        nn.BatchNorm1d(2),
        dataset,
        loop,
        [figures, dict(type='SharedStatisticsHook'), *hooks],
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.0)),
        val_dataloader=dict(dataset=dataset, sampler=sampler, batch_size=2),
        val_cfg={},
        val_evaluator=[Mean()],
    ).train()
    return dict(figures=figures.seen)


BY_EPOCH = dict(by_epoch=True, max_epochs=2)
AVERAGED = [dict(type='EMAHook', momentum=0.3, update_buffers=True)]


@pytest.mark.parametrize(
    ('loop', 'hooks'),
    [(BY_EPOCH, []), (BY_EPOCH, AVERAGED), (dict(by_epoch=False, max_iters=2, val_interval=1), [])],
)
def test_processes_validate_as_one_does_with_the_checkpoint(tmp_path, loop, hooks):
    both = in_two_processes(validate, tmp_path, tmp_path / 'work', loop, hooks)
    net, expected = OneLayer(nn.BatchNorm1d(2)).eval(), []
    for name in ('epoch_1', 'epoch_2') if loop['by_epoch'] else ('iter_1', 'iter_2'):
        content = torch.load(tmp_path / 'work' / f'{name}.pth', weights_only=False)
        net.load_state_dict(content['state_dict'])
        expected.append(net(list(INPUTS), 'predict').mean().item())
    assert both[0] == both[1]
    assert both[0]['figures'] == pytest.approx(expected)


def test_the_number_of_batches_is_checked():
    with pytest.raises(ValueError, match='num_batches=0'):
        PreciseBNHook(0)
