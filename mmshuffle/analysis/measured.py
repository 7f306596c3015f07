"""What runs of this project measured: the figures of tests, and latencies."""

import math
import re
import statistics
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from mmshuffle.engine.files import read_json
from mmshuffle.errors import UserError

# tools/test.py writes into the work dir of a run; a folder of runs may be sorted once more.
METRICS = ('metrics.json', '*/metrics.json', '*/*/metrics.json')
# Figures by the names of the evaluator: the attribute of a run, and how it follows, in percent.
FIGURES = {
    'accuracy/top1': ('top1_error', lambda accuracy: 100 - accuracy),
    'accuracy/top5': ('top5_error', lambda accuracy: 100 - accuracy),
    'coco/bbox_mAP': ('coco_map', lambda fraction: 100 * fraction),
}
SEED = re.compile(r'seed_\d+')  # work dir of one of several trainings of a config
# In a work dir of tools/reproduce.py, what it made there at another scale than the paper's.
MARK = 'reproduction.json'
# What tools/latency.py notes with every figure, of which one file may have several.
SETTINGS = ('part', 'runtime', 'threads', 'precision', 'shuffle')


@dataclass(frozen=True)
class Run:
    """A tested checkpoint; figures are in percent, of several seeds their means."""

    path: Path  # its ``metrics.json``, or the folder of the seeds
    top1_error: float | None = None
    top5_error: float | None = None
    coco_map: float | None = None
    seeds: tuple['Run', ...] = ()  # the run of each, if in folders ``seed_N``

    def by_seed(self, figure: str) -> list[float]:
        """A figure of each seed, such as ``'coco_map'``."""
        values = [getattr(run, figure) for run in self.seeds]
        return [value for value in values if value is not None]


class Latencies(NamedTuple):
    """The figures of one latency file in one setting."""

    name: str  # the file's name, without its ending, and the setting where the file has several
    # Median in milliseconds, and whether it is stable, by the name of the config and the image's
    # height and width.
    figures: dict[tuple[str, tuple[int, int]], tuple[float, bool]]


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
            metrics = content['metrics']
            given = (FIGURES[name] + (value,) for name, value in metrics.items() if name in FIGURES)
            run = Run(path, **{figure: convert(value) for figure, convert, value in given})
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
    everything = Run(first.path.parents[1], seeds=tuple(runs))
    values = {figure: everything.by_seed(figure) for figure, _ in FIGURES.values()}
    means = {name: statistics.fmean(v) for name, v in values.items() if len(v) == len(runs)}
    return replace(everything, **means)


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
            found.append(Latencies(', '.join([name, *words]), medians))
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
