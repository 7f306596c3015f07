"""Random numbers of a run that is resumed."""

import logging
import random
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

import numpy as np
import torch
from mmengine.dist import all_gather_object, get_rank, get_world_size
from mmengine.hooks import CheckpointHook, Hook
from mmengine.logging import print_log
from mmengine.registry import HOOKS
from mmengine.runner import EpochBasedTrainLoop, Runner
from torch.utils.data import Dataset, get_worker_info


@HOOKS.register_module()
class ReproducibleResumeHook(Hook):
    """Stores the state of all random number generators, so that a resumed run goes on bit by bit.

    Every rank has its own state. Validation leaves the generators untouched, so that neither how
    often nor whether one validates changes the training. Workers of the data loader get the random
    numbers of their epoch, see :class:`EpochSeeds`.

    Exact on the CPU, with the same number of processes and workers. In a run that counts epochs, a
    checkpoint within one holds no states. None holds gradients: where they are accumulated and a
    checkpoint is between two steps, the resumed run lacks those of the batches before it.
    """

    # Before CheckpointHook, which has VERY_LOW.
    priority = 'LOW'

    def __init__(self) -> None:
        self._to_save: list[dict] = []
        self._to_restore: dict | None = None
        self._before_val: dict | None = None
        self._seeds: EpochSeeds | None = None

    def before_train(self, runner: Runner) -> None:
        """Prepare the workers, which start in the first epoch."""
        # A loop that counts iterations has started its workers already.
        if isinstance(runner.train_loop, EpochBasedTrainLoop):
            loader = runner.train_dataloader
            if loader.num_workers and self._seeds is None:
                self._seeds = EpochSeeds(loader.dataset, runner.seed, get_rank())
                loader.dataset.__getitems__ = self._seeds
                # Starting workers draws a number, which persisting ones do only in a resumed run.
                loader.generator = torch.Generator()

    def after_train_epoch(self, runner: Runner) -> None:
        """Collect the states of all ranks; only the first rank saves."""
        if isinstance(runner.train_loop, EpochBasedTrainLoop):
            self._to_save = all_gather_object(get_rng_state())

    def after_train_iter(self, runner: Runner, **_: Any) -> None:
        """In a run that counts iterations, collect them before a checkpoint."""
        if any(_saves_now(hook, runner) for hook in runner.hooks):
            self._to_save = all_gather_object(get_rng_state())

    def before_train_iter(self, runner: Runner, **_: Any) -> None:
        """Drop the states of the last epoch: they are no longer those of the moment."""
        self._to_save = []

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Put them into the checkpoint."""
        checkpoint['rng_states'] = self._to_save

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Keep this rank's state until training starts: building the runner draws numbers too."""
        states = checkpoint.get('rng_states')
        if not runner._resume or not states:
            return
        if len(states) == get_world_size():
            self._to_restore = states[get_rank()]
        else:
            print_log(
                f'the checkpoint is of {len(states)} processes and this run has '
                f'{get_world_size()}: random numbers will differ',
                logger='current',
                level=logging.WARNING,
            )

    def before_train_epoch(self, runner: Runner) -> None:
        """Tell the workers the epoch, and restore the state of a resumed run."""
        if self._seeds is not None:
            self._seeds.epoch.fill_(runner.epoch)  # the workers have delivered all of the last one
        if self._to_restore is not None:
            loop = runner.train_loop
            if isinstance(loop, EpochBasedTrainLoop):
                set_rng_state(self._to_restore)
            elif hasattr(loop, 'dataloader_iterator'):
                # mmengine reads what the checkpoint has behind it once more, and throws it away.
                loop.dataloader_iterator = _restored_after(
                    loop.iter, self._to_restore, loop.dataloader_iterator
                )
            self._to_restore = None

    def before_val_epoch(self, runner: Runner) -> None:
        """Remember the state before validation."""
        self._before_val = get_rng_state()

    def after_val_epoch(self, runner: Runner, metrics: dict | None = None) -> None:
        """Go on as if there had been no validation."""
        set_rng_state(self._before_val)


def _saves_now(hook: Hook, runner: Runner) -> bool:
    """Whether a hook writes a checkpoint after this iteration."""
    if not isinstance(hook, CheckpointHook) or hook.by_epoch:
        return False
    if hook.every_n_train_iters(runner, hook.interval, hook.save_begin):
        return True
    return hook.save_last and hook.is_last_train_iter(runner)


def _restored_after(count: int, state: dict, batches: Iterator) -> Iterator:
    """Batches, with the random state set after a number of them."""
    yield from islice(batches, count)
    set_rng_state(state)
    yield from batches


class EpochSeeds:
    """Seeds the workers of a data loader anew in every epoch: by seed, epoch, process and worker.

    mmengine seeds a worker when it starts, without the epoch. So workers that end with an epoch
    draw the same in each, and workers that persist draw on, which a resumed run cannot.

    Fetches the samples of a batch in the place of the dataset (PyTorch's ``__getitems__``), because
    that runs in the worker before its first sample of an epoch.
    """

    def __init__(self, dataset: Dataset, seed: int, rank: int) -> None:
        self.dataset, self.seed, self.rank = dataset, seed, rank
        self.fetch = getattr(dataset, '__getitems__', None)
        if isinstance(self.fetch, EpochSeeds):  # of another run on the same dataset
            self.fetch = self.fetch.fetch
        # In memory that workers share with the process that counts the epochs.
        self.epoch = torch.zeros((), dtype=torch.int64).share_memory_()
        self.seeded: int | None = None

    def __call__(self, indices: Sequence[int]) -> list[Any]:
        """Samples of the dataset by index."""
        worker = get_worker_info()
        epoch = int(self.epoch)
        if worker is not None and epoch != self.seeded:
            self.seeded = epoch
            sequence = np.random.SeedSequence((self.seed, epoch, self.rank, worker.id))
            words = sequence.generate_state(8)
            random.seed(words.tobytes())
            np.random.seed(words)
            torch.manual_seed(int.from_bytes(words[:2].tobytes(), 'little'))
        return self.fetch(indices) if self.fetch else [self.dataset[index] for index in indices]


def get_rng_state() -> dict:
    """State of Python's, numpy's and torch's generators as plain data."""
    kind, keys, *rest = np.random.get_state()
    return {
        'python': random.getstate(),
        'numpy': [kind, torch.from_numpy(keys.astype(np.int64)), *rest],
        'torch': torch.get_rng_state(),
        'cuda': torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def set_rng_state(state: dict) -> None:
    """Restore what :func:`get_rng_state` returned."""
    version, words, gauss = state['python']
    random.setstate((version, tuple(words), gauss))
    kind, keys, *rest = state['numpy']
    np.random.set_state((kind, keys.cpu().numpy().astype(np.uint32), *rest))
    torch.set_rng_state(state['torch'].cpu())
    if torch.cuda.is_available() and len(state['cuda']) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all([s.cpu() for s in state['cuda']])
