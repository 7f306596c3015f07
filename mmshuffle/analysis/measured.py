"""What runs of this project measured: the figures of tests, and latencies."""

import math
import re
import statistics
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mmshuffle.engine.files import read_json
from mmshuffle.errors import UserError

# tools/test.py writes into the work dir of a run; a folder of runs may be sorted once more.
METRICS = ('metrics.json', '*/metrics.json', '*/*/metrics.json')
FIGURES = ('accuracy/top1', 'accuracy/top5', 'coco/bbox_mAP')
SEED = re.compile(r'seed_\d+')  # work dir of one of several trainings of a config
# In a work dir of tools/reproduce.py, what it made there at another scale than the paper's.
MARK = 'reproduction.json'
# What tools/latency.py notes with every figure, of which one file may have several.
SETTINGS = ('part', 'runtime', 'threads', 'precision', 'shuffle')


@dataclass(frozen=True)
class Run:
    """A tested checkpoint."""

    path: Path  # its ``metrics.json``
    checkpoint: str  # the checkpoint file
    # Figures by the names of the evaluator: ``accuracy/top1`` and ``accuracy/top5`` in percent,
    # ``coco/bbox_mAP`` as a fraction; of several seeds, their means.
    metrics: dict[str, float]
    seeds: tuple[dict[str, float], ...] = ()  # metrics of each, if in folders ``seed_N``

    def by_seed(self, figure: str) -> list[float]:
        """A figure of each seed, such as ``'coco_map'``."""
        values = [getattr(replace(self, metrics=m, seeds=()), figure) for m in self.seeds]
        return [value for value in values if value is not None]

    @property
    def top1_error(self) -> float | None:
        """Top-1 error in percent."""
        return _error(self.metrics.get('accuracy/top1'))

    @property
    def top5_error(self) -> float | None:
        """Top-5 error in percent."""
        return _error(self.metrics.get('accuracy/top5'))

    @property
    def coco_map(self) -> float | None:
        """COCO AP in percent."""
        found = self.metrics.get('coco/bbox_mAP')
        return None if found is None else 100 * found


@dataclass(frozen=True)
class Latencies:
    """The figures of one latency file in one setting."""

    name: str  # the file's name, without its ending, and the setting where the file has several
    # Milliseconds by the name of the config and the image's height and width.
    median_ms: dict[tuple[str, tuple[int, int]], float]
    # The keys of ``median_ms`` whose verdict is not that they are stable.
    unstable: frozenset[tuple[str, tuple[int, int]]] = frozenset()


def _error(accuracy: float | None) -> float | None:
    return None if accuracy is None else 100 - accuracy


def find_runs(folders: Iterable[str | Path]) -> dict[str, Run]:
    """Find tested checkpoints.

    Args:
        folders: Work dirs of runs, or folders of them; one that does not exist has none.

    Returns:
        Runs by the name of their config; the newest where a config was tested several times, and
        the mean of those in folders ``seed_N`` side by side.

    Raises:
        UserError: A ``metrics.json`` is not one that ``tools/test.py`` writes.
    """
    found: dict[str, dict[Path, list[Run]]] = {}
    for folder in folders:
        for path in (path for pattern in METRICS for path in sorted(Path(folder).glob(pattern))):
            content = read_metrics(path)
            run = Run(path, content['checkpoint'], content['metrics'])
            place = path.parents[1] if SEED.fullmatch(path.parent.name) else path.parent
            found.setdefault(Path(content['config']).stem, {}).setdefault(place, []).append(run)

    def newest(runs: Sequence[Run]) -> float:
        return max(run.path.stat().st_mtime for run in runs)

    return {name: _average(max(places.values(), key=newest)) for name, places in found.items()}


def read_metrics(path: Path) -> dict[str, Any]:
    """Read what ``tools/test.py`` writes: ``config``, ``checkpoint`` and ``metrics`` by name.

    Raises:
        UserError: It is another kind of file, or cut off.
    """
    content = _read(path, ('config', 'checkpoint', 'metrics'))
    if not isinstance(content['metrics'], dict) or not isinstance(content['config'], str):
        raise UserError(f'{path} is another kind of file than tools/test.py writes')
    for name in FIGURES:  # others may be NaN, as that of a class without boxes
        value = content['metrics'].get(name, 0)
        if not isinstance(value, (int, float)) or not math.isfinite(value):
            raise UserError(f'{path}: {name} is {value!r}, no finite number: test anew')
    return content


def _average(runs: Sequence[Run]) -> Run:
    """One run of the runs of one folder."""
    first = runs[0]
    if not SEED.fullmatch(first.path.parent.name):
        return first
    seeds = tuple(run.metrics for run in runs)
    metrics = {
        name: statistics.fmean(seed[name] for seed in seeds)
        for name in first.metrics
        if all(isinstance(seed.get(name), (int, float)) for seed in seeds)
    }
    return Run(first.path.parents[1], first.checkpoint, metrics, seeds)


def find_notes(folders: Iterable[str | Path]) -> list[str]:
    """What a reader must know of the figures in work dirs that are not of the paper's scale."""
    paths = [Path(folder, MARK) for folder in folders]
    return [str(_read(path, ('note',))['note']) for path in paths if path.is_file()]


def read_latencies(paths: Iterable[str | Path]) -> list[Latencies]:
    """Read latency files: ``{"results": [{"config", "shape": [H, W], "median_ms"}, ...]}``.

    ``config`` is a path, or a name as in :func:`.shipped.names`. Figures of different
    :data:`SETTINGS`, such as two runtimes, are kept apart; other keys are passed over.

    Raises:
        UserError: There is no such file, or it has another form.
    """
    paths = list(map(Path, paths))
    stems = Counter(path.stem for path in paths)
    found = []
    for path in paths:
        name = path.stem if stems[path.stem] == 1 else str(path)
        by_setting = _read_medians(path)
        values = [{setting[i] for setting in by_setting} for i in range(len(SETTINGS))]
        for setting, medians in by_setting.items():
            words = [
                f'threads {value}' if key == 'threads' else str(value)
                for key, value, others in zip(SETTINGS, setting, values, strict=True)
                if len(others) > 1 and value is not None
            ]
            unstable = frozenset(key for key, (_, stable) in medians.items() if not stable)
            median_ms = {key: ms for key, (ms, _) in medians.items()}
            found.append(Latencies(', '.join([name, *words]), median_ms, unstable))
    return found


def _read_medians(path: Path) -> dict[tuple, dict[tuple[str, tuple[int, int]], tuple]]:
    """Medians, and whether they are stable, by setting, then by config and image size."""
    found: dict[tuple, dict[tuple[str, tuple[int, int]], tuple]] = {}
    results = _read(path, ('results',))['results']
    try:
        for r in results:
            if 'emulated_median_ms' in r:
                raise UserError(f'{path}: times of an emulated processor compare with nothing')
            network = Path(r['config']).name.removesuffix('.py'), tuple(map(int, r['shape']))
            setting = tuple(r.get(key) for key in SETTINGS)
            stable = r.get('verdict', 'stable') == 'stable'
            found.setdefault(setting, {})[network] = float(r['median_ms']), stable
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(
            f'{path}: every entry of results needs config, shape [H, W] and median_ms ({error})'
        ) from None
    return found


def _read(path: Path, keys: tuple[str, ...]) -> dict[str, Any]:
    """Read a JSON object that has ``keys``."""
    content = read_json(path)
    if not isinstance(content, dict) or any(key not in content for key in keys):
        raise UserError(f'{path} is another kind of file: it needs {", ".join(keys)}')
    return content
