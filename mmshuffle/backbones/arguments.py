"""Checks of the arguments of backbones; every message names what is allowed."""

from collections.abc import Sequence
from typing import Any, NoReturn


def refuse(owner: Any, name: str, value: Any, allowed: str) -> NoReturn:
    """Raise a ``ValueError`` that names class, argument, value and what is allowed."""
    raise ValueError(f'{name}={value!r} of {type(owner).__name__}: {allowed}')


def check_choice(owner: Any, name: str, value: Any, allowed: Sequence[Any]) -> None:
    """Refuse a value that is not allowed."""
    # 1 is in (True, False) and in (1.0, 2.0); a width may be written as 1, an index not as 1.0.
    kinds = {type(choice) for choice in allowed}
    kinds |= {int} if float in kinds else set()
    if type(value) not in kinds or value not in allowed:
        refuse(owner, name, value, f'choose one of {", ".join(map(repr, allowed))}')


def check_se_ratio(owner: Any, ratio: Any) -> None:
    """Refuse an ``se_ratio`` that is neither None nor a share."""
    if ratio is not None and (type(ratio) not in (int, float) or not 0 < ratio <= 1):
        refuse(owner, 'se_ratio', ratio, 'give None or a number above 0 and up to 1')
