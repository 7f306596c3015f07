"""A resumed run draws the random numbers that the unbroken one draws."""

import random

import numpy as np
import pytest
import torch
from mmengine.hooks import Hook
from torch import nn
from torch.utils.data import Dataset

from tests.tiny import make_runner


def draw() -> list[float]:
    """A number of each generator that transforms use; a second normal one is drawn ahead."""
    return [random.random() + random.gauss(0, 1), np.random.rand(), torch.rand(1).item()]


class Drawn(Dataset):
    def __len__(self) -> int:
        return 12

    def __getitem__(self, index: int) -> dict:
        return dict(inputs=torch.tensor([index, *draw()]))


class Fetched(Drawn):
    """With PyTorch's own way to fetch a batch at once."""

    def __getitems__(self, indices: list[int]) -> list[dict]:
        return [self[index] for index in indices]


class Seen(Hook):
    def __init__(self, epochs: bool) -> None:
        self.unit = 'epoch' if epochs else 'iter'
        self.seen: dict[int, list] = {}

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        found = self.seen.setdefault(getattr(runner, self.unit), [])
        found += [sample.tolist() for sample in data_batch['inputs']]


def train(work, dataset, workers, persistent, resumed=None, epochs=True):
    """Samples of each epoch, or each iteration, and the last weights."""
    seen = Seen(epochs)
    torch.manual_seed(0)
    layer = nn.Sequential(nn.Linear(4, 3), nn.Dropout(0.5), nn.Linear(3, 1))
    runner = make_runner(
        work,
        layer,
        dataset,
        dict(by_epoch=True, max_epochs=3) if epochs else dict(by_epoch=False, max_iters=9),
        [seen, dict(type='PlainCheckpointHook'), dict(type='ReproducibleResumeHook')],
        dict(num_workers=workers, persistent_workers=persistent),
        interval=1 if epochs else 4,
        resumed=resumed,
        randomness=dict(seed=5),
    )
    runner.train()
    return seen.seen, runner.model.state_dict()


@pytest.mark.parametrize(
    ('dataset', 'workers', 'persistent'),
    [(Drawn, 0, False), (Fetched, 2, False), (Drawn, 2, True)],
)
def test_a_resumed_run_sees_the_same_samples(tmp_path, dataset, workers, persistent):
    whole, weights = train(tmp_path / 'whole', dataset(), workers, persistent)
    checkpoint = tmp_path / 'whole' / 'epoch_1.pth'
    rest, resumed = train(tmp_path / 'rest', dataset(), workers, persistent, checkpoint)
    assert rest == {epoch: whole[epoch] for epoch in (1, 2)}
    assert all(torch.equal(value, resumed[name]) for name, value in weights.items())
    # No epoch repeats the numbers of another, and no worker those of another.
    drawn = [tuple(sample[1:]) for samples in whole.values() for sample in samples]
    assert len(set(drawn)) == len(drawn) == 36


@pytest.mark.parametrize('workers', [0, 2])
def test_a_run_that_counts_iterations_goes_on_too(tmp_path, workers):
    """Its checkpoint is within a pass over the data."""
    arguments = (Drawn(), workers, workers > 0)
    whole, weights = train(tmp_path / 'whole', *arguments, epochs=False)
    checkpoint = tmp_path / 'whole' / 'iter_4.pth'
    rest, resumed = train(tmp_path / 'rest', *arguments, checkpoint, epochs=False)
    assert rest == {iteration: whole[iteration] for iteration in range(4, 9)}
    assert all(torch.equal(value, resumed[name]) for name, value in weights.items())
