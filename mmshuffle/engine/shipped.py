"""Where the configs that come with the project are, and which of them a name means."""

import contextlib
import difflib
import functools
import re
from collections.abc import Iterator
from pathlib import Path

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

    Args:
        name: One of :func:`names`, such as ``shufflenetv1-x1.0-g3``, or the end of one, such as the
            ``bccd`` of ``faster-rcnn_shufflenetv2-x0.5_fpn_1xb4-12e_bccd``.
    """
    known = names()
    if name in known:
        return known[name]
    ends = _ending_in(name)
    return known[ends[0]] if len(ends) == 1 else None


def _ending_in(name: str) -> list[str]:
    return [other for other in names() if other.endswith(f'_{name}')]


def resolve(config: str) -> str:
    """Path of a config file that is given by its path, or by the name of a shipped config.

    Raises:
        UserError: It is neither; the message has names that are near.
    """
    if Path(config).is_file():
        return config
    if Path(config).is_dir():
        raise UserError(f'config {config} is a folder; give the path of a file')
    found = find(config)
    if found is None:
        ends = _ending_in(config)
        wrong = f'fits {len(ends)} shipped configs' if ends else 'does not exist'
        near = f'; near: {", ".join(ends[:3])}' if ends else suggest(_stem(config), [])
        raise UserError(
            f'config {config} {wrong}: give the path of a file or the name of a shipped one{near}'
        )
    return str(found)


def _stem(config: str) -> str:
    return Path(config).name.removesuffix('.py')


def suggest(name: str, others: list[str]) -> str:
    """Words for an error: which names are near ``name``."""
    close = difflib.get_close_matches(name, [*names(), *others], n=3, cutoff=0.5)
    return f'; near: {", ".join(close)}' if close else ''


@contextlib.contextmanager
def metafiles_read_once() -> Iterator[None]:
    """Make reading many configs fast.

    mmengine looks up every ``mmdet::`` base in all metafiles of MMDetection and reads them anew
    each time, 0.2 s a base. Within the block, and from one block to the next, each is read once.
    """
    plain = config_utils.load
    config_utils.load = _load_once
    try:
        yield
    finally:
        config_utils.load = plain


_load_once = functools.cache(config_utils.load)
