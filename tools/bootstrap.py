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
import contextlib
import os
import re
import shlex
import signal
import subprocess
import tempfile
from pathlib import Path
from typing import IO, Any

import doctor
from doctor import ROOT

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

TORCH = 'torch==2.13.0'
# What has to be there before the rest: mmcv is built with the first for the PyTorch that is there.
BUILD_TOOLS = {'openmmlab': (doctor.SETUPTOOLS, 'wheel', 'ninja')}
BUILD_TOOLS['onedl'] = ('setuptools>=77.0.3', 'wheel', 'ninja')
MMCV = {'openmmlab': 'mmcv==2.1.0', 'onedl': 'onedl-mmcv>=2.3.6'}
ALL = ('dev', 'deploy', 'report')
RUNTIMES = (*ALL, 'litert', 'executorch')
EXTRAS = {'quickstart': (), 'run': ('dev',), 'env': ALL, 'test': ALL, 'test-runtimes': RUNTIMES}
# A process a core, each with the tests of whole files, which share what they have trained.
PROGRAMS = {
    'quickstart': (str(ROOT / 'tools' / 'quickstart.py'),),
    'test': ('-m', 'pytest', '--numprocesses=auto', '--maxprocesses=8', '--dist=loadfile'),
    'run': (),
    # LiteRT and ExecuTorch, with what is slow in it.
    'test-runtimes': (
        *('-m', 'pytest', '-m', '', '-k', 'litert or executorch or xnnpack', 'tests/test_deploy'),
        *('tests/test_latency', 'tests/test_tools/test_export.py'),
    ),
}
NO_ISOLATION = '--no-build-isolation'  # mmcv's build must see the PyTorch it is built for


class Stop(Exception):
    """The end, with one line to say why and an exit code."""

    def __init__(self, message: str, code: int = 2) -> None:
        super().__init__(message)
        self.code = code


class Runner:
    """Runs commands that have to succeed; pip shows its own progress and logs all it does."""

    def __init__(self, python: str, log: Path) -> None:
        self.python, self.log = python, log
        # PyTorch's builder looks for `ninja` on PATH; without it one core compiles for an hour.
        path = os.pathsep.join((str(Path(python).parent), os.environ.get('PATH', '')))
        jobs = {'MAX_JOBS': str(doctor.cores()), 'MMCV_WITH_OPS': '1'}
        self.env = {**jobs, **os.environ, 'PATH': path}

    def pip(self, title: str, *arguments: str, action: str = 'install', **kwargs: Any) -> None:
        """Run pip in the environment."""
        self.log.parent.mkdir(parents=True, exist_ok=True)
        pip = (self.python, '-m', 'pip', action, '--log', str(self.log))
        hint = f'when the cause is fixed, the same command goes on from here; log: {self.log}'
        common = ('--disable-pip-version-check', '--no-input')
        self.step(title, *pip, *common, *arguments, hint=hint, **kwargs)

    def step(self, title: str, *command: str, hint: str, env: dict | None = None) -> None:
        """Run a command to its end; Ctrl-C ends it and all it started."""
        print(title, flush=True)
        options = dict(env=env or self.env, cwd=ROOT, start_new_session=True)
        process = subprocess.Popen(command, **options)
        try:
            code = process.wait()
        except BaseException:
            with contextlib.suppress(ProcessLookupError):  # it has just ended
                # Where the system has process groups, the compilers that it started too.
                os.killpg(process.pid, 15) if hasattr(os, 'killpg') else process.terminate()
            process.wait()
            raise
        if code:
            raise Stop(f'"{title}" failed, see above; {hint}', 1)


def lock(path: Path) -> IO | None:
    """Wait until no other bootstrap changes the environment; others wait until the file is closed.

    None where nothing can be written: nothing can be installed there either.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open('a')
    except OSError:
        return None
    if fcntl:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print('another bootstrap is at work: waiting for its end', flush=True)
            fcntl.flock(file, fcntl.LOCK_EX)
    return file


def cxx20(env: dict[str, str], compiler: str, folder: str) -> dict[str, str]:
    """Make a compiler build as C++20, whatever mmcv's setup.py asks for.

    Where several ``-std`` are given the last one holds, so the C++ compiler is a script that calls
    the real one and appends it. nvcc and Microsoft's compiler read variables.
    """
    env = {**env, 'NVCC_APPEND_FLAGS': f'{env.get("NVCC_APPEND_FLAGS", "")} -std=c++20'.strip()}
    if os.name == 'nt':
        return {**env, '_CL_': f'{env.get("_CL_", "")} /std:c++20'.strip()}
    # PyTorch tells GCC from Clang by the file's name.
    script = Path(folder, Path(shlex.split(compiler)[-1]).name)
    script.write_text(f'#!/bin/sh\nexec {compiler} "$@" -std=c++20\n')
    script.chmod(0o755)
    return {**env, 'CXX': str(script)}


def install_mmcv(runner: Runner, facts: dict, line: str) -> None:
    """Build mmcv for the PyTorch that is there, or take the wheel that was kept for it.

    pip would keep it too, but give a wheel that was built for one PyTorch to all others, with which
    it may even load. From the folder's name the doctor knows what an installed one was built for.
    """
    torch, python = facts['packages']['torch'], doctor.release(facts['python']['version'])
    cache = Path(os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache')
    folder = cache / 'mmshuffle' / f'torch-{torch}'
    name = doctor.LINES[line][2].replace('-', '_')
    pattern = f'{name}-*-cp{python[0]}{python[1]}-*.whl'
    if not list(folder.glob(pattern)):
        folder.mkdir(parents=True, exist_ok=True)
        cores, env = doctor.cores(), runner.env
        minutes = max(1, round(20 / cores))
        title = f'[4/5] building {MMCV[line]} (about {minutes} minutes on {cores} cores)'
        options = ('--no-deps', '--no-cache-dir', NO_ISOLATION, '--wheel-dir')
        # Others that share the cache find a whole wheel or none.
        with tempfile.TemporaryDirectory(dir=folder) as new, tempfile.TemporaryDirectory() as own:
            if doctor.release(torch) >= doctor.CXX20_TORCH:
                env = cxx20(env, facts['compiler'], own)  # PyTorch takes no blank in its path
            runner.pip(title, *options, new, MMCV[line], action='wheel', env=env)
            for built in Path(new).glob(pattern):
                built.replace(folder / built.name)
    wheel = max(folder.glob(pattern), key=os.path.getmtime)
    # Without --force-reinstall pip keeps a package of the same version, whatever it was built for.
    anew = () if MMCV[line] in facts['unmet'] else ('--force-reinstall', '--no-deps')
    runner.pip(f'[4/5] {MMCV[line]}, from {wheel}', *anew, str(wheel))
    if error := examine(runner, line)['imports'].get('mmcv_ext'):
        wheel.unlink()
        raise Stop(f'{wheel} does not load ({error}): the same command builds another one', 1)


def check(facts: dict, line: str, own: bool) -> None:
    """Refuse an environment that the steps would not repair, or that is somebody else's."""
    fatal = {'python', 'both-lines', 'torchvision', 'torch-version', '' if own else 'torch-broken'}
    for finding in doctor.diagnose(facts):
        if finding.code in fatal:
            raise Stop(f'{finding.message}; fix it with: {finding.fix}')
    for other in doctor.lines_present(facts):
        if other != line:
            names = ' '.join(name for name in doctor.LINES[other] if facts['packages'][name])
            raise Stop(
                f'this environment holds the {other} line, which shares its import names with '
                f'{line}: pass --line {other}, or remove it with: pip uninstall {names}'
            )
    if not facts['packages']['pip']:
        raise Stop(f'{facts["python"]["executable"]} has no pip: run it with -m ensurepip')
    if mmcv_fails(facts, line):  # before a download, because the build could only fail at its end
        if not facts['compiler']:
            raise Stop('no C++ compiler found: install g++ (apt-get install g++) or set CXX')
        if header := facts['header']:
            raise Stop(f'{header} is missing: install the headers (apt-get install python3-dev)')


def mmcv_fails(facts: dict, line: str) -> bool:
    """Tell whether mmcv is missing or its operations fail."""
    return MMCV[line] in facts['unmet'] or bool(facts['imports'].get('mmcv_ext'))


def examine(runner: Runner, line: str, *requirements: str) -> dict:
    """Collect the facts that the steps need."""
    wanted = (*BUILD_TOOLS[line], MMCV[line], *requirements)
    return doctor.collect(runner.python, ('torch', 'torchvision', 'mmcv_ext'), wanted)


def is_current(facts: dict) -> bool:
    """Tell whether this checkout is installed, and no packaging file changed since."""
    changed = max((ROOT / name).stat().st_mtime for name in ('setup.py', 'pyproject.toml'))
    ours = facts['editable'] == ROOT.as_uri() and (ROOT / 'mmshuffle/.mim/configs').exists()
    return ours and (facts['installed_at'] or 0) >= changed


def prepare(line: str, torch: str | None, extras: tuple[str, ...]) -> Runner:
    """Bring the environment to what ``line`` and ``extras`` need and return a runner for it."""
    python, venv = doctor.choose_python(), ROOT / '.venv'
    own = Path(python).is_relative_to(venv)
    runner = Runner(python, (venv if own else ROOT / 'work_dirs') / 'bootstrap.log')
    ours = f'mmshuffle[{",".join((*extras, line))}]'
    wanted = (ours, torch) if torch else (ours,)
    with lock(runner.log.with_suffix('.lock')) or contextlib.nullcontext():
        making = own and not Path(python).exists()
        facts = {} if making else examine(runner, line, *wanted)
        if making or (own and not facts['packages']['pip']):  # an interruption left it without
            hint = 'on Debian: apt-get install python3-venv'
            command = (sys.executable, '-m', 'venv', str(venv))
            runner.step(f'[1/5] making {venv}', *command, hint=hint)
            facts = examine(runner, line, *wanted)
        check(facts, line, own)
        if missing := [tool for tool in BUILD_TOOLS[line] if tool in facts['unmet']]:
            runner.pip('[2/5] build tools', *missing)
        installed, broken = facts['packages']['torch'], facts['imports'].get('torch')
        if broken or torch in facts['unmet']:
            if installed and not own:
                raise Stop(f'this PyTorch, {installed}, is not touched: leave --torch out')
            anew = ('--force-reinstall',) if installed and broken else ()
            runner.pip('[3/5] PyTorch', *anew, torch or TORCH)
            facts = examine(runner, line, *wanted)
        if mmcv_fails(facts, line):
            install_mmcv(runner, facts, line)
        if ours in facts['unmet'] or not is_current(facts):
            target = f'{ROOT}{ours.removeprefix("mmshuffle")}'
            runner.pip('[5/5] mmshuffle, MMDetection and MMEngine', NO_ISOLATION, '-e', target)
            check(examine(runner, line), line, own)
    print(f'environment ready: {python} ({line}, torch {facts["packages"]["torch"]})', flush=True)
    return runner


def parse(argv: list[str]) -> tuple[argparse.Namespace, list[str]]:
    """Return the options and the arguments after ``--``."""
    split = argv.index('--') if '--' in argv else len(argv)
    parser = doctor.Parser(__doc__)
    parser.add_argument('command', choices=tuple(EXTRAS))
    text = 'see docs/install.md (default: %(default)s)'
    parser.add_argument('--line', choices=tuple(MMCV), default='openmmlab', help=text)
    text = f'PyTorch to install (default: what is there, else {TORCH})'
    parser.add_argument('--torch', metavar='torch==VERSION', help=text)
    args = parser.parse_args(argv[:split])
    if args.torch and not re.fullmatch(r'torch(==[\w.+]+)?', args.torch):
        parser.error(f'--torch {args.torch}: give torch or torch==VERSION')
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
        command = [runner.python, *PROGRAMS[args.command], *passed_on]
        os.chdir(ROOT)
        if os.name == 'nt':  # exec there returns to the shell before the program ends
            return subprocess.call(command, env=runner.env)
        os.execve(runner.python, command, runner.env)
    except (Stop, OSError, RuntimeError) as e:
        print(f'bootstrap: {e}', file=sys.stderr)
        return getattr(e, 'code', 2)
    except KeyboardInterrupt:
        print('\nbootstrap: interrupted; the same command goes on from here', file=sys.stderr)
        return 130


if __name__ == '__main__':
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # end the compilers then, too
    sys.exit(main())
