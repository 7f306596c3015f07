"""The commands that measure what a table prints and what is not measured yet."""

import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mmengine.config import Config

from mmshuffle.engine import shipped
from mmshuffle.engine.network import load_model_config

from .comparison import Compared
from .measured import Run
from .tables import Table

DEFAULT_FOLDER = 'work_dirs'  # where the tools write by themselves


@dataclass
class Planner:
    """Writes command lines.

    Attributes:
        runs: Tested checkpoints by the name of their config; what they have is not run again.
        gpus: GPUs of the launch scripts; None for one process by ``python tools/train.py``.
        folder: Folder of the work dirs.
        planned: Configs whose commands were written.
    """

    runs: Mapping[str, Run] = field(default_factory=dict)
    gpus: int | None = None
    folder: str = DEFAULT_FOLDER
    planned: set[str] = field(default_factory=set)

    def plan(self, table: Table, rows: Sequence[Compared]) -> Iterator[str]:
        """Lines for a shell: train and test of each config once, then the latencies.

        Comments say why a row has no command.

        Args:
            table: The table.
            rows: Its rows, compared.
        """
        yield f'# in {shipped.root()}'
        for compared in rows:
            row = compared.row
            if compared.path is None:
                yield f'# {row.model}: {compared.missing}'
            elif not row.has_accuracy:
                yield f'# {row.model}: no accuracy is published, nothing to train'
            elif compared.run is None and row.config not in self.planned:
                yield f'# {row.model}'
                yield from self._detector(row.config, row.pretrained)
        if any(r.path and r.row.latency_ms and not r.latency_ms for r in rows):
            yield '# latencies: on the device itself, or with --target ssh:USER@HOST or adb'
            out = f'{table.name.replace("/", "_")}_latency.json'
            yield f'python tools/latency.py --suite {table.name} --out {out}'
        for suite in dict.fromkeys(r.row.suite for r in rows if r.row.suite):
            yield f'python tools/latency.py --suite {suite} --out {suite}_latency.json'

    def _detector(self, config: str, pretrained: str | None) -> Iterator[str]:
        """Commands of a config, after those of the config that pretrains its backbone, if any."""
        cfg = _read(config)
        if pretrained is None:
            yield from self._train_and_test(config, cfg)
            return
        if shipped.locate(pretrained) is None:
            yield f'# its backbone cannot be pretrained: {pretrained} does not exist yet'
            return
        source = _read(pretrained)
        run = self.runs.get(Path(pretrained).stem)
        if run is None and pretrained not in self.planned:
            yield from self._train_and_test(pretrained, source)
        checkpoint = run.checkpoint if run else self._checkpoint(pretrained, source)
        yield from self._train_and_test(
            config, cfg, _start_options(cfg, checkpoint), _input_options(cfg, source)
        )

    def _train_and_test(
        self, config: str, cfg: Config, start: Sequence[str] = (), both: Sequence[str] = ()
    ) -> Iterator[str]:
        """The two lines of one config, with settings for training only and for both."""
        self.planned.add(config)
        checkpoint = self._checkpoint(config, cfg)
        elsewhere = self.folder != DEFAULT_FOLDER
        place = ['--work-dir', str(Path(checkpoint).parent)] if elsewhere else []
        train = [*place, *_batch_options(cfg, self.gpus or 1), *_cfg_options([*start, *both])]
        test = [*place, *_cfg_options(both)]
        for tool, what, options in (
            ('train', [config], train),
            ('test', [config, checkpoint], test),
        ):
            command = ['python', f'tools/{tool}.py', *what]
            if self.gpus is not None:
                command = [f'tools/dist_{tool}.sh', *what, str(self.gpus)]
            yield shlex.join([*command, *options])

    def _checkpoint(self, config: str, cfg: Config) -> str:
        """Path of the last checkpoint that a training of the config writes."""
        loop = cfg.train_cfg
        by_steps = loop.get('type') == 'IterBasedTrainLoop' or loop.get('by_epoch') is False
        name = f'iter_{loop.max_iters}.pth' if by_steps else f'epoch_{loop.max_epochs}.pth'
        return str(Path(self.folder, Path(config).stem, name))


def _read(config: str) -> Config:
    return load_model_config(str(shipped.locate(config)), arguments={})


def _batch_options(cfg: Config, processes: int) -> list[str]:
    """Keep to the total batch size that the learning rate is made for."""
    total = cfg.get('auto_scale_lr', {}).get('base_batch_size')
    batch = cfg.train_dataloader.batch_size * processes
    if total is None or batch == total:
        return []
    return ['--accumulate', 'auto'] if total % batch == 0 else ['--auto-scale-lr']


def _start_options(cfg: Config, checkpoint: str) -> list[str]:
    """Settings that start a detector from a trained classifier, where the config does not."""
    given = (cfg.model.get('backbone', {}).get('init_cfg') or {}).get('checkpoint')
    if given == checkpoint:
        return []
    options = [f'model.backbone.init_cfg.checkpoint={checkpoint}']
    if cfg.model.get('roi_head', {}).get('shared_head'):
        options.append(f'model.roi_head.shared_head.init_cfg.checkpoint={checkpoint}')
    return options


def _input_options(cfg: Config, source: Config) -> list[str]:
    """Settings that give a detector the input normalisation of its pretraining."""
    mine, theirs = cfg.model.data_preprocessor, source.model.data_preprocessor
    return [
        f'model.data_preprocessor.{key}={str(theirs[key]).replace(" ", "")}'
        for key in ('mean', 'std', 'bgr_to_rgb')
        if key in theirs and mine.get(key) != theirs[key]
    ]


def _cfg_options(options: Sequence[str]) -> list[str]:
    return ['--cfg-options', *options] if options else []
