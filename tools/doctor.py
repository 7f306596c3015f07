#!/usr/bin/env python3
"""Say what is installed, what is broken and the one command that mends each fault.

Examples:
    python3 tools/doctor.py
    python3 tools/doctor.py --json > environment.json

Exit code: 0 when nothing stands in the way, 1 when something does, 2 for bad arguments.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import NoReturn

ROOT = Path(__file__).resolve().parent.parent
SHOWN = (
    ('MMDetection', ('mmdet', 'onedl-mmdetection')),
    ('MMEngine', ('mmengine', 'onedl-mmengine')),
    ('MMCV', ('mmcv', 'onedl-mmcv')),
    ('OpenCV', ('opencv-python', 'opencv-python-headless')),
    ('pycocotools', ('pycocotools',)),
    ('NumPy', ('numpy',)),
    ('setuptools', ('setuptools',)),
    ('pip', ('pip',)),
)


def load_environment():
    """Load ``environment.py`` by its path: the package imports PyTorch, which may be missing."""
    # In an installed copy this file lies in mmshuffle/.mim/tools.
    places = (ROOT / 'mmshuffle' / 'environment.py', ROOT.parent / 'environment.py')
    path = next(p for p in places if p.is_file())
    spec = importlib.util.spec_from_file_location('mmshuffle_environment', path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up there
    spec.loader.exec_module(module)
    return module


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        """Print the message and end with exit code 2."""
        self.exit(2, f'{self.prog}: {message} (see --help)\n')


def show(facts: dict, line: str) -> str:
    """Return the facts as a table for people."""
    packages, imports, python = facts['packages'], facts['imports'], facts['python']
    torch = imports['torch']
    rows = [
        ('Python', f'{python["version"]}  {python["executable"]}'),
        ('platform', facts['platform']),
        ('cores, memory', f'{facts["cores"]}, {facts["memory_gib"] or "unknown"} GiB'),
        ('C++ compiler', facts['compiler'] or 'none found'),
        ('PyTorch', torch.get('version') or packages['torch'] or 'not installed'),
    ]
    if torch['ok']:
        cuda = f'{torch["cuda"]}, cuDNN {torch["cudnn"]}' if torch['cuda'] else 'not in this build'
        rows += [('CUDA', cuda), ('GPUs', ', '.join(torch['gpus']) or 'none')]
    rows.append(('line', line))
    for title, names in SHOWN:
        found = [f'{name} {packages[name]}' for name in names if packages[name]]
        rows.append((title, ', '.join(found) or 'not installed'))
    states = {True: 'load', False: 'do not load'}
    rows.append(('mmcv operations', states[imports['mmcv_ext']['ok']]))
    rows.append(('pkg_resources', states[imports['pkg_resources']['ok']].replace('load', 'loads')))
    broken = 'works' if imports['torchvision']['ok'] else 'broken'
    rows.append(('torchvision', broken if packages['torchvision'] else 'absent (not needed)'))
    ours = imports['mmshuffle']
    count = f'{ours["version"]}, {len(ours["backbones"])} backbones' if ours['ok'] else 'no import'
    rows.append(('mmshuffle', count))
    return '\n'.join(f'{title:<16} {value}' for title, value in rows)


def main(argv: list[str] | None = None) -> int:
    """Examine, print, and return the exit code."""
    description, _, rest = __doc__.partition('\n\n')
    parser = Parser(
        description=description, epilog=rest, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument('--json', action='store_true', help='print JSON and nothing else')
    parser.add_argument(
        '--python',
        metavar='PATH',
        help='interpreter to examine (default: the active environment, else .venv, else this one)',
    )
    args = parser.parse_args(argv)
    environment = load_environment()
    python = args.python or environment.project_python(ROOT)
    try:
        facts = environment.collect(python)
    except (OSError, RuntimeError) as e:
        parser.error(f'cannot examine {python}: {e}')
    findings = environment.diagnose(facts)
    errors = sum(f.level == 'error' for f in findings)
    line = ' and '.join(environment.lines_present(facts)) or 'none'
    if args.json:
        findings_data = [asdict(f) for f in findings]
        print(json.dumps({'facts': facts, 'line': line, 'findings': findings_data}, indent=2))
        return 1 if errors else 0
    print(show(facts, line))
    for finding in findings:
        print(f'\n{finding.level}: {finding.message}')
        if finding.fix:
            print(f'  mend it with: {finding.fix}')
    print('\n' + (f'{errors} to mend' if errors else 'nothing stands in the way'))
    return 1 if errors else 0


if __name__ == '__main__':
    sys.exit(main())
