"""Running command lines in the process of the tests."""

import contextlib
import io
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess
from types import ModuleType

import pytest
from mmdet.visualization import DetLocalVisualizer
from mmengine.logging import MessageHub, MMLogger
from mmengine.visualization import Visualizer

from mmshuffle.engine import cli
from tests.conftest import REPO, load_file

Done = tuple[int, str, str]


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


@pytest.fixture
def call(capsys) -> Callable[..., Done]:
    """Run the tool of a name; returns its exit code, output and errors."""

    def run(name: str, *args: object) -> Done:
        tool = load_tool(name)
        capsys.readouterr()
        return exit_code(tool, *args), *capsys.readouterr()

    return run


def run(script: str | Path, *args: object) -> CompletedProcess:
    """Run the tool at a path from the root there; what it prints is in the result."""
    out, err = io.StringIO(), io.StringIO()
    with (
        pytest.MonkeyPatch.context() as patch,
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        patch.chdir(REPO)
        code = exit_code(load_file(REPO / script), *args)
    return CompletedProcess(args, code, out.getvalue(), err.getvalue())


def assert_user_error(done: CompletedProcess, *parts: str) -> None:
    """Like :func:`assert_refused`; before the error, the run may have printed."""
    assert_refused((done.returncode, '', done.stderr), *parts)


def assert_refused(done: Done, *parts: str) -> None:
    """Assert exit code 2, nothing printed, and one error with ``parts`` in it, no traceback."""
    code, out, err = done
    assert (code, out) == (2, ''), err[-2000:]
    assert 'Traceback' not in err
    assert len([line for line in err.splitlines() if line.startswith('error: ')]) == 1, err[-2000:]
    assert all(part in err for part in parts), err
