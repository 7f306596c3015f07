"""What a check of a config finds."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong.

    Attributes:
        where: The setting, as a path in the config.
        message: What is wrong and how to mend it, in one line.
        fatal: Whether the run must not start.
    """

    where: str
    message: str
    fatal: bool = True

    def __str__(self) -> str:
        return f'{self.where}: {self.message}'
