"""What a table needs to be measured: steps, each a command line and the file that it leaves."""

import functools
import hashlib
import importlib.util
import itertools
import json
import math
import platform
import re
import shlex
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmengine.config import Config
from tqdm import tqdm

from mmshuffle.analysis.model_cost import count_model
from mmshuffle.analysis.tables import Row, Table
from mmshuffle.checks import LOADERS, is_classifier_config
from mmshuffle.checks.dataset_config import unwrapped
from mmshuffle.engine import files, shipped
from mmshuffle.engine.network import build_model, load_model_config
from mmshuffle.reporting import markdown_table

from .scale import Scale

DEFAULT_FOLDER = 'work_dirs'  # where the tools write by themselves
# Training images of what the tables are trained on: ILSVRC 2012, and those of COCO's train2017 that
# have boxes.
IMAGENET_IMAGES, COCO_IMAGES = 1_281_167, 117_266
# A training step costs a forward pass and a backward pass, which is two of them.
PASSES = 3


@dataclass(frozen=True)
class Step:
    """One command, which is done where its product is there."""

    name: str
    model: str  # the row's label
    words: Sequence[str]
    product: Path
    # Whether the content of a product in JSON is the right one; where None, its being there is all.
    fits: Callable[[Any], bool] | None = None
    # Of a training: its config, height and width of an image, images of an epoch.
    training: tuple[Config, tuple[int, int], int] | None = None

    @property
    def done(self) -> bool:
        """Whether its product is there."""
        if self.fits is None:
            return self.product.is_file()
        try:
            return self.fits(json.loads(self.product.read_text(encoding='utf-8')))
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            return False


def missing(steps: Sequence[Step]) -> list[Step]:
    """The steps of one row that are still to be run: those behind the last one that is done."""
    return [*itertools.takewhile(lambda step: not step.done, reversed(steps))][::-1]


@dataclass
class Planner:
    """Plans the steps of rows."""

    folder: Path  # of the work dirs
    scale: Scale | None = None  # of the run; the paper's own where None
    seeds: Sequence[int] = ()  # of a row's own trainings; one that is not set where empty
    launcher: str = 'none'  # for one process, 'pytorch' for torchrun, or 'slurm'
    gpus: int = 1  # processes of a training or test
    partition: str = ''  # of slurm
    # Where COCO and ImageNet are, if not in the configs' own folders; for the paper's scale.
    data: str | None = None
    imagenet: str | None = None
    _configs: dict[str, Config] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._root = '' if Path.cwd() == shipped.root() else f'{shipped.root()}/'

    def trainings(self, row: Row) -> list[list[Step]]:
        """Pretraining, training and test of a row, one list a seed.

        There is no pretraining where the config starts from a published file.
        """
        cfg, start, before = self._read(row.config), {}, []
        given = str((cfg.model.backbone.get('init_cfg') or {}).get('checkpoint'))
        if row.pretrained and (self.scale or '://' not in given):
            before = self._steps(row.pretrained, f'backbone of {row.model}')[:1]
            checkpoint = str(before[0].product)
            if given != checkpoint:
                start = {'model.backbone.init_cfg.checkpoint': checkpoint}
            if start and cfg.model.get('roi_head', {}).get('shared_head'):
                start['model.roi_head.shared_head.init_cfg.checkpoint'] = checkpoint
        seeds = self.seeds or (None,)
        return [[*before, *self._steps(row.config, row.model, row.shape, s, start)] for s in seeds]

    def latency(self, rows: Sequence[Row]) -> Step:
        """The step that times the rows' networks, at all of their image sizes, on this machine."""
        machine = re.sub(r'[^\w.-]', '-', platform.node()) or 'machine'
        names = dict.fromkeys(Path(row.config).stem for row in rows)
        shapes = dict.fromkeys('{}x{}'.format(*row.shape) for row in rows)
        out = self._latency_folder(rows) / f'{machine}.json'
        words = ['python', f'{self._root}tools/latency.py', *names, '--shape', *shapes]
        words += ['--out', str(out), *(self.scale.latency_options if self.scale else ())]
        wanted = {(Path(row.config).stem, *row.shape) for row in rows}

        def fits(content: Any) -> bool:
            return wanted <= {(r['config'], *r['shape']) for r in content['results']}

        return Step(f'latency on {machine}', 'all rows', words, out, fits)

    def report(self, table: Table, rows: Sequence[Row]) -> list[str]:
        """The command that sets against the published figures whatever is measured."""
        out = self.folder / 'report'
        numbers = [str(table.rows.index(row) + 1) for row in rows]
        times = sorted(map(str, self._latency_folder(rows).glob('*.json')))
        words = ['python', f'{self._root}tools/compare.py', table.name, '--rows', *numbers]
        words += ['--work-dirs', str(self.folder), *(['--latency', *times] if times else [])]
        html = out / f'{table.name.replace("/", "_")}.html'
        plotted = ['--html', str(html)] if importlib.util.find_spec('plotly') else []
        return [*words, '--out', str(out), *plotted]

    def _latency_folder(self, rows: Sequence[Row]) -> Path:
        """One for these rows: those of another run, or of another table, keep theirs."""
        wanted = sorted({(Path(row.config).stem, *row.shape) for row in rows})
        key = hashlib.sha256(json.dumps(wanted).encode()).hexdigest()[:8]
        return self.folder / 'latency' / key

    def prepare(self) -> None:
        """Draw the data and write the configs of a scale that is not the paper's."""
        if self.scale is not None:
            self.scale.prepare()
            for config, cfg in self._configs.items():
                files.write(cfg.pretty_text.encode(), self._path(config))

    def _read(self, config: str) -> Config:
        if config not in self._configs:
            cfg = load_model_config(str(shipped.root() / config), arguments={})
            self._configs[config] = cfg if self.scale is None else self.scale.fit(cfg)
        return self._configs[config]

    def _path(self, config: str) -> str:
        """Where a config is that the tools are given."""
        if self.scale is None:
            return f'{self._root}{config}'
        return str(self.folder / 'configs' / Path(config).name)

    def _steps(
        self,
        config: str,
        model: str,
        shape: tuple[int, int] = Row.shape,
        seed: int | None = None,
        start: Mapping[str, Any] | None = None,
    ) -> list[Step]:
        """Training and test of a config; ``start`` has the training's own settings."""
        cfg, stem = self._read(config), Path(config).stem
        name = stem if seed is None else f'{stem}/seed_{seed}'
        path, folder = self._path(config), self.folder / name
        images = IMAGENET_IMAGES if is_classifier_config(cfg) else COCO_IMAGES
        if self.scale is not None:
            shape, images = self.scale.shape(cfg, shape), self.scale.images(cfg)
        checkpoint = folder / last_checkpoint(cfg)
        place = [] if folder == Path(DEFAULT_FOLDER, stem) else ['--work-dir', str(folder)]
        data = self._data_options(cfg)
        seeded = {} if seed is None else {'randomness.seed': seed}
        train = [*self._launch('train', stem, path), *place, *_batch_options(cfg, self.gpus)]
        train += ['--resume', *_cfg_options({**(start or {}), **data, **seeded})]
        test = [*self._launch('test', stem, path, str(checkpoint)), *place, *_cfg_options(data)]

        def of_checkpoint(content: Any) -> bool:
            """Whether the test was of the last checkpoint: there may have been one of another."""
            return Path(content['checkpoint']).name == checkpoint.name

        return [
            Step(f'{name} training', model, train, checkpoint, None, (cfg, shape, images)),
            Step(f'{name} test', model, test, folder / 'metrics.json', of_checkpoint),
        ]

    def _launch(self, tool: str, name: str, *args: str) -> list[str]:
        """The words that run ``tools/train.py`` or ``tools/test.py``, before its options."""
        if self.launcher == 'slurm':
            script = f'{self._root}tools/slurm_{tool}.sh'
            return ['env', f'GPUS={self.gpus}', 'bash', script, self.partition, name, *args]
        if self.launcher == 'pytorch':
            return ['bash', f'{self._root}tools/dist_{tool}.sh', *args, str(self.gpus)]
        return ['python', f'{self._root}tools/{tool}.py', *args]

    def _data_options(self, cfg: Config) -> dict[str, str]:
        """Settings that name the data, where they are not in the configs' own folders."""
        given = self.imagenet if is_classifier_config(cfg) else self.data
        if self.scale is not None or given is None:
            return {}
        root, before, found = f'{given.rstrip("/")}/', '', {}
        for loader in LOADERS:
            for where, dataset in unwrapped(cfg, loader):
                before = dataset['data_root']
                found[f'{where}.data_root'] = root
        for name in ('val_evaluator', 'test_evaluator'):
            if 'ann_file' in cfg[name]:
                found[f'{name}.ann_file'] = root + cfg[name].ann_file.removeprefix(before)
        return found


def last_checkpoint(cfg: Config) -> str:
    """Name of the last checkpoint that a training of a config writes."""
    loop = cfg.train_cfg
    by_steps = loop.get('type') == 'IterBasedTrainLoop' or loop.get('by_epoch') is False
    return f'iter_{loop.max_iters}.pth' if by_steps else f'epoch_{loop.max_epochs}.pth'


def to_markdown(rows: Iterable[Sequence[Step]], throughput: float, gpus: int) -> str:
    """Say of every row's trainings whether they are done, how long they take and what they leave.

    ``throughput`` is 10^9 multiply-adds a second of one device, ``gpus`` the devices of a training.
    """
    rows = list(rows)
    left = {step.name for steps in rows for step in missing(steps)}
    trainings = {step.name: step for steps in rows for step in steps if step.training}
    cells, hours, disk = [], 0.0, 0.0
    for name, step in tqdm(trainings.items(), 'counting costs', file=sys.stderr, leave=False):
        cfg, _, images = step.training
        operations, size = _cost(*step.training)
        needed = operations / throughput / 3.6e12 * (name in left)
        hours, disk = hours + needed, disk + size * (name in left)
        state = 'to do' if name in left else 'done'
        schedule = f'{cfg.train_cfg.max_epochs} x {images}'
        numbers = f'{operations / 1e15:.3g}', f'{needed:.2f}', f'{size / 1e6:.0f}'
        cells.append([name, step.model, state, schedule, *numbers])
    head = ['step', 'for', 'state', 'epochs x images', '10^15 multiply-adds', 'device hours', 'MB']
    return (
        f'{markdown_table(head, cells)}\n\n'
        f'To train: {hours:.2f} hours of one device at {throughput:g} x 10^9 multiply-adds a '
        f'second (--throughput), {hours / gpus:.2f} on {gpus}, tests and reading images apart; '
        f'{disk / 1e9:.2f} GB of checkpoints, data apart.'
    )


def to_commands(rows: Iterable[Sequence[Step]]) -> list[str]:
    """The commands that are still to be run, for a shell."""
    left = {step.name: step for steps in rows for step in missing(steps)}
    return [line for s in left.values() for line in (f'# {s.name}: {s.model}', shlex.join(s.words))]


@functools.cache
def _cost(cfg: Config, shape: tuple[int, int], images: int) -> tuple[float, float]:
    """Multiply-adds of a whole training, and bytes of its checkpoints."""
    epochs = cfg.train_cfg.max_epochs
    sampler = ((cfg.model.get('train_cfg') or {}).get('rcnn') or {}).get('sampler') or {}
    total = count_model(build_model(cfg, 'meta'), shape, sampler.get('num')).total
    hook = cfg.default_hooks.checkpoint
    written, keep = math.ceil(epochs / hook.get('interval', 1)), hook.get('max_keep_ckpts', -1)
    # Beside the weights, momentum, or Adam's two averages.
    values = 3 if 'Adam' in cfg.optim_wrapper.optimizer.type else 2
    size = 4 * values * total.parameters * (written if keep < 0 else min(keep, written))
    return PASSES * total.multiply_adds * images * epochs, size


def _batch_options(cfg: Config, processes: int) -> list[str]:
    """Keep to the total batch size that the learning rate is made for."""
    total = (cfg.get('auto_scale_lr') or {}).get('base_batch_size')
    batch = cfg.train_dataloader.batch_size * processes
    if total is None or batch == total:
        return []
    return ['--accumulate', 'auto'] if total % batch == 0 else ['--auto-scale-lr']


def _cfg_options(options: Mapping[str, Any]) -> list[str]:
    """Settings for a command line; a text that could be a list or a number is quoted."""
    words = [
        f"{key}='{value}'" if re.search(r'[^\w./-]', str(value)) else f'{key}={value}'
        for key, value in options.items()
    ]
    return ['--cfg-options', *words] if words else []
