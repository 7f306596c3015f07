"""Running command lines in the process of the tests."""

import contextlib
import io
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import NamedTuple

import pytest
from mmdet.visualization import DetLocalVisualizer
from mmengine.logging import MessageHub, MMLogger
from mmengine.visualization import Visualizer

from mmshuffle.engine import cli
from tests.conftest import REPO, load_file


class Done(NamedTuple):
    """How a command line ended, and what it printed."""

    code: int
    out: str
    err: str


def load_tool(name: str) -> ModuleType:
    """Import a file of ``tools/`` anew."""
    return load_file(REPO / 'tools' / f'{name}.py')


def exit_code(tool: ModuleType, *args: object) -> int:
    """Run a tool with a command line; returns its exit code."""
    # Of runs that start in one second, mmengine would share them.
    for kept in (MMLogger, MessageHub, Visualizer, DetLocalVisualizer):
        kept._instance_dict.clear()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr('sys.argv', [f'{tool.__name__}.py', *map(str, args)])
        with pytest.raises(SystemExit) as ended:
            cli.run(tool.main)
    return ended.value.code


def run(script: str | Path, *args: object, folder: str | Path = REPO) -> Done:
    """Run a file of the project, in a folder; returns its exit code, output and errors."""
    out, err = io.StringIO(), io.StringIO()
    with (
        pytest.MonkeyPatch.context() as patch,
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        patch.chdir(folder)
        code = exit_code(load_file(REPO / script), *args)
    return Done(code, out.getvalue(), err.getvalue())


@pytest.fixture
def call() -> Callable[..., Done]:
    """Run the tool of a name where the test is."""
    return lambda name, *args: run(f'tools/{name}.py', *args, folder='.')


@pytest.fixture
def started(monkeypatch) -> list[tuple[str, ...]]:
    """Command lines of the tools that a tool has started, which run in this process."""
    commands, usual = [], subprocess.run

    def start(command: list, **options: object) -> object:
        _, tool, *arguments = map(str, command)
        if Path(tool).parent.name != 'tools':  # what PyTorch asks the system
            return usual(command, **options)
        commands.append((Path(tool).stem, *arguments))
        return SimpleNamespace(returncode=exit_code(load_tool(Path(tool).stem), *arguments))

    monkeypatch.setattr('subprocess.run', start)
    return commands


def assert_done(done: Done) -> tuple[str, str]:
    """Assert exit code 0; returns what was printed and the errors."""
    assert done.code == 0, done.err[-3000:]
    return done.out, done.err


def assert_user_error(done: Done, *parts: str) -> None:
    """Like :func:`assert_refused`; before the error, the run may have printed."""
    assert_refused(done._replace(out=''), *parts)


def assert_refused(done: Done, *parts: str) -> None:
    """Assert exit code 2, nothing printed, and one error with ``parts`` in it, no traceback."""
    code, out, err = done
    assert (code, out) == (2, ''), err[-2000:]
    assert 'Traceback' not in err
    assert len([line for line in err.splitlines() if line.startswith('error: ')]) == 1, err[-2000:]
    assert all(part in err for part in parts), err
