"""Where the configs that come with the project are, and which of them a name means."""

import contextlib
import difflib
import functools
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from mmengine.config import Config
from mmengine.config import utils as config_utils

from mmshuffle.errors import UserError

PACKAGE = Path(__file__).resolve().parents[1]
# Behind the network in the name of an ImageNet config: cards, images a card, thousands of steps.
RECIPE = re.compile(r'_\d+xb\d+-(\d+)k_imagenet$')


@functools.cache
def root() -> Path:
    """The folder that holds ``configs/`` and ``tools/``: the source tree, or what pip unpacked."""
    return PACKAGE.parent if (PACKAGE.parent / 'setup.py').is_file() else PACKAGE / '.mim'


def locate(config: str) -> Path | None:
    """Find a shipped config by its path from the root; None where there is none (yet)."""
    path = root() / config
    return path if path.is_file() else None


def names() -> dict[str, Path]:
    """Shipped configs by name: the file's, and for ImageNet also the network's alone.

    Of several trainings of a network, its name means the longest, which is the paper's.
    """
    found = {}
    for path in sorted((root() / 'configs').glob('[!_]*/**/*.py'), key=_steps):
        found[path.stem] = path
        found[network(path)] = path
    return found


def network(config: Path) -> str:
    """Name of the network alone: ``shufflenetv1-x1.0-g3``, or the whole name of a detector's."""
    return RECIPE.sub('', config.stem)


def _steps(config: Path) -> tuple[int, str]:
    recipe = RECIPE.search(config.stem)
    return int(recipe[1]) if recipe else 0, config.stem


def find(name: str) -> Path | None:
    """Find a shipped config by name; None where there is none, or several.

    The name is one of :func:`names`, such as ``shufflenetv1-x1.0-g3``, or the end of one, such as
    the ``bccd`` of ``faster-rcnn_shufflenetv2-x0.5_fpn_1xb4-12e_bccd``.
    """
    fitting = _fitting(name)
    return fitting[0] if len(fitting) == 1 else None


def _fitting(name: str) -> list[Path]:
    known = names()
    if name in known:
        return [known[name]]
    return [path for other, path in known.items() if other.endswith(f'_{name}')]


def resolve(config: str, others: Iterable[str] = ()) -> str:
    """Path of a config file that is given by its path, or by the name of a shipped config.

    Args:
        others: Names of something else that would do, for the error.

    Raises:
        UserError: It is neither; the message has names that are near.
    """
    if Path(config).is_file():
        return config
    if Path(config).is_dir():
        raise UserError(f'config {config} is a folder; give the path of a file')
    fitting = _fitting(config)
    if len(fitting) == 1:
        return str(fitting[0])
    if fitting:
        these = ', '.join(path.stem for path in fitting[:3])
        raise UserError(f'config {config} is the end of {len(fitting)} names: {these}, ...')
    name = Path(config).name.removesuffix('.py')
    close = difflib.get_close_matches(name, [*names(), *others], n=3, cutoff=0.5)
    near = f'; near: {", ".join(close)}' if close else ''
    what = 'give the path of a file or the name of a shipped config'
    raise UserError(f'config {config} does not exist: {what}{near}')


@contextlib.contextmanager
def metafiles_read_once() -> Iterator[None]:
    """Make reading many configs fast.

    mmengine looks up every ``mmdet::`` base in all metafiles of MMDetection and reads them anew
    each time, 0.2 s a base. Within the block, and from one block to the next, each is read once,
    and each base looked up once.
    """
    load, find = config_utils.load, Config._get_cfg_path
    config_utils.load, Config._get_cfg_path = _load_once, staticmethod(_find_base)
    try:
        yield
    finally:
        config_utils.load, Config._get_cfg_path = load, staticmethod(find)


_load_once = functools.cache(config_utils.load)
_find_anew = Config._get_cfg_path
_find_once = functools.cache(_find_anew)


def _find_base(base: str, config: str) -> tuple[str, str | None]:
    """Find a base; one of a package is the same for every config."""
    return _find_once(base, '') if '::' in base else _find_anew(base, config)
