#!/usr/bin/env python3
"""Make the environment mmshuffle needs, then run the quickstart or the tests in it.

Examples:
    python3 tools/bootstrap.py quickstart
    python3 tools/bootstrap.py quickstart -- --help
    python3 tools/bootstrap.py test -- -k shuffle
    python3 tools/bootstrap.py env --line onedl
    python3 tools/bootstrap.py run -- -m ruff check .

What is already there is not done again, so an interrupted run goes on where it stopped.
An active virtual environment that has PyTorch is used as it is; otherwise .venv is made.
"""

from __future__ import annotations

import sys

if sys.version_info < (3, 10):  # noqa: UP036  (an older Python must get this line, not a traceback)
    sys.exit(print('bootstrap: Python 3.10 or newer is needed', file=sys.stderr) or 2)

import argparse
import os
import re
import shlex
import signal
import subprocess
import sysconfig
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / 'mmshuffle'))
import environment

sys.path.pop(0)

TORCH = 'torch==2.13.0'
# What has to be there before the rest: mmcv is built with the first for the PyTorch that is there.
BUILD_TOOLS = {
    'openmmlab': (environment.BUILD_TOOLS, 'wheel', 'ninja'),
    'onedl': ('setuptools>=77.0.3', 'wheel', 'ninja'),
}
MMCV = {'openmmlab': 'mmcv==2.1.0', 'onedl': 'onedl-mmcv>=2.3.6'}
EXTRAS = {'quickstart': (), 'run': ('dev',), 'env': ('dev', 'deploy'), 'test': ('dev', 'deploy')}
# A process a core, each with the tests of whole files, which share what they have trained.
PROGRAMS = {
    'quickstart': (str(ROOT / 'tools' / 'quickstart.py'),),
    'test': ('-m', 'pytest', '--numprocesses=auto', '--maxprocesses=8', '--dist=loadfile'),
    'run': (),
}
NO_ISOLATION = '--no-build-isolation'  # mmcv's build must see the PyTorch it is built for
HEARTBEAT = 30  # seconds between lines where the output is not a terminal


class Stop(Exception):
    """The end, with one line to say why and an exit code."""

    def __init__(self, message: str, code: int = 2) -> None:
        super().__init__(message)
        self.code = code


class Runner:
    """Runs commands with their output in a log, a heartbeat on the screen, and a clean end."""

    def __init__(self, python: str, log: Path) -> None:
        self.python, self.log = python, log
        # PyTorch's builder looks for `ninja` on PATH; without it one core compiles for an hour.
        path = os.pathsep.join((str(Path(python).parent), os.environ.get('PATH', '')))
        self.env = {'MAX_JOBS': str(environment.cores()), 'MMCV_WITH_OPS': '1', **os.environ}
        self.env['PATH'] = path

    def run(self, *command: str, env: dict[str, str] | None = None) -> int:
        """Run a command to its end; Ctrl-C ends it and all it started."""
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open('a', encoding='utf-8') as log:
            print(f'\n$ {shlex.join(command)}', file=log, flush=True)
            process = subprocess.Popen(
                command,
                stdout=log,
                stderr=log,
                env=env or self.env,
                cwd=ROOT,
                start_new_session=True,
            )
            try:
                return self._wait(process)
            except BaseException:
                end_group(process)
                raise

    def step(self, title: str, *command: str, hint: str = '', env: dict | None = None) -> None:
        """Run a command that has to succeed."""
        print(title, flush=True)
        if self.run(*command, env=env):
            log = self.log.read_text(encoding='utf-8', errors='replace').splitlines()
            print('\n'.join(log[-20:]), file=sys.stderr)
            hint = hint or 'when the cause is fixed, the same command goes on from here'
            raise Stop(f'"{title}" failed; {hint}; whole log: {self.log}', 1)

    def pip(
        self, title: str, *arguments: str, action: str = 'install', env: dict | None = None
    ) -> None:
        """Run pip in the environment."""
        quiet = ('--disable-pip-version-check', '--no-input')
        self.step(title, self.python, '-m', 'pip', action, *quiet, *arguments, env=env)

    @staticmethod
    def _wait(process: subprocess.Popen) -> int:
        start, terminal = time.monotonic(), sys.stdout.isatty()
        while True:
            try:
                return process.wait(timeout=1 if terminal else HEARTBEAT)
            except subprocess.TimeoutExpired:
                minutes, seconds = divmod(round(time.monotonic() - start), 60)
                text = f'      {minutes}:{seconds:02d} elapsed'
                print(text, end='\r' if terminal else '\n', flush=True)


def end_group(process: subprocess.Popen) -> None:
    """End a process and, where the system has process groups, the compilers it started."""
    if process.poll() is None:
        if hasattr(os, 'killpg'):
            os.killpg(process.pid, signal.SIGTERM)
        else:
            process.terminate()
        process.wait()


@contextmanager
def cxx20(env: dict[str, str], torch: str | None) -> Iterator[dict[str, str]]:
    """Make compilers build as C++20 whatever mmcv's setup.py asks for, if PyTorch needs it.

    Where several ``-std`` are given the last one holds, so the C++ compiler is a script that calls
    the real one (``CXX`` if set) and appends it. nvcc and Microsoft's compiler read variables.

    Args:
        env: variables of the build.
        torch: the version of PyTorch.

    Yields:
        The variables to build with; the script exists until the end of the block.
    """
    if not environment.needs_cxx20(torch):
        yield env
        return
    env = {**env, 'NVCC_APPEND_FLAGS': f'{env.get("NVCC_APPEND_FLAGS", "")} -std=c++20'.strip()}
    with tempfile.TemporaryDirectory(prefix='mmshuffle-') as folder:
        if os.name == 'nt':
            env['_CL_'] = f'{env.get("_CL_", "")} /std:c++20'.strip()
        else:
            command = environment.compiler()
            # PyTorch tells GCC from Clang by the file's name.
            script = Path(folder, Path(command[-1]).name)
            script.write_text(f'#!/bin/sh\nexec {shlex.join(command)} "$@" -std=c++20\n')
            script.chmod(0o755)
            env['CXX'] = str(script)
        yield env


def check_build(facts: dict) -> None:
    """Refuse before the first download where mmcv's build could only fail at its end."""
    if not facts['compiler']:
        raise Stop('no C++ compiler found: install g++ (apt-get install g++) or set CXX')
    header = Path(sysconfig.get_path('include')) / 'Python.h'
    if os.name == 'posix' and not header.is_file():
        raise Stop(f'{header} is missing: install the headers (apt-get install python3-dev)')


def install_mmcv(runner: Runner, facts: dict, line: str) -> None:
    """Build mmcv for the PyTorch that is there, or take the wheel that was kept for it.

    pip would keep it too, but give a wheel that was built for one PyTorch to all others, with which
    it may even load. From the folder's name the doctor knows what an installed one was built for.
    """
    torch, python = facts['packages']['torch'], environment.release(facts['python']['version'])
    cache = Path(os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache')
    folder = cache / 'mmshuffle' / environment.wheel_folder(torch)
    name = environment.LINES[line][2].replace('-', '_')
    pattern = f'{name}-*-cp{python[0]}{python[1]}-*.whl'
    if not list(folder.glob(pattern)):
        cores = environment.cores()
        title = (
            f'building {MMCV[line]} (about {max(1, round(20 / cores))} minutes on {cores} cores)'
        )
        options = ('--no-deps', '--no-cache-dir', NO_ISOLATION, '--wheel-dir', str(folder))
        with cxx20(runner.env, torch) as env:
            runner.pip(f'[4/5] {title}', *options, MMCV[line], action='wheel', env=env)
    wheel = str(max(folder.glob(pattern), key=os.path.getmtime))
    # Without --force-reinstall pip keeps a package of the same version, whatever it was built for.
    anew = () if MMCV[line] in facts['unmet'] else ('--force-reinstall', '--no-deps')
    runner.pip(f'[4/5] {MMCV[line]}, from {wheel}', *anew, wheel)
    if error := examine(runner, line)['imports'].get('mmcv_ext'):
        os.remove(wheel)
        raise Stop(f'{wheel} does not load ({error}): the same command builds another one', 1)


def examine(runner: Runner, line: str, *requirements: str) -> dict:
    """Collect the facts that the steps need."""
    wanted = (*BUILD_TOOLS[line], MMCV[line], *requirements)
    return environment.collect(runner.python, ('torch', 'torchvision', 'mmcv_ext'), wanted)


def needs_mmcv(facts: dict, line: str) -> bool:
    """Tell whether mmcv is missing or its operations fail."""
    return MMCV[line] in facts['unmet'] or bool(facts['imports'].get('mmcv_ext'))


def check(facts: dict, line: str, own: bool) -> None:
    """Refuse an environment that the steps would not repair, or that is somebody else's."""
    fatal = ['python', 'both-lines', 'torchvision', 'torch-version']
    fatal += [] if own else ['torch-broken']
    for finding in environment.diagnose(facts):
        if finding.code in fatal:
            raise Stop(f'{finding.message}; fix it with: {finding.fix}')
    for other in environment.lines_present(facts):
        if other != line:
            names = ' '.join(name for name in environment.LINES[other] if facts['packages'][name])
            raise Stop(
                f'this environment holds the {other} line, which shares its import names with '
                f'{line}: pass --line {other}, or remove it with: pip uninstall {names}'
            )
    if not facts['packages']['pip']:
        raise Stop(f'{facts["python"]["executable"]} has no pip: run it with -m ensurepip')


def is_current(facts: dict) -> bool:
    """Tell whether this checkout is installed, and no packaging file changed since."""
    changed = max((ROOT / name).stat().st_mtime for name in ('setup.py', 'pyproject.toml'))
    bundled = (ROOT / 'mmshuffle' / '.mim' / 'configs').exists()
    ours = facts['editable'] == ROOT.as_uri()
    return ours and bundled and (facts['installed_at'] or 0) >= changed


def prepare(line: str, torch: str | None, extras: tuple[str, ...]) -> Runner:
    """Bring the environment to what ``line`` and ``extras`` need and return a runner for it."""
    python = environment.choose_python(ROOT)
    venv = ROOT / '.venv'
    own = Path(python).is_relative_to(venv)
    runner = Runner(python, (venv if own else ROOT / 'work_dirs') / 'bootstrap.log')
    ours = f'mmshuffle[{",".join((*extras, line))}]'
    wanted = (ours, torch) if torch else (ours,)
    hint = 'on Debian: apt-get install python3-venv'
    making = (f'[1/5] making {venv}', sys.executable, '-m', 'venv', str(venv))
    if own and not Path(python).exists():
        runner.step(*making, hint=hint)
    facts = examine(runner, line, *wanted)
    if own and not facts['packages']['pip']:  # an interruption left it without
        runner.step(*making, hint=hint)
        facts = examine(runner, line, *wanted)
    check(facts, line, own)
    if needs_mmcv(facts, line):
        check_build(facts)
    if missing := [tool for tool in BUILD_TOOLS[line] if tool in facts['unmet']]:
        runner.pip('[2/5] build tools', *missing)
    installed, broken = facts['packages']['torch'], facts['imports'].get('torch')
    if broken or torch in facts['unmet']:
        if installed and not own:
            raise Stop(f'PyTorch {installed} of this environment is not touched: leave --torch out')
        anew = ('--force-reinstall',) if installed and broken else ()
        runner.pip('[3/5] PyTorch', *anew, torch or TORCH)
        facts = examine(runner, line, *wanted)
    if needs_mmcv(facts, line):
        install_mmcv(runner, facts, line)
    if ours in facts['unmet'] or not is_current(facts):
        target = f'{ROOT}{ours.removeprefix("mmshuffle")}'
        runner.pip('[5/5] mmshuffle, MMDetection and MMEngine', NO_ISOLATION, '-e', target)
        check(examine(runner, line), line, own)
    print(f'environment ready: {python} ({line}, torch {facts["packages"]["torch"]})', flush=True)
    return runner


def go(runner: Runner, arguments: list[str]) -> int:
    """Become the given Python program, in the environment."""
    command = [runner.python, *arguments]
    os.chdir(ROOT)
    if os.name == 'nt':  # exec there returns to the shell before the program ends
        return subprocess.call(command, env=runner.env)
    os.execve(runner.python, command, runner.env)


def torch_requirement(text: str) -> str:
    """Check the form of ``--torch``."""
    if not re.fullmatch(r'torch(==[\w.+]+)?', text):
        raise argparse.ArgumentTypeError(f'expected torch or torch==VERSION, not {text!r}')
    return text


def parse(argv: list[str]) -> tuple[argparse.Namespace, list[str]]:
    """Return the options and the arguments after ``--``."""
    split = argv.index('--') if '--' in argv else len(argv)
    parser = environment.Parser(__doc__)
    parser.add_argument('command', choices=tuple(EXTRAS))
    parser.add_argument(
        '--line', choices=tuple(MMCV), default='openmmlab', help='see docs/install.md'
    )
    torch_help = f'PyTorch to install (default: what is there, else {TORCH})'
    parser.add_argument('--torch', type=torch_requirement, help=torch_help)
    args = parser.parse_args(argv[:split])
    if args.command == 'env' and split < len(argv):
        parser.error('env takes no further arguments')
    return args, argv[split + 1 :]


def main(argv: list[str] | None = None) -> int:
    """Prepare, then run; return the exit code."""
    args, passed_on = parse(sys.argv[1:] if argv is None else argv)
    try:
        runner = prepare(args.line, args.torch, EXTRAS[args.command])
        if args.command == 'env':
            return 0
        return go(runner, [*PROGRAMS[args.command], *passed_on])
    except Stop as e:
        print(f'bootstrap: {e}', file=sys.stderr)
        return e.code
    except KeyboardInterrupt:
        print('\nbootstrap: interrupted; the same command goes on from here', file=sys.stderr)
        return 130


if __name__ == '__main__':
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # end the compilers then, too
    sys.exit(main())
