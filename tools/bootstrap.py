#!/usr/bin/env python3
"""Make the environment mmshuffle needs, then run the quickstart or the tests in it.

Examples:
    python3 tools/bootstrap.py quickstart
    python3 tools/bootstrap.py quickstart -- --help
    python3 tools/bootstrap.py test -- -k shuffle
    python3 tools/bootstrap.py env --line onedl

What is already there is not done again, so an interrupted run goes on where it stopped.
An active virtual environment that has PyTorch is used as it is; otherwise .venv is made.
"""

from __future__ import annotations

import sys

if sys.version_info < (3, 10):  # noqa: UP036  (an older Python must get this line, not a traceback)
    sys.exit(print('bootstrap: Python 3.10 or newer is needed', file=sys.stderr) or 2)

import argparse
import importlib.util
import os
import re
import signal
import subprocess
import sysconfig
import time
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

ROOT = Path(__file__).resolve().parent.parent
PROBES = ('torch', 'mmcv_ext', 'torchvision')
TORCH = 'torch==2.13.0'
# The versions of setup.py's extras (a test compares them), mmdet, mmengine, mmcv in turn.
PINS = {
    'openmmlab': ('mmdet==3.3.0', 'mmengine==0.10.7', 'mmcv==2.1.0'),
    'onedl': ('onedl-mmdetection>=3.5.1', 'onedl-mmengine>=0.10.12', 'onedl-mmcv>=2.3.6'),
}
TOOLS = {
    'openmmlab': ('setuptools>=77.0.3,<82', 'wheel', 'ninja'),
    'onedl': ('setuptools>=77.0.3', 'wheel', 'ninja'),
}
DEV = ('pytest', 'pytest-xdist', 'ruff', 'hypothesis')
# A process a core, each with the tests of whole files, which share what they have trained.
TESTS = ['-m', 'pytest', '--numprocesses=auto', '--maxprocesses=8', '--dist=loadfile']
NO_ISOLATION = '--no-build-isolation'  # mmcv's build must see the PyTorch it is built for
HEARTBEAT = 30  # seconds between lines where the output is not a terminal


class Stop(Exception):
    """The end, with one line to say why and an exit code."""

    def __init__(self, message: str, code: int = 2) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True)
class Step:
    """One pip run: what it is called, whether its result is there, pip's arguments."""

    key: str
    title: str
    done: bool
    pip: tuple[str, ...]


def load_environment():
    """Load mmshuffle/environment.py by its path: the package cannot be imported yet."""
    path = ROOT / 'mmshuffle' / 'environment.py'
    spec = importlib.util.spec_from_file_location('mmshuffle_environment', path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up there
    spec.loader.exec_module(module)
    return module


environment = load_environment()


def satisfied(requirement: str, packages: dict) -> bool:
    """Tell whether ``packages`` has what ``requirement`` asks for (``==``, ``>=`` and ``<``)."""
    name, bounds = re.fullmatch(r'([\w.-]+)(.*)', requirement).groups()
    installed = packages.get(name)
    if not installed:
        return False
    for operator, wanted in re.findall(r'(==|>=|<)([^,]+)', bounds):
        have, want = environment.release(installed), environment.release(wanted)
        if operator == '==' and installed != wanted and installed.partition('+')[0] != wanted:
            return False
        if (operator == '>=' and have < want) or (operator == '<' and have >= want):
            return False
    return True


def check_lines(facts: dict, line: str) -> None:
    """Refuse to put one line beside the other: they overwrite each other's files."""
    others = [name for name in environment.lines_present(facts) if name != line]
    if others:
        names = ' '.join(n for n in environment.LINES[others[0]] if facts['packages'][n])
        raise Stop(
            f'this environment holds the {others[0]} line, which shares its import names with '
            f'{line}: pass --line {others[0]}, or remove it with: pip uninstall {names}'
        )


def plan(facts: dict, line: str, torch: str | None, current: bool) -> list[Step]:
    """Return the pip steps in order, each marked with whether its result is there.

    Args:
        facts: what :func:`mmshuffle.environment.collect` found.
        line: ``openmmlab`` or ``onedl``.
        torch: the PyTorch asked for, or None to take one that is there, else the default.
        current: mmshuffle's own installation is newer than the files that describe it.
    """
    packages, imports = facts['packages'], facts['imports']
    mmdet, mmengine, mmcv = PINS[line]
    has_torch = imports['torch']['ok'] and (torch is None or satisfied(torch, packages))
    has_mmcv = satisfied(mmcv, packages)
    # A package without working operations was interrupted, or built for another PyTorch.
    rebuild = ('--force-reinstall', '--no-deps') if has_mmcv else ()
    minutes = max(1, round(20 / environment.cores()))
    building = (
        f'building {mmcv.replace("==", " ").replace(">=", " ")} (about {minutes} minutes on '
        f'{environment.cores()} cores; pip keeps the wheel)'
    )
    ours = current and facts['editable'] == ROOT.as_uri()
    ours = ours and all(satisfied(name, packages) for name in ('mmshuffle', *DEV))
    tools = TOOLS[line]
    return [
        Step('tools', 'build tools', all(satisfied(t, packages) for t in tools), tools),
        Step('torch', 'PyTorch', has_torch, (torch or TORCH,)),
        Step(
            'mmcv',
            building,
            has_torch and has_mmcv and imports['mmcv_ext']['ok'],
            (NO_ISOLATION, *rebuild, mmcv),
        ),
        Step(
            'mmdet',
            'MMDetection and MMEngine',
            satisfied(mmdet, packages) and satisfied(mmengine, packages),
            (NO_ISOLATION, mmdet, mmengine),
        ),
        Step('mmshuffle', 'mmshuffle', ours, (NO_ISOLATION, '-e', f'{ROOT}[dev,{line}]')),
    ]


def installation_is_current(facts: dict) -> bool:
    """Tell whether no packaging file changed since ``pip install -e`` ran."""
    changed = max((ROOT / name).stat().st_mtime for name in ('setup.py', 'pyproject.toml'))
    bundled = (ROOT / 'mmshuffle' / '.mim' / 'configs').exists()
    return bundled and (facts['installed_at'] or 0) >= changed


def check_build(facts: dict) -> None:
    """Refuse before the first download where mmcv's build could only fail at its end."""
    if not facts['compiler']:
        raise Stop('no C++ compiler found: install g++ (apt-get install g++) or set CXX')
    header = Path(sysconfig.get_path('include')) / 'Python.h'
    if os.name == 'posix' and not header.is_file():
        raise Stop(f'{header} is missing: install the headers (apt-get install python3-dev)')


class Runner:
    """Runs commands with their output in a log, a heartbeat on the screen, and a clean end."""

    def __init__(self, python: str, log: Path) -> None:
        self.python, self.log = python, log
        # PyTorch's builder looks for `ninja` on PATH; without it one core compiles for an hour.
        path = os.pathsep.join((str(Path(python).parent), os.environ.get('PATH', '')))
        self.env = {'MAX_JOBS': str(environment.cores()), 'MMCV_WITH_OPS': '1', **os.environ}
        self.env['PATH'] = path

    def run(self, *command: str) -> int:
        """Run a command to its end; Ctrl-C ends it and all it started."""
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open('a', encoding='utf-8') as log:
            log.write(f'\n$ {" ".join(command)}\n')
            log.flush()
            process = subprocess.Popen(
                command, stdout=log, stderr=log, env=self.env, cwd=ROOT, start_new_session=True
            )
            try:
                return self._wait(process)
            except BaseException:
                end_group(process)
                raise

    def pip(self, *arguments: str) -> int:
        """Run pip in the target environment."""
        quiet = ('--disable-pip-version-check', '--no-input')
        return self.run(self.python, '-m', 'pip', *quiet, *arguments)

    def tail(self, lines: int = 20) -> str:
        """Return the last lines of the log."""
        text = self.log.read_text(encoding='utf-8', errors='replace')
        return '\n'.join(text.splitlines()[-lines:])

    @staticmethod
    def _wait(process: subprocess.Popen) -> int:
        start, terminal = time.monotonic(), sys.stdout.isatty()
        while True:
            try:
                code = process.wait(timeout=1 if terminal else HEARTBEAT)
            except subprocess.TimeoutExpired:
                minutes, seconds = divmod(round(time.monotonic() - start), 60)
                text = f'      {minutes}:{seconds:02d} elapsed'
                print(text, end='\r' if terminal else '\n', flush=True)
            else:
                if terminal:
                    print(' ' * 24, end='\r', flush=True)
                return code


def end_group(process: subprocess.Popen) -> None:
    """End a process and, where the system has process groups, the compilers it started."""
    if process.poll() is None:
        if hasattr(os, 'killpg'):
            os.killpg(process.pid, signal.SIGTERM)
        else:
            process.terminate()
        process.wait()


def install_step(runner: Runner, step: Step, line: str) -> None:
    """Run one step; a cached mmcv wheel that turns out to be another PyTorch's is rebuilt."""
    code = runner.pip('install', *step.pip)
    if code == 0 and step.key == 'mmcv':
        facts = environment.probe(runner.python, ('mmcv_ext',))
        if not facts['imports']['mmcv_ext']['ok']:
            print(
                '      the wheel in the cache was built for another PyTorch: building anew',
                flush=True,
            )
            mmcv = PINS[line][2]
            runner.pip('cache', 'remove', re.split('[=>]', mmcv)[0].replace('-', '_'))
            rebuild = (NO_ISOLATION, '--force-reinstall', '--no-deps')
            code = runner.pip('install', *rebuild, mmcv)
    if code:
        print(runner.tail(), file=sys.stderr)
        hint = f'whole log: {runner.log}; after mending the cause run the same command again'
        raise Stop(f'pip failed at "{step.title}" ({hint})', 1)


def check_torchvision(facts: dict, python: str) -> None:
    """Stop where torchvision would: MMEngine's report at the start of training imports it."""
    imports = facts['imports']
    broken = imports['torch']['ok'] and not imports['torchvision']['ok']
    if facts['packages']['torchvision'] and broken:
        raise Stop(
            'torchvision is installed but broken, and training would stop at it; nothing here '
            f'needs it, remove it with: {python} -m pip uninstall -y torchvision',
            1,
        )


def choose_python() -> tuple[str, bool]:
    """Return the target interpreter and whether it has to be made."""
    python = environment.project_python(ROOT)
    if python != sys.executable:
        return python, False
    if importlib.util.find_spec('torch'):
        managed = Path(sysconfig.get_path('stdlib'), 'EXTERNALLY-MANAGED').exists()
        if sys.prefix != sys.base_prefix or not managed:
            return python, False
    return str(environment.venv_python(ROOT)), sys.prefix != str(ROOT / '.venv')


def make_venv(runner: Runner) -> None:
    """Make the project's own environment, or complete one that an interruption left without pip."""
    folder = ROOT / '.venv'
    check_build(environment.collect(sys.executable, ()))
    print(f'[1/6] making {folder}', flush=True)
    if runner.run(sys.executable, '-m', 'venv', str(folder)):
        print(runner.tail(), file=sys.stderr)
        raise Stop(f'{folder} could not be made (on Debian: apt-get install python3-venv)', 1)


def prepare(line: str, torch: str | None) -> Runner:
    """Bring the environment to what ``line`` needs and return a runner for it."""
    python, make = choose_python()
    own = Path(python).parent.parent == ROOT / '.venv'
    runner = Runner(python, ROOT / ('.venv' if own else 'work_dirs') / 'bootstrap.log')
    if make:
        make_venv(runner)
    facts = environment.collect(python, PROBES)
    if own and not facts['packages']['pip']:
        make_venv(runner)
    check_lines(facts, line)
    check_torchvision(facts, python)
    steps = plan(facts, line, torch, installation_is_current(facts))
    waiting = [step.key for step in steps if not step.done]
    if 'torch' in waiting and not own and facts['packages']['torch']:
        version = facts['packages']['torch']
        raise Stop(f'PyTorch {version} of this environment is not touched; mend it or leave it')
    if 'mmcv' in waiting:
        check_build(facts)
    for number, step in enumerate(steps, 2):
        if not step.done:
            print(f'[{number}/6] {step.title}', flush=True)
            install_step(runner, step, line)
    if waiting:
        facts = environment.collect(python, PROBES)
        check_torchvision(facts, python)
    version = facts['packages']['torch']
    print(f'environment ready: {python} ({line}, torch {version})', flush=True)
    return runner


def go(runner: Runner, arguments: list[str]) -> int:
    """Become the given Python program, in the environment."""
    command = [runner.python, *arguments]
    os.chdir(ROOT)
    if os.name == 'nt':  # exec there returns to the shell before the program ends
        return subprocess.call(command, env=runner.env)
    os.execve(runner.python, command, runner.env)


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        """Print the message and end with exit code 2."""
        self.exit(2, f'bootstrap: {message} (see --help; `--` goes before passed-on arguments)\n')


def torch_requirement(text: str) -> str:
    """Check the form of ``--torch``."""
    if not re.fullmatch(r'torch(==[\w.+]+)?', text):
        raise argparse.ArgumentTypeError(f'expected torch or torch==VERSION, not {text!r}')
    return text


def parse(argv: list[str]) -> tuple[argparse.Namespace, list[str]]:
    """Return the options and the arguments after ``--``."""
    split = argv.index('--') if '--' in argv else len(argv)
    description, _, rest = __doc__.partition('\n\n')
    parser = Parser(
        description=description, epilog=rest, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument('command', choices=('quickstart', 'test', 'env'))
    parser.add_argument(
        '--line', choices=tuple(PINS), default='openmmlab', help='see docs/install.md'
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
        runner = prepare(args.line, args.torch)
        if args.command == 'env':
            return 0
        program = {'quickstart': [str(ROOT / 'tools/quickstart.py')], 'test': TESTS}
        return go(runner, [*program[args.command], *passed_on])
    except Stop as e:
        print(f'bootstrap: {e}', file=sys.stderr)
        return e.code
    except KeyboardInterrupt:
        print('\nbootstrap: interrupted; the same command goes on from here', file=sys.stderr)
        return 130


if __name__ == '__main__':
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # end the compilers then, too
    sys.exit(main())
