"""Where the configs that come with the project are, and which of them a name means."""

import contextlib
import difflib
import functools
import re
from collections.abc import Iterator
from pathlib import Path

from mmengine.config import utils as config_utils

PACKAGE = Path(__file__).resolve().parents[1]
# Behind the network in the name of an ImageNet config, where the recipe is the paper's.
RECIPE = re.compile(r'(_300k)?_imagenet$')


@functools.cache
def root() -> Path:
    """The folder that holds ``configs/`` and ``tools/``: the source tree, or what pip unpacked."""
    return PACKAGE.parent if (PACKAGE.parent / 'setup.py').is_file() else PACKAGE / '.mim'


def locate(config: str) -> Path | None:
    """Find a shipped config by its path from the root; None where there is none (yet)."""
    path = root() / config
    return path if path.is_file() else None


def names() -> dict[str, Path]:
    """Shipped configs by name: the file's, and for ImageNet also the network's alone."""
    found = {}
    for path in sorted((root() / 'configs').glob('[!_]*/**/*.py')):
        found[path.stem] = path
        found[network(path)] = path
    return found


def network(config: Path) -> str:
    """Name of the network alone: ``shufflenetv1-x1.0-g3``, or the whole name of a detector's."""
    return RECIPE.sub('', config.stem)


def find(name: str) -> Path | None:
    """Find a shipped config by name, such as ``shufflenetv1-x1.0-g3``; None where none has it."""
    return names().get(name)


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
