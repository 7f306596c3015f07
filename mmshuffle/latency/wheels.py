"""Wheels that are carried over to a device without internet."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from packaging.tags import Tag, compatible_tags, cpython_tags
from packaging.utils import InvalidWheelFilename, parse_wheel_filename

from mmshuffle.errors import UserError

from .device.runtimes import RUNTIMES

PACKAGES = dict(litert='ai-edge-litert', pytorch='torch')  # the others have the runtime's name
Wheel = tuple[Path, str, frozenset[Tag]]  # with the name of its package


def read_wheels(folder: str, runtimes: Collection[str] = RUNTIMES) -> list[Wheel]:
    """List the wheels of a folder, without those of other runtimes.

    Raises:
        UserError: It has none.
    """
    found, others = [], {PACKAGES.get(name, name) for name in RUNTIMES if name not in runtimes}
    for path in sorted(Path(folder).glob('*.whl')):
        try:
            name, _, _, tags = parse_wheel_filename(path.name)
        except InvalidWheelFilename:
            continue
        found.append((path, name, tags))
    if not found:
        raise UserError(f'--wheels {folder}: no .whl files there; fill it with pip download')
    return [wheel for wheel in found if wheel[1] not in others]


def choose_wheels(wheels: Sequence[Wheel], place: Mapping[str, Any]) -> list[Path]:
    """Choose one wheel a package for a device; see :func:`.device.bootstrap.prepare`.

    Raises:
        UserError: A package has wheels, but none for this device.
    """
    version = tuple(map(int, place['python'].split('.')[:2]))
    python = 'cp{}{}'.format(*version)
    chosen: dict[str, Path] = {}
    for path, package, tags in wheels:
        names = {tag.platform for tag in tags}
        names = [name for name in names if name.endswith(('any', f'_{place["machine"]}'))]
        known = [*cpython_tags(version, [python], names), *compatible_tags(version, python, names)]
        if tags.intersection(known):
            chosen[package] = path
    for package in (name for _, name, _ in wheels if name not in chosen):
        names = ', '.join(path.name for path, name, _ in wheels if name == package)
        raise UserError(
            f'--wheels: the device is {place["machine"]} with Python {place["python"]}, but '
            f'{package} is there only as {names}'
        )
    return list(chosen.values())
