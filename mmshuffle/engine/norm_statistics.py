"""BatchNorm statistics, estimated anew at the end of training."""

import sys
from collections.abc import Iterable, Iterator
from itertools import chain, islice
from typing import Any

import torch
from mmengine.dist import all_reduce, broadcast, get_world_size
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.registry import HOOKS
from mmengine.runner import EpochBasedTrainLoop, Runner
from mmengine.utils.dl_utils.parrots_wrapper import _BatchNorm
from torch import nn
from tqdm import tqdm

from .hooks import unwrapped_model


@HOOKS.register_module()
class PreciseBNHook(Hook):
    """Replaces the running statistics by plain means over many training batches.

    During training they are a moving average over weights that have changed since. The authors of
    ShuffleNet end theirs with such a pass (megvii-model/ShuffleNet-Series, the last step of its
    training scripts: 1250 batches without learning). Runs after the last step, before its
    checkpoint is written and before the last validation. Layers in evaluation mode, such as frozen
    ones, keep their statistics; a network without BatchNorm is left alone.

    Args:
        num_batches: Batches a process; as many as the training set has, if that is less.
    """

    # Before CheckpointHook, which has VERY_LOW, that is 90; behind the hooks of priority LOW, 70,
    # which time the epoch.
    priority = 80

    def __init__(self, num_batches: int = 1250) -> None:
        if type(num_batches) is not int or num_batches < 1:
            raise ValueError(f'num_batches={num_batches!r} of PreciseBNHook: give at least 1')
        self.num_batches = num_batches

    def after_train_iter(self, runner: Runner, **_: Any) -> None:
        """Estimate, after the last step of a run that counts iterations."""
        epochs = isinstance(runner.train_loop, EpochBasedTrainLoop)
        if not epochs and runner.iter + 1 == runner.max_iters:
            self._estimate(runner)

    def after_train_epoch(self, runner: Runner) -> None:
        """Estimate, after the last epoch of a run that counts epochs.

        Not within the epoch: a data loader whose workers persist has one iterator only.
        """
        epochs = isinstance(runner.train_loop, EpochBasedTrainLoop)
        if epochs and runner.epoch + 1 == runner.max_epochs:
            self._estimate(runner)

    def _estimate(self, runner: Runner) -> None:
        model = unwrapped_model(runner)
        if not any(isinstance(module, _BatchNorm) for module in model.modules()):
            return
        count = min(self.num_batches, len(runner.train_dataloader))
        print_log(f'estimating BatchNorm statistics over {count} batches', logger='current')
        with runner.optim_wrapper.optim_context(runner.model):  # in the precision of the training
            estimate_statistics(model, _batches(model, runner, count))


@HOOKS.register_module()
class SharedStatisticsHook(Hook):
    """Makes all processes validate the network of the first one, which is what checkpoints hold.

    In training, each has BatchNorm statistics of its own batches.
    """

    priority = 'LOW'  # behind mmengine's EMAHook, which puts the averaged network in the place

    def before_val_epoch(self, runner: Runner) -> None:
        """Give all processes the buffers of the first."""
        for buffer in unwrapped_model(runner).buffers():
            broadcast(buffer)


@torch.no_grad()
def estimate_statistics(model: nn.Module, batches: Iterable[tuple]) -> None:
    """Set running mean and variance of every BatchNorm in training mode to means over ``batches``.

    Args:
        model: In training mode.
        batches: Positional arguments of ``model``, for each forward pass. In distributed runs every
            process gives its own, and the same number.

    Raises:
        ValueError: ``batches`` is empty; the statistics are then unchanged.
    """
    batches = iter(batches)
    first = next(batches, None)
    if first is None:
        raise ValueError('batches is empty: BatchNorm statistics cannot be estimated')
    norms = [
        m
        for m in model.modules()
        if isinstance(m, _BatchNorm) and m.training and m.track_running_stats
    ]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # PyTorch: a cumulative mean
    try:
        for arguments in chain((first,), batches):
            model(*arguments)
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
    if get_world_size() > 1:
        for norm in norms:
            all_reduce(norm.running_mean, 'mean')
            all_reduce(norm.running_var, 'mean')


def _batches(model: nn.Module, runner: Runner, count: int) -> Iterator[tuple]:
    # A loop that counts iterations holds one iterator of its sampler, which ends when another takes
    # its place in workers that persist: it must be gone on with.
    loop = runner.train_loop
    source = getattr(loop, 'dataloader_iterator', loop.dataloader)
    bar = dict(desc='BatchNorm statistics', total=count, leave=False, file=sys.stderr)
    for batch in tqdm(islice(source, count), disable=runner.rank != 0, **bar):
        data = model.data_preprocessor(batch, training=True)
        yield data['inputs'], data['data_samples'], 'loss'
