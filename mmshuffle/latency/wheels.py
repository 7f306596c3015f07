"""Wheels that are carried over to a device without internet."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from mmshuffle.errors import UserError

from .targets import Place


class Wheel(NamedTuple):
    """A wheel, by its name: name-version(-build)-python-abi-platform.whl."""

    path: Path
    package: str
    pythons: tuple[str, ...]
    abis: tuple[str, ...]
    platforms: tuple[str, ...]

    def fits(self, place: Place) -> bool:
        """Whether Python and the machine of a device can use it."""
        return self.fits_machine(place) and self._fits_python(place)

    def fits_machine(self, place: Place) -> bool:
        """Whether it is for the device's architecture, or for any."""
        return any(p == 'any' or p.endswith(f'_{place.machine}') for p in self.platforms)

    def _fits_python(self, place: Place) -> bool:
        if 'none' in self.abis and any(p.startswith('py3') for p in self.pythons):
            return True
        if place.implementation in self.pythons:
            return True
        oldest = [int(p[3:]) for p in self.pythons if p.startswith('cp3') and p[3:].isdigit()]
        mine = int(place.implementation[3:])
        return 'abi3' in self.abis and any(number <= mine for number in oldest)


def read_wheels(folder: str) -> list[Wheel]:
    """List the wheels of a folder.

    Raises:
        UserError: It has none.
    """
    found = []
    for path in sorted(Path(folder).glob('*.whl')):
        parts = path.stem.split('-')
        if len(parts) >= 5:
            tags = (tuple(part.split('.')) for part in parts[-3:])
            found.append(Wheel(path, parts[0].lower(), *tags))
    if not found:
        raise UserError(f'--wheels {folder}: no .whl files there; fill it with pip download')
    return found


def choose_wheels(wheels: Sequence[Wheel], place: Place) -> list[Path]:
    """Choose one wheel a package for a device.

    Raises:
        UserError: A package has wheels, but none for this device.
    """
    chosen = []
    for package in sorted({wheel.package for wheel in wheels}):
        mine = [wheel for wheel in wheels if wheel.package == package]
        fitting = [wheel.path for wheel in mine if wheel.fits(place)]
        if fitting:
            chosen.append(fitting[-1])
            continue
        device = f'{place.machine} with Python {place.python}'
        if not any(wheel.fits_machine(place) for wheel in mine):
            device = place.machine
        raise UserError(
            f'--wheels: the device is {device}, but {package} is there only as '
            f'{", ".join(wheel.path.name for wheel in mine)}'
        )
    return chosen
