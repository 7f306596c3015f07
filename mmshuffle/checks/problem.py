"""What a check of a config finds."""

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mmshuffle.errors import UserError, one_line


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong."""

    where: str  # the setting, as a path in the config
    message: str  # what is wrong and how to fix it, in one line
    fatal: bool = True  # whether the run must not start

    def __str__(self) -> str:
        return f'{self.where}: {self.message}'


def mismatch(where: str, given: Any, truth: str, value: Any) -> Problem:
    """A setting that contradicts what is known from elsewhere, and its right value."""
    return Problem(where, f'{given}, but {truth}: set it to {value}')


def raise_on(problems: Sequence[Problem]) -> None:
    """Refuse to start a run with fatal problems: a ``UserError`` with a line for each."""
    fatal = [str(problem) for problem in problems if problem.fatal]
    if fatal:
        raise UserError('\n       '.join(fatal))


def guarded(where: str, check: Callable[..., Iterable[Problem]], *args: Any) -> list[Problem]:
    """Run a check; a config that it does not understand must still run."""
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)  # what is built for a check says things that a run says again
    try:
        return list(check(*args))
    except Exception as error:
        message = f'not checked ({type(error).__name__}: {one_line(error)})'
        return [Problem(where, message, fatal=False)]
    finally:
        logging.disable(disabled)


def as_list(cfg: Any) -> list[Mapping[str, Any]]:
    """The configs of a setting that may be one or several, or something else."""
    return [entry for _, entry in placed(cfg, '')]


def placed(cfg: Any, where: str) -> list[tuple[str, Mapping[str, Any]]]:
    """The same with the place of each, which has an index where they are several."""
    if isinstance(cfg, Mapping):
        return [(where, cfg)]
    entries = enumerate(cfg if isinstance(cfg, (list, tuple)) else ())
    return [(f'{where}[{i}]', entry) for i, entry in entries if isinstance(entry, Mapping)]
