"""Config files: read, overridden and checked."""

import difflib
import importlib
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.registry import init_default_scope

from mmshuffle.checks import LOADERS, Problem, check_config, is_classifier_config, raise_on
from mmshuffle.errors import UserError

from . import shipped

# Settings that a loop of mmengine's runner consists of.
LOOPS = {
    'training': ('train_dataloader', 'train_cfg', 'optim_wrapper'),
    'validation': ('val_dataloader', 'val_cfg', 'val_evaluator'),
    'test': ('test_dataloader', 'test_cfg', 'test_evaluator'),
}


def read_config(path: str, options: dict[str, Any] | None = None) -> Config:
    """Read a config and apply overrides.

    Raises:
        UserError: There is no such file or name, or it cannot be read as a config.
    """
    path = shipped.resolve(path)
    try:
        with shipped.metafiles_read_once():
            cfg = Config.fromfile(path)
        for name in options or {}:
            _warn_of_slip(cfg, name)
        if options:
            cfg.merge_from_dict(options)
    except Exception as error:  # a config is a program of the user's
        reason = ' '.join(str(error).split())
        raise UserError(f'config {path} cannot be read: {type(error).__name__}: {reason}') from None
    return cfg


def read_one_kind(names: Sequence[str]) -> dict[str, Config]:
    """Read configs that are to be compared; each once, by its path."""
    configs = {path: read_config(path) for path in map(shipped.resolve, names)}
    if len({is_classifier_config(cfg) for cfg in configs.values()}) > 1:
        raise UserError('classifiers and detectors have no figure in common: give one kind')
    return configs


def require_loops(cfg: Config, *wanted: str) -> None:
    """Refuse a config without a wanted loop of :data:`LOOPS`, or with a part of any."""
    raise_on(list(_missing_parts(cfg, wanted)))


def _missing_parts(cfg: Config, wanted: Sequence[str] = ()) -> Iterator[Problem]:
    for loop, parts in LOOPS.items():
        absent = [part for part in parts if cfg.get(part) is None]
        if absent and (loop in wanted or len(absent) < len(parts)):
            alternative = '' if loop in wanted else ', or set all to None'
            yield Problem(
                absent[0],
                f'the {loop} needs {", ".join(parts)}, and {" and ".join(absent)} is missing: give '
                f'it{alternative}',
            )


def require_file(path: str, what: str) -> None:
    """Refuse a path that is no file."""
    if Path(path).is_dir():
        raise UserError(f'{what} {path} is a folder; give the path of a file')
    if not Path(path).is_file():
        raise UserError(f'{what} {path} does not exist; give the path of a file')


def _warn_of_slip(cfg: Config, name: str) -> None:
    """Say when an override makes a new key that is nearly one of the config's."""
    node: Any = cfg
    for key in name.split('.'):
        if not isinstance(node, (Config, dict)):
            return
        if key not in node:
            close = difflib.get_close_matches(key, list(node.keys()), n=1, cutoff=0.75)
            if close:
                print(f'warning: {name}: {key} is new; meant {close[0]}?', file=sys.stderr)
            return
        node = node[key]


def register_config_imports(cfg: Config) -> None:
    """Make the modules known that a config names: MMDetection's and those of ``custom_imports``."""
    init_default_scope(cfg.get('default_scope', 'mmdet'))
    for name in cfg.get('custom_imports', {}).get('imports', ()):
        importlib.import_module(name)


def find_problems(cfg: Config, loaders: Sequence[str] = LOADERS) -> list[Problem]:
    """Check a config of a detector or of a classifier, with the modules imported that it names."""
    register_config_imports(cfg)
    return [*_missing_parts(cfg), *check_config(cfg, loaders)]


def run_checks(cfg: Config, training: bool = True) -> None:
    """Check the config before a run; the first process does so for all."""
    if int(os.environ.get('RANK', os.environ.get('SLURM_PROCID', 0))) != 0:
        return
    problems = find_problems(cfg, LOADERS if training else ('test_dataloader',))
    for problem in problems:
        if not problem.fatal:
            print(f'warning: {problem}', file=sys.stderr)
    raise_on(problems)
