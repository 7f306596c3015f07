"""A training run that people can watch: progress bars, a quiet screen and a history in a file."""

import contextlib
import io
import json
import logging
import math
import sys
import time
from collections.abc import Iterator, Mapping
from numbers import Real
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import all_reduce, get_world_size, is_main_process
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import EpochBasedTrainLoop, Runner
from tqdm import tqdm
from tqdm.contrib import DummyTqdmFile

from .files import write_json

BAR = '{desc} {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} images [{elapsed}<{remaining}{postfix}]'


@contextlib.contextmanager
def quiet_screen() -> Iterator[None]:
    """Keep prints of libraries from the screen, and send Python's warnings to ``logging``.

    pycocotools prints a page at every evaluation; MMDetection logs the same figures. Build the
    runner inside, too: mmengine's logger keeps the stream that it finds.
    """
    logging.captureWarnings(True)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.captureWarnings(False)


@HOOKS.register_module()
class ProgressHook(Hook):
    """Shows a progress bar with images/s, loss and remaining time; for evaluation a second one.

    mmengine's messages go to its log file. Only its warnings still reach the screen.

    Args:
        metrics: What is printed after every validation: label and name of a metric.
        scale: Turns the metrics into percent; MMDetection's are fractions, and accuracies are not.
    """

    priority = 'LOW'

    def __init__(self, metrics: Mapping[str, str] | None = None, scale: float = 100) -> None:
        self.metrics = metrics or {'AP': 'coco/bbox_mAP', 'AP50': 'coco/bbox_mAP_50'}
        self.scale = scale
        self._bars: dict[str, tqdm] = {}  # by mode
        self._seconds = 0.0
        self._images = 0
        self._loss = math.nan
        self._started: float | None = None

    def before_run(self, runner: Runner) -> None:
        """Leave only warnings on the screen, and Python's warnings in the log file."""
        warnings = logging.getLogger('py.warnings')
        warnings.propagate = False
        for handler in runner.logger.handlers:
            if isinstance(handler, logging.FileHandler):
                warnings.handlers = [handler]
            elif isinstance(handler, logging.StreamHandler):
                handler.setStream(DummyTqdmFile(sys.stderr))  # above the bars
                handler.setLevel(max(handler.level, logging.WARNING))
                # mmengine warns of functions that mmdet calls and it will drop one day.
                handler.addFilter(lambda record: 'deprecated' not in record.getMessage())

    def before_train(self, runner: Runner) -> None:
        """Open the bar, at the place where a resumed run goes on."""
        loader = runner.train_dataloader
        images, done, end = len(loader.dataset), runner.epoch, runner.max_epochs
        if not _counts_epochs(runner):
            batch = getattr(loader.batch_sampler, 'batch_size', 1)
            images, done, end = batch * get_world_size(), runner.iter, runner.max_iters
        self._bars['train'] = _bar('training', images * end, images * done)

    def before_train_iter(self, runner: Runner, batch_idx: int, **_: Any) -> None:
        """Start the clock."""
        # Of later steps, the time to load the data counts as well.
        if self._started is None or (batch_idx == 0 and _counts_epochs(runner)):
            self._started = time.perf_counter()

    def _before_epoch(self, runner: Runner, mode: str) -> None:
        if mode != 'train':
            images = len(getattr(runner, f'{mode}_dataloader').dataset)
            title = 'validation' if mode == 'val' else mode
            self._bars[mode] = _bar(title, images, leave=False)

    def _after_iter(
        self, runner: Runner, data_batch: dict, outputs: Any, mode: str, **_: Any
    ) -> None:
        bar = self._bars[mode]
        images = len(data_batch['inputs']) * get_world_size()
        if mode == 'train':
            now = time.perf_counter()
            self._seconds += now - self._started
            self._started = now
            self._images += images
            loss = outputs['loss'].item()
            # Losses of single small batches jump about.
            self._loss = loss if math.isnan(self._loss) else 0.95 * self._loss + 0.05 * loss
            bar.set_description(_position(runner, 1), refresh=False)
            speed = self._images / self._seconds
            bar.set_postfix_str(f'{speed:.1f} images/s, loss {self._loss:.3f}', refresh=False)
        # Samplers of distributed runs repeat images to fill the last batch.
        bar.update(min(images, bar.total - bar.n))

    def _after_epoch(self, runner: Runner, mode: str) -> None:
        if mode != 'train':
            self._bars.pop(mode).close()

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Close the second bar and print the metric."""
        self._after_epoch(runner, 'val')
        self._started = None
        if 'train' not in self._bars or not is_main_process():
            return
        values = [f'loss {self._loss:.3f}']
        for label, key in self.metrics.items():
            if isinstance((metrics or {}).get(key), Real):
                values.append(f'{label} {self.scale * metrics[key]:.1f}')
        tqdm.write(f'{_position(runner)}: {", ".join(values)}', file=sys.stderr)

    def after_train(self, runner: Runner) -> None:
        """Close the bar."""
        self._bars.pop('train').close()


def _counts_epochs(runner: Runner) -> bool:
    return isinstance(runner.train_loop, EpochBasedTrainLoop)


def _position(runner: Runner, ahead: int = 0) -> str:
    if _counts_epochs(runner):
        return f'epoch {runner.epoch + ahead}/{runner.max_epochs}'
    return f'iteration {runner.iter + ahead}/{runner.max_iters}'


@HOOKS.register_module()
class HistoryHook(Hook):
    """Keeps loss, speed and metrics of every epoch in a JSON file, also across resumed runs.

    A record has ``epoch``, ``loss`` (mean over the epoch and the processes), ``lr`` (of its last
    step), ``images``, ``seconds``, and after a validation ``val_seconds`` and ``metrics``. A run
    that counts iterations gets a record a validation, with ``iter`` in the place of ``epoch``.
    """

    priority = 'LOW'

    def __init__(self, name: str = 'history.json') -> None:
        self.name = name
        self.records: list[dict[str, Any]] = []
        self._unit = 'epoch'
        self._restart()

    def before_train(self, runner: Runner) -> None:
        """Take over what a resumed run has behind it."""
        self._unit = 'epoch' if _counts_epochs(runner) else 'iter'
        done = getattr(runner, self._unit)
        path = Path(runner.work_dir) / self.name
        if done > 0 and path.is_file():
            # A record is missing or too much where the run stopped between two writes.
            with contextlib.suppress(ValueError, KeyError, TypeError):
                records = json.loads(path.read_text())
                self.records = [record for record in records if record[self._unit] <= done]

    def _before_epoch(self, runner: Runner, mode: str) -> None:
        if mode == 'val' and self._unit == 'iter':
            self._record(runner, runner.iter)
        self._restart()

    def _restart(self) -> None:
        self._losses, self._images = [], 0
        self._started = time.perf_counter()

    def after_train_iter(self, runner: Runner, data_batch: dict, outputs: dict, **_: Any) -> None:
        """Note the loss."""
        self._losses.append(outputs['loss'].item())
        self._images += len(data_batch['inputs']) * get_world_size()

    def after_train_epoch(self, runner: Runner) -> None:
        """Write a record."""
        self._record(runner, runner.epoch + 1 if self._unit == 'epoch' else runner.iter)

    def _record(self, runner: Runner, position: int) -> None:
        if not self._losses:  # nothing since the last record, or since the run was resumed
            return
        loss = torch.tensor(sum(self._losses) / len(self._losses), dtype=torch.float64)
        all_reduce(loss, 'mean')
        self.records.append(
            {
                self._unit: position,
                'loss': loss.item(),
                'lr': next(iter(runner.optim_wrapper.get_lr().values()))[0],
                'images': self._images,
                'seconds': time.perf_counter() - self._started,
            }
        )
        self._write(runner)

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Add the metrics to the record."""
        if self.records and self.records[-1][self._unit] == getattr(runner, self._unit):
            self.records[-1]['val_seconds'] = time.perf_counter() - self._started
            self.records[-1]['metrics'] = {
                key: None if math.isnan(value) else float(value)
                for key, value in (metrics or {}).items()
                if isinstance(value, Real)  # others, such as tables by class, are in the log
            }
            self._write(runner)
        self._restart()

    def _write(self, runner: Runner) -> None:
        if is_main_process():
            write_json(self.records, Path(runner.work_dir) / self.name)


def _bar(title: str, total: int, initial: int = 0, leave: bool = True) -> tqdm:
    """Open a progress bar over images, which only the first process shows."""
    # The mean over the whole run, which has the validations in it, foretells its end best.
    look = dict(bar_format=BAR, smoothing=0, dynamic_ncols=True, disable=not is_main_process())
    interval = 0.5 if sys.stderr.isatty() else 30  # into a file, a line now and then
    place = dict(total=total, initial=initial, leave=leave, file=sys.stderr)
    return tqdm(desc=title, mininterval=interval, **place, **look)
