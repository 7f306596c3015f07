"""The one exception that means "the input is wrong", and output whose reader may leave."""

import contextlib
import os
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TextIO


class UserError(Exception):
    """Bad input: the message says in one line what is wrong and how to fix it.

    Command lines print the message without a traceback and exit with code 2
    (:func:`mmshuffle.engine.cli.run`).
    """


def way_to_train(checkpoint: str | Path) -> str:
    """How to get a checkpoint that does not exist, behind a message that says so.

    Empty where it is in no folder of ``work_dirs``, where trainings write.
    """
    folder = Path(checkpoint).parent
    known = folder.parent.name == 'work_dirs'
    return f', or train it: python tools/train.py {folder.name}' if known else ''


def last_line(text: str) -> str:
    """The last line with a word in it, which is where programs and libraries say what failed."""
    lines = [line.strip() for line in text.splitlines() if re.search(r'\w', line)]
    return lines[-1] if lines else 'no message'


def one_line(error: BaseException) -> str:
    """Say in one line what a library reported: its first cause.

    The classes that mmengine's registries put in front are left out, and what exceeds a bearable
    length.
    """
    while error.__cause__ is not None:
        error = error.__cause__
    text = str(error.args[0] if isinstance(error, KeyError) and error.args else error)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if not lines:
        return type(error).__name__
    # A heading says nothing without what it is a heading of.
    line = ' '.join(lines[:2]) if lines[0].endswith(':') else lines[0]
    line = re.sub(r'^(class `\w+` in [\w/.]+: )+', '', line)
    line = re.sub(
        r'\. Please check whether the value of .*', ': fix it, or import its module', line
    )
    return line if len(line) <= 300 else f'{line[:300]}...'


class _PatientStream:
    """A stream that goes nowhere from where its reader has left."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        self._unless_broken(self._stream.write, text)
        return len(text)

    def flush(self) -> None:
        self._unless_broken(self._stream.flush)

    def _unless_broken(self, call: Callable, *arguments: str) -> None:
        try:
            call(*arguments)
        except BrokenPipeError:
            # What the stream still holds goes there too, at the latest when Python ends.
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)


@contextlib.contextmanager
def patient_output() -> Iterator[None]:
    """Go on where nobody reads what is printed any more, as behind ``| head``.

    The files that a command line writes are complete all the same.
    """
    streams = _PatientStream(sys.stdout), _PatientStream(sys.stderr)
    with contextlib.redirect_stdout(streams[0]), contextlib.redirect_stderr(streams[1]):
        try:
            yield
        finally:
            for stream in streams:
                stream.flush()
