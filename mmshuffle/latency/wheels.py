"""Wheels that are carried over to a device without internet.

A wheel is called name-version(-build)-python-abi-platform.whl.
"""

from collections.abc import Sequence
from pathlib import Path

from mmshuffle.errors import UserError

from .targets import Place


def read_wheels(folder: str) -> list[Path]:
    """List the wheels of a folder.

    Raises:
        UserError: It has none.
    """
    found = [path for path in sorted(Path(folder).glob('*.whl')) if path.stem.count('-') >= 4]
    if not found:
        raise UserError(f'--wheels {folder}: no .whl files there; fill it with pip download')
    return found


def choose_wheels(wheels: Sequence[Path], place: Place) -> list[Path]:
    """Choose one wheel a package for a device.

    Raises:
        UserError: A package has wheels, but none for this device.
    """
    packages: dict[str, list[Path]] = {}
    for path in wheels:
        packages.setdefault(path.name.partition('-')[0].lower(), []).append(path)
    chosen = []
    for package, mine in packages.items():
        for_machine = [path for path in mine if _fits_machine(path, place)]
        fitting = [path for path in for_machine if _fits_python(path, place)]
        if not fitting:
            device = place.machine + (f' with Python {place.python}' if for_machine else '')
            names = ', '.join(path.name for path in mine)
            raise UserError(
                f'--wheels: the device is {device}, but {package} is there only as {names}'
            )
        chosen.append(fitting[-1])
    return chosen


def _fits_machine(path: Path, place: Place) -> bool:
    platforms = path.stem.split('-')[-1].split('.')
    return any(name == 'any' or name.endswith(f'_{place.machine}') for name in platforms)


def _fits_python(path: Path, place: Place) -> bool:
    pythons, abis = (part.split('.') for part in path.stem.split('-')[-3:-1])
    if 'none' in abis and any(name.startswith('py3') for name in pythons):
        return True
    if place.implementation in pythons:
        return True
    oldest = [int(name[3:]) for name in pythons if name.startswith('cp3') and name[3:].isdigit()]
    return 'abi3' in abis and any(number <= int(place.implementation[3:]) for number in oldest)
