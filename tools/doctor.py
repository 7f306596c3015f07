#!/usr/bin/env python3
"""Say what is installed, what is broken and the one command that fixes each fault.

Examples:
    python3 tools/doctor.py
    python3 tools/doctor.py --json > environment.json

Exit code: 0 when nothing stands in the way, 1 when something does, 2 for bad arguments.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# Without its package, which imports PyTorch. An installed copy of this file lies in
# mmshuffle/.mim/tools.
PACKAGE = ROOT / 'mmshuffle' if (ROOT / 'mmshuffle').is_dir() else ROOT.parent
sys.path.insert(0, str(PACKAGE))
import environment
import errors

sys.path.pop(0)


def rows(facts: dict) -> dict[str, str]:
    """Return the facts for people: what, and its state."""
    states = {name: error or 'loads' for name, error in facts['imports'].items()}
    return {
        'Python': f'{facts["python"]["version"]}  {facts["python"]["executable"]}',
        'platform': f'{facts["platform"]}, {facts["cores"]} cores',
        'C++ compiler': facts['compiler'] or 'none found',
        'line': ' and '.join(environment.lines_present(facts)) or 'none',
        **{name: version for name, version in facts['packages'].items() if version},
        **{f'import {name}': state for name, state in states.items()},
        **facts['details'],
    }


def main(argv: list[str] | None = None) -> int:
    """Examine, print, and return the exit code."""
    parser = environment.Parser(__doc__)
    parser.add_argument('--json', action='store_true', help='print JSON and nothing else')
    parser.add_argument(
        '--python',
        metavar='PATH',
        help='interpreter to examine (default: the active environment, else .venv, else this one)',
    )
    args = parser.parse_args(argv)
    chosen = environment.choose_python(ROOT)
    python = args.python or (chosen if os.path.exists(chosen) else sys.executable)
    try:
        facts = environment.collect(python)
    except (OSError, RuntimeError) as e:
        parser.error(f'cannot examine {python}: {e}')
    findings = environment.diagnose(facts)
    if args.json:
        report = {'facts': facts, 'findings': [asdict(finding) for finding in findings]}
        print(json.dumps(report, indent=2))
    else:
        for title, value in rows(facts).items():
            print(f'{title:<24} {value}')
        for finding in findings:
            print(f'\nerror: {finding.message}\n  fix it with: {finding.fix}')
        print('\n' + (f'{len(findings)} to fix' if findings else 'nothing stands in the way'))
    return 1 if findings else 0


if __name__ == '__main__':
    with errors.patient_output():
        code = main()
    sys.exit(code)
