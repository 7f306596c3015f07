"""The bootstrap: which steps it plans for a given state, what it refuses, how it ends."""

from __future__ import annotations

import importlib.util
import os
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SCRIPT = ROOT / 'tools' / 'bootstrap.py'


def load(name, path):
    """Import a file that is not part of a package."""
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


bootstrap = load('bootstrap', SCRIPT)
environment = bootstrap.environment


def state(**packages):
    """Facts of an environment with these packages, underscores for hyphens, imports working."""
    packages = {name.replace('_', '-'): version for name, version in packages.items()}
    names = [name for line in environment.LINES.values() for name in line]
    known = dict.fromkeys([*names, *environment.OTHER_PACKAGES])
    mmcv = packages.get('mmcv') or packages.get('onedl-mmcv')
    return {
        'compiler': '/usr/bin/c++',
        'packages': {**known, **packages},
        'imports': {
            'torch': {'ok': 'torch' in packages},
            'mmcv_ext': {'ok': bool(mmcv) and 'torch' in packages},
            'torchvision': {'ok': 'torchvision' in packages},
        },
        'python': {'version': '3.11.7', 'executable': '/env/bin/python', 'prefix': '/env'},
        'editable': ROOT.as_uri() if 'mmshuffle' in packages else None,
        'installed_at': None,
    }


TOOLS = {'setuptools': '81.0.0', 'wheel': '0.45', 'ninja': '1.13', 'pip': '26.0'}
MM = {'mmdet': '3.3.0', 'mmengine': '0.10.7', 'mmcv': '2.1.0'}
OURS = {
    'mmshuffle': '0.1.0',
    'pytest': '9.0',
    'pytest-xdist': '3.8',
    'ruff': '0.17',
    'hypothesis': '6.1',
}
COMPLETE = {**TOOLS, 'torch': '2.13.0+cpu', **MM, **OURS}


def missing(facts, line='openmmlab', torch=None, current=True):
    """Return the keys of the steps that would run."""
    return [step.key for step in bootstrap.plan(facts, line, torch, current) if not step.done]


def step(facts, key, line='openmmlab', torch=None):
    """Return one planned step."""
    return next(s for s in bootstrap.plan(facts, line, torch, True) if s.key == key)


def test_a_fresh_environment_needs_every_step_in_order():
    assert missing(state(pip='26.0')) == ['tools', 'torch', 'mmcv', 'mmdet', 'mmshuffle']


def test_a_complete_environment_needs_nothing():
    assert missing(state(**COMPLETE)) == []


def test_an_interrupted_run_goes_on_with_the_first_missing_step():
    facts = state(**TOOLS, torch='2.13.0+cpu', mmcv='2.1.0', mmengine='0.10.7')
    assert missing(facts) == ['mmdet', 'mmshuffle']


def test_changed_packaging_files_or_another_checkout_reinstall_only_mmshuffle():
    facts = state(**COMPLETE)
    assert missing(facts, current=False) == ['mmshuffle']
    facts['editable'] = 'file:///elsewhere'
    assert missing(facts) == ['mmshuffle']


def test_the_pytorch_that_is_there_is_kept_unless_another_is_asked_for():
    facts = state(**{**COMPLETE, 'torch': '2.9.1+cu128'})
    assert missing(facts) == []
    assert missing(facts, torch='torch') == []
    assert missing(facts, torch='torch==2.9.1') == []
    assert missing(facts, torch='torch==2.9.1+cpu') == ['torch', 'mmcv']
    assert step(facts, 'torch', torch='torch==2.13.0').pip == ('torch==2.13.0',)


def test_half_installed_mmcv_is_rebuilt_without_touching_its_dependencies():
    facts = state(**COMPLETE)
    assert '--force-reinstall' not in step(state(pip='26.0'), 'mmcv').pip
    facts['imports']['mmcv_ext']['ok'] = False
    assert missing(facts) == ['mmcv']
    expected = ('--no-build-isolation', '--force-reinstall', '--no-deps', 'mmcv==2.1.0')
    assert step(facts, 'mmcv').pip == expected


def test_setuptools_is_bounded_on_the_openmmlab_line_only():
    assert missing(state(**{**COMPLETE, 'setuptools': '82.0.0'})) == ['tools']
    onedl = {'onedl_mmdetection': '3.5.1', 'onedl_mmengine': '0.10.12', 'onedl_mmcv': '2.3.7'}
    facts = state(**TOOLS, **OURS, **onedl, torch='2.13.0')
    facts['packages']['setuptools'] = '84.0.0'
    assert missing(facts, line='onedl') == []


@pytest.mark.parametrize(
    ('line', 'installed'),
    [('onedl', {'mmengine': '0.10.7'}), ('openmmlab', {'onedl_mmcv': '2.3.6'})],
)
def test_the_lines_are_not_mixed(line, installed):
    other = 'openmmlab' if line == 'onedl' else 'onedl'
    with pytest.raises(bootstrap.Stop, match=f'pass --line {other}') as stop:
        bootstrap.check_lines(state(**installed), line)
    assert stop.value.code == 2
    assert '\n' not in str(stop.value)
    bootstrap.check_lines(state(**installed), other)


def test_a_broken_torchvision_is_named_with_its_cure():
    facts = state(**COMPLETE, torchvision='0.20.0')
    bootstrap.check_torchvision(facts, 'python')
    facts['imports']['torchvision']['ok'] = False
    with pytest.raises(bootstrap.Stop, match='python -m pip uninstall -y torchvision'):
        bootstrap.check_torchvision(facts, 'python')


def test_no_compiler_is_refused_before_anything_is_downloaded():
    with pytest.raises(bootstrap.Stop, match='compiler found') as stop:
        bootstrap.check_build({**state(), 'compiler': None})
    assert stop.value.code == 2


@pytest.mark.parametrize(
    ('requirement', 'installed', 'expected'),
    [
        ('mmcv==2.1.0', '2.1.0', True),
        ('mmcv==2.1.0', '2.1.1', False),
        ('torch==2.13.0', '2.13.0+cpu', True),
        ('torch==2.13.0+cu130', '2.13.0+cpu', False),
        ('setuptools>=77.0.3,<82', '77.0.2', False),
        ('setuptools>=77.0.3,<82', '82.0.0', False),
        ('setuptools>=77.0.3,<82', '81.0.0', True),
        ('onedl-mmcv>=2.3.6', '2.3.10', True),
        ('pytest', None, False),
    ],
)
def test_requirements(requirement, installed, expected):
    name = requirement.partition('=')[0].rstrip('>')
    assert bootstrap.satisfied(requirement, {name: installed}) is expected


def test_pins_are_those_of_setup_py_and_of_the_doctor():
    setup = load('mmshuffle_setup', ROOT / 'setup.py')
    for line, pins in bootstrap.PINS.items():
        assert [r for r in setup.EXTRAS_REQUIRE[line] if 'setuptools' not in r] == list(pins)
        names = tuple(pin.replace('>', '=').partition('=')[0] for pin in pins)
        assert names == environment.LINES[line]
    assert list(bootstrap.DEV) == setup.EXTRAS_REQUIRE['dev']
    assert bootstrap.TOOLS['openmmlab'][0] == environment.BUILD_TOOLS
    assert setup.read_version()


@pytest.mark.parametrize(
    'arguments',
    [
        [],
        ['nonsense'],
        ['env', '--line', 'mmlab'],
        ['env', '--torch', 'torch>=2'],
        ['env', '--', 'x'],
        ['test', '-k', 'foo'],
    ],
)
def test_bad_arguments_end_with_one_line_and_code_2(arguments, capsys):
    with pytest.raises(SystemExit) as stop:
        bootstrap.parse(arguments)
    text = capsys.readouterr()
    assert (stop.value.code, text.out) == (2, '')
    assert text.err.startswith('bootstrap: ') and text.err.count('\n') == 1


def test_arguments_after_the_dashes_are_passed_on():
    args, passed_on = bootstrap.parse(['test', '--line', 'onedl', '--', '-k', 'x', '--', 'y'])
    assert (args.command, args.line, passed_on) == ('test', 'onedl', ['-k', 'x', '--', 'y'])


@pytest.mark.parametrize(
    ('active', 'managed', 'has_torch', 'used'),
    [
        (True, False, True, 'here'),
        (True, False, False, 'venv'),
        (False, False, True, 'here'),
        (False, True, True, 'venv'),
        (False, False, False, 'venv'),
    ],
)
def test_an_interpreter_with_pytorch_is_used_unless_the_system_owns_it(
    active, managed, has_torch, used, tmp_path, monkeypatch
):
    monkeypatch.setattr(bootstrap, 'ROOT', tmp_path)
    monkeypatch.setattr(sys, 'prefix', '/env' if active else sys.base_prefix)
    monkeypatch.setattr(bootstrap.importlib.util, 'find_spec', lambda name: has_torch or None)
    if managed:
        (tmp_path / 'EXTERNALLY-MANAGED').touch()
    monkeypatch.setattr(bootstrap.sysconfig, 'get_path', lambda name: str(tmp_path))
    python, make = bootstrap.choose_python()
    if used == 'here':
        assert (python, make) == (sys.executable, False)
    else:
        assert Path(python).is_relative_to(tmp_path / '.venv') and make


def test_refusal_of_the_command_line_is_one_line(monkeypatch, capsys):
    facts = state(**COMPLETE)
    monkeypatch.setattr(bootstrap, 'choose_python', lambda: ('/env/bin/python', False))
    monkeypatch.setattr(environment, 'collect', lambda *args: facts)
    assert bootstrap.main(['env', '--line', 'onedl']) == 2
    text = capsys.readouterr()
    assert text.out == '' and text.err.count('\n') == 1


def test_a_pytorch_of_somebody_elses_environment_is_not_replaced(monkeypatch, capsys):
    facts = state(**COMPLETE)
    monkeypatch.setattr(bootstrap, 'choose_python', lambda: ('/env/bin/python', False))
    monkeypatch.setattr(environment, 'collect', lambda *args: facts)
    monkeypatch.setattr(bootstrap.Runner, 'run', lambda *args: pytest.fail('something was run'))
    assert bootstrap.main(['env', '--torch', 'torch==2.4.0']) == 2
    assert 'PyTorch 2.13.0+cpu of this environment is not touched' in capsys.readouterr().err


def test_a_failing_step_shows_the_end_of_the_log_and_says_where_it_is(tmp_path, capsys):
    runner = bootstrap.Runner(sys.executable, tmp_path / 'bootstrap.log')
    code = 'print(*range(100), sep="\\n"); raise SystemExit(3)'
    runner.pip = lambda *arguments: runner.run(sys.executable, '-c', code)
    failing = bootstrap.Step('torch', 'PyTorch', False, ('torch',))
    with pytest.raises(bootstrap.Stop, match=r'pip failed at "PyTorch".*bootstrap\.log') as stop:
        bootstrap.install_step(runner, failing, 'openmmlab')
    assert stop.value.code == 1
    assert capsys.readouterr().err.splitlines() == [str(i) for i in range(80, 100)]


def test_a_stale_wheel_from_the_cache_is_dropped_and_built_anew(tmp_path, monkeypatch):
    runner = bootstrap.Runner(sys.executable, tmp_path / 'bootstrap.log')
    calls = []
    runner.pip = lambda *arguments: calls.append(arguments) or 0
    broken = {'imports': {'mmcv_ext': {'ok': False}}}
    monkeypatch.setattr(environment, 'probe', lambda *args: broken)
    bootstrap.install_step(runner, step(state(), 'mmcv', 'onedl'), 'onedl')
    assert calls[1] == ('cache', 'remove', 'onedl_mmcv')
    assert calls[2][-2:] == ('--no-deps', 'onedl-mmcv>=2.3.6')


def test_build_environment_finds_ninja_and_respects_the_user(tmp_path, monkeypatch):
    monkeypatch.delenv('MAX_JOBS', raising=False)
    runner = bootstrap.Runner('/env/bin/python', tmp_path / 'log')
    assert runner.env['PATH'].split(os.pathsep)[0] == '/env/bin'
    assert runner.env['MAX_JOBS'] == str(environment.cores())
    monkeypatch.setenv('MAX_JOBS', '1')
    assert bootstrap.Runner('/env/bin/python', tmp_path / 'log').env['MAX_JOBS'] == '1'


@pytest.mark.skipif(not hasattr(os, 'mkfifo'), reason='needs process groups and named pipes')
def test_an_interrupt_ends_the_compilers_too(tmp_path, monkeypatch):
    # The grandchild holds the pipe open for writing: reading it ends when the grandchild does.
    os.mkfifo(tmp_path / 'pipe')
    reader = os.open(tmp_path / 'pipe', os.O_RDONLY | os.O_NONBLOCK)
    child = f'import time; f = open({str(tmp_path / "pipe")!r}, "w"); print(1, file=f, flush=True)'
    child += '; time.sleep(60)'
    parent = f'import subprocess, sys; subprocess.call([sys.executable, "-c", {child!r}])'

    def interrupt(process):
        read_until(reader, b'1\n')
        raise KeyboardInterrupt

    runner = bootstrap.Runner(sys.executable, tmp_path / 'log')
    monkeypatch.setattr(runner, '_wait', interrupt)
    with pytest.raises(KeyboardInterrupt):
        runner.run(sys.executable, '-c', parent)
    read_until(reader, b'')
    os.close(reader)


def read_until(reader, wanted):
    """Poll a non-blocking pipe; ``b''`` is its end."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            if os.read(reader, 64) == wanted:
                return
        except BlockingIOError:  # open, nothing written yet
            pass
        time.sleep(0.02)
    pytest.fail(f'{wanted!r} did not come')


def test_interrupt_of_the_whole_is_one_line_and_130(monkeypatch, capsys):
    def interrupt(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(bootstrap, 'prepare', interrupt)
    assert bootstrap.main(['env']) == 130
    assert capsys.readouterr().err.strip().count('\n') == 0


def test_bundle_links_in_a_source_tree_and_copies_into_a_wheel(tmp_path, monkeypatch):
    setup = load('mmshuffle_setup', ROOT / 'setup.py')
    monkeypatch.setattr(setup, 'ROOT', tmp_path)
    (tmp_path / 'configs' / '__pycache__').mkdir(parents=True)
    (tmp_path / 'configs' / 'a.py').write_text('x = 1')
    (tmp_path / 'model-index.yml').write_text('Import: []')
    mim = tmp_path / 'mmshuffle' / '.mim'
    for link in (True, False, True):  # each replaces what the one before left
        setup.bundle(mim, link=link)
        assert (mim / 'configs').is_symlink() == link
        assert (mim / 'configs' / 'a.py').read_text() == 'x = 1'
        assert (mim / 'model-index.yml').is_symlink() == link
        assert not (mim / 'tools').exists()
    assert not Path(os.readlink(mim / 'configs')).is_absolute()
    setup.bundle(mim, link=False)
    assert not (mim / 'configs' / '__pycache__').exists()
