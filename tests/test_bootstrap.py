"""The doctor and the bootstrap: what they conclude of an environment, do, refuse, and how they end.

Environments are made up; that examining one survives broken imports is tried on real processes.
"""

from __future__ import annotations

import copy
import json
import os
import select
import shlex
import subprocess
import sys
from importlib import import_module, metadata
from pathlib import Path

import pytest

from tests.conftest import REPO, load_file

sys.path.append(str(REPO / 'tools'))
bootstrap, doctor = map(import_module, ('bootstrap', 'doctor'))


def versions(text):
    return dict(word.split('==') for word in text.split())


PACKAGES = versions(
    'torch==2.13.0+cpu mmdet==3.3.0 mmengine==0.10.7 mmcv==2.1.0 setuptools==81.0.0 '
    'pycocotools==2.0.11 pip==26.0 mmshuffle==0.1.0'
)
ONEDL = {
    **dict.fromkeys(('mmdet', 'mmengine', 'mmcv')),
    **versions('onedl-mmdetection==3.5.1 onedl-mmengine==0.10.12 onedl-mmcv==2.3.6'),
    'setuptools': '84.0.0',
}
OURS = 'mmshuffle[dev,deploy,report,openmmlab]'


def script(path, text, mode=0o755):
    path.parent.mkdir(exist_ok=True)
    path.write_text(f'#!/bin/sh\n{text}\n')
    path.chmod(mode)
    return path


@pytest.fixture
def facts():
    """Facts of an environment in which everything works."""
    no_torchvision = dict(torchvision="ModuleNotFoundError: No module named 'torchvision'")
    return {
        **dict(platform='Linux', cores=2, compiler='/usr/bin/c++', header=None, unmet=[]),
        **dict(editable=REPO.as_uri(), installed_at=float('inf'), details={'GCC': 'gcc 12'}),
        'python': {'version': '3.11.7', 'executable': '/env/bin/python'},
        'packages': {**dict.fromkeys(doctor.PACKAGES), **PACKAGES},
        'imports': {**dict.fromkeys(doctor.IMPORTS), **no_torchvision},
    }


def change(facts, packages=(), imports=(), unmet=(), **others):
    """Change the made-up facts in place."""
    facts['packages'].update(packages)
    facts['imports'].update(imports)
    facts['unmet'] = list(unmet)
    facts.update(others)


NO_OPS = {'mmcv_ext': "ModuleNotFoundError: No module named 'mmcv._ext'"}
OTHER_TORCH = {'mmcv_ext': 'ImportError: undefined symbol: _ZN3c10'}
NO_TORCH = {'torch': 'OSError: libtorch.so', 'mmcv_ext': 'x', 'mmdet': 'x'}
NO_SETUPTOOLS = dict(packages={'setuptools': '82.0.0'}, imports={'pkg_resources': 'no'})
NO_TORCHVISION = dict(packages={'torchvision': '0.2'}, imports={'torchvision': 'RuntimeError: nms'})
NEW_TORCH, NEW_TORCH_ONEDL = {'torch': '2.14.1'}, {**ONEDL, 'torch': '2.15.0+cu130'}
REBUILD = (
    'MMCV_WITH_OPS=1 /env/bin/python -m pip install --no-build-isolation --no-cache-dir '
    '--force-reinstall --no-deps mmcv==2.1.0'
)


@pytest.mark.parametrize(
    ('changes', 'code', 'in_fix'),
    [
        (dict(imports=NO_TORCH), 'torch-broken', 'install --force-reinstall torch==2.13.0+cpu'),
        (dict(packages={'torch': '2.3.1'}), 'torch-version', 'install "torch>=2.4" && python3 '),
        (dict(imports=NO_OPS), 'mmcv-ops', REBUILD),
        (dict(imports=OTHER_TORCH), 'mmcv-ops', REBUILD),
        (dict(imports=NO_OPS, compiler=None), 'mmcv-ops', 'apt-get install -y g++ && MMCV'),
        (dict(packages=NEW_TORCH, imports=NO_OPS), 'mmcv-ops', 'env --line openmmlab'),
        (dict(packages=NEW_TORCH_ONEDL, imports=OTHER_TORCH), 'mmcv-ops', 'env --line onedl'),
        (NO_SETUPTOOLS, 'setuptools', '/env/bin/python -m pip install "setuptools>=77.0.3,<82"'),
        (dict(packages={'onedl-mmcv': '1'}), 'both-lines', 'mmdet mmengine mmcv onedl-mmcv && '),
        (dict(packages={'mmengine': None}), 'incomplete-line', 'env --line openmmlab'),
        (NO_TORCHVISION, 'torchvision', 'uninstall -y torchvision'),
        (dict(packages={'mmcv': '2.2.0'}), 'mmcv-version', '--no-build-isolation mmcv==2.1.0'),
        (dict(packages={'mmengine': '0.6.0'}), 'mmengine-version', 'install mmengine==0.10.7'),
        (dict(packages={'mmdet': '2.28.2'}), 'mmdet-version', 'install mmdet==3.3.0'),
        (dict(imports={'cv2': 'ImportError: libGL.so.1'}), 'cv2', 'opencv-python-headless'),
        (dict(imports={'pycocotools': 'x'}), 'pycocotools', 'install pycocotools'),
        (dict(python={'version': '3.8.10', 'executable': 'python'}), 'python', 'python3.10'),
        (dict(imports={'mmdet': 'x', 'mmshuffle': 'x'}), 'mmdet', 'bootstrap.py'),
        (dict(imports={'mmshuffle': 'x'}), 'mmshuffle', 'bootstrap.py'),
    ],
)
def test_each_fault_is_found_alone_with_its_fix(facts, changes, code, in_fix):
    change(facts, **changes)
    untouched = copy.deepcopy(facts)
    (finding,) = doctor.diagnose(facts)
    assert finding.code == code and in_fix in finding.fix
    assert '\n' not in finding.message + finding.fix
    assert facts == untouched


def test_working_environments_have_no_faults_and_empty_ones_need_the_bootstrap(facts):
    assert doctor.diagnose(facts) == []
    onedl = {**ONEDL, 'torch': '2.10.0+cu130'}  # newer than 2.4
    change(facts, packages=onedl, imports={'pkg_resources': 'no'}, compiler=None)
    assert doctor.diagnose(facts) == []
    nothing = dict.fromkeys(doctor.PACKAGES)
    change(facts, packages=nothing, imports=dict.fromkeys(doctor.IMPORTS, 'no'))
    found = {finding.code: finding.fix for finding in doctor.diagnose(facts)}
    assert found == dict.fromkeys(('no-torch', 'no-mmdet'), doctor.BOOTSTRAP)


def test_a_crashing_import_costs_no_answer(tmp_path, monkeypatch):
    (tmp_path / 'cv2.py').write_text('raise ValueError("first line\\nsecond")\n')
    (tmp_path / 'pycocotools.py').write_text('')
    (tmp_path / 'torchvision.py').write_text('import os\nos._exit(7)\n')
    monkeypatch.setenv('PYTHONPATH', str(tmp_path))
    # What only lies in the working directory does not count.
    (tmp_path / 'here').mkdir()
    (tmp_path / 'here' / 'lying_about.py').write_text('')
    monkeypatch.chdir(tmp_path / 'here')
    names = ('lying_about', 'cv2', 'pycocotools', 'torchvision', 'mmdet')
    facts = doctor.collect(sys.executable, names)
    assert facts['imports'] == {
        'lying_about': "ModuleNotFoundError: No module named 'lying_about'",
        'cv2': 'ValueError: first line',
        'pycocotools': None,
        'torchvision': 'the process died with code 7',
    }
    assert facts['packages']['torch'] == metadata.version('torch')


def install(folder, name, version, more=''):
    """Leave the metadata of a package in a folder; returns where they are."""
    place = folder / f'{name}-{version}.dist-info'
    place.mkdir()
    place.joinpath('METADATA').write_text(
        f'Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{more}'
    )
    return place


def test_requirements_are_compared_by_pips_rules(tmp_path, monkeypatch):
    for package in ('torch 2.13.0+cpu', 'setuptools 81.0.0', 'onedl_mmcv 2.3.10'):
        install(tmp_path, *package.split())
    needs = 'torch>=2', 'absent; extra == "dev"', 'setuptools<82; extra == "openmmlab"'
    install(tmp_path, 'mmshuffle', '0.1.0', ''.join(f'Requires-Dist: {n}\n' for n in needs))
    monkeypatch.setenv('PYTHONPATH', str(tmp_path))
    met = (
        *('torch==2.13.0', 'torch==2.13.0+cpu', 'setuptools>=77.0.3,<82', 'onedl-mmcv>=2.3.6'),
        *('mmshuffle', 'mmshuffle[openmmlab]'),
    )
    unmet = ('torch==2.13.0+cu130', 'setuptools>=77,<81', 'absent', 'mmshuffle[dev,openmmlab]')
    assert doctor.collect(sys.executable, (), met + unmet)['unmet'] == list(unmet)


def test_json_is_the_only_output_and_the_exit_code_follows_it():
    command = [sys.executable, doctor.__file__, '--json', '--python', sys.executable]
    done = subprocess.run(command, capture_output=True, text=True)
    report = json.loads(done.stdout)
    assert done.stderr == ''
    assert set(report['facts']['imports']) == set(doctor.IMPORTS)
    assert report['facts']['imports']['torch'] is None
    # Where PyTorch's own word on its version has the build, pip's may not have it.
    assert report['facts']['details']['PyTorch'].startswith(report['facts']['packages']['torch'])
    assert done.returncode == (1 if report['findings'] else 0)


class Steps:
    """An environment, as the bootstrap sees it, in which steps are noted instead of run.

    Attributes:
        after: What a step whose command has these words makes of the facts.
        build: Is called with the environment variables of mmcv's build.
        python: The interpreter that is chosen.
    """

    def __init__(self, facts, python):
        self.facts, self.python, self.calls, self.after = facts, python, [], {}
        self.build = lambda env: None

    def step(self, runner, title, *command, hint='', env=None):
        command = list(command[command.index('--no-input') + 1 :])
        if '--wheel-dir' in command:
            folder = Path(command.pop(command.index('--wheel-dir') + 1))
            (folder / 'mmcv-2.1.0-cp311-cp311-linux_x86_64.whl').touch()
        self.calls.append(' '.join(command).replace(os.environ['XDG_CACHE_HOME'], '~'))
        if '--wheel-dir' in command:
            self.build(env)
        for words, changes in self.after.items():
            if words in self.calls[-1]:
                change(self.facts, **changes)

    def prepare(self, line='openmmlab', torch=None, extras=bootstrap.ALL):
        self.calls.clear()
        bootstrap.prepare(line, torch, extras)
        return self.calls


@pytest.fixture
def steps(facts, monkeypatch, tmp_path):
    noted = Steps(facts, tmp_path / '.venv' / 'bin' / 'python')
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'a b' / 'cache'))
    monkeypatch.setattr(doctor, 'collect', lambda *args: facts)
    monkeypatch.setattr(doctor, 'choose_python', lambda: str(noted.python))
    monkeypatch.setattr(bootstrap.Runner, 'step', lambda *args, **kw: noted.step(*args, **kw))
    monkeypatch.setattr(bootstrap, 'ROOT', tmp_path)
    facts['editable'] = tmp_path.as_uri()
    for path in ('setup.py', 'pyproject.toml', 'mmshuffle/.mim/configs', noted.python):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).touch()
    return noted


BUILD = '--no-deps --no-cache-dir --no-build-isolation --wheel-dir mmcv==2.1.0'
WHEEL = '~/mmshuffle/torch-{}/mmcv-2.1.0-cp311-cp311-linux_x86_64.whl'
WORKS = dict(imports={'mmcv_ext': None})


def target():
    """The last step."""
    return f'--no-build-isolation -e {bootstrap.ROOT}[dev,deploy,report,openmmlab]'


def test_a_fresh_environment_needs_every_step_in_order(steps):
    change(
        steps.facts,
        packages={**dict.fromkeys(doctor.PACKAGES), 'pip': '26.0'},
        imports=dict.fromkeys(doctor.IMPORTS, 'ModuleNotFoundError'),
        unmet=[*bootstrap.BUILD_TOOLS['openmmlab'], 'mmcv==2.1.0', OURS],
        editable=None,
    )
    built = dict(packages={'torch': '2.13.0'}, imports={'torch': None}, unmet=['mmcv==2.1.0'])
    steps.after = {'torch==': built, '.whl': dict(packages={'mmcv': '2.1.0'}, **WORKS)}
    tools = 'setuptools>=77.0.3,<82 wheel ninja'
    assert steps.prepare() == [tools, 'torch==2.13.0', BUILD, WHEEL.format('2.13.0'), target()]


@pytest.mark.parametrize(
    ('changes', 'expected'),
    [
        ({}, []),
        (dict(unmet=[OURS], packages={'mmdet': None}), [OURS]),
        (dict(editable='file:///elsewhere'), [OURS]),
        (dict(editable=None), [OURS]),
        (dict(installed_at=0), [OURS]),  # before a packaging file changed
        (dict(installed_at=None), [OURS]),
        (dict(unmet=['wheel']), ['wheel']),
    ],
)
def test_an_interrupted_run_goes_on_with_what_is_missing(steps, changes, expected):
    change(steps.facts, **changes)
    assert steps.prepare() == [target() if step == OURS else step for step in expected]


def test_mmcv_is_built_for_each_pytorch_and_the_wheels_are_kept(steps):
    def switch(torch):
        change(steps.facts, unmet=[f'torch=={torch}'])
        new = dict(packages={'torch': torch}, imports=OTHER_TORCH)
        steps.after = {'torch==': new, 'whl': WORKS}
        return steps.prepare(torch=f'torch=={torch}')

    options = '--force-reinstall --no-deps'
    assert switch('2.14.1') == ['torch==2.14.1', BUILD, f'{options} {WHEEL.format("2.14.1")}']
    assert steps.prepare(torch='torch') == steps.prepare() == []
    assert switch('2.13.0') == ['torch==2.13.0', BUILD, f'{options} {WHEEL.format("2.13.0")}']
    assert switch('2.14.1') == ['torch==2.14.1', f'{options} {WHEEL.format("2.14.1")}']


@pytest.mark.parametrize(('built', 'words'), [(False, 'why'), (True, r'undefined.*builds another')])
def test_a_wheel_is_kept_only_if_it_is_built_whole_and_loads(steps, built, words):
    def fail(env):
        raise bootstrap.Stop('why', 1)

    steps.build = steps.build if built else fail
    change(steps.facts, imports=OTHER_TORCH)
    with pytest.raises(bootstrap.Stop, match=words) as stop:
        steps.prepare()
    assert stop.value.code == 1 and len(steps.calls) == 1 + built
    assert not list(Path(os.environ['XDG_CACHE_HOME']).rglob('*.whl'))


@pytest.mark.parametrize('built_for', ['2.0.1', None])
def test_operations_built_for_another_pytorch_are_noticed(built_for, tmp_path, monkeypatch):
    # The compiled module of this environment, which works, is said to be made for another one.
    folder = f'torch-{built_for or metadata.version("torch")}'
    url = (tmp_path / folder / 'mmcv.whl').as_uri().replace('+', '%2B')
    content = json.dumps({'url': url, 'archive_info': {}})
    (install(tmp_path, 'mmcv', '2.1.0') / 'direct_url.json').write_text(content)
    monkeypatch.setenv('PYTHONPATH', str(tmp_path))
    error = doctor.collect(sys.executable, ('mmcv_ext',))['imports']['mmcv_ext']
    assert error == ('ImportError: its wheel comes from torch-2.0.1' if built_for else None)


@pytest.mark.parametrize(
    ('changes', 'arguments', 'said'),
    [
        (dict(compiler=None, imports=NO_OPS), {}, 'no C++ compiler found'),
        (dict(header='/usr/Python.h', imports=NO_OPS), {}, 'install the headers'),
        (NO_TORCHVISION, {}, 'pip uninstall -y torchvision'),
        (dict(packages={'torch': '2.3.0'}), {}, 'needs 2.4 or newer'),
        (dict(packages={'onedl-mmcv': '2.3.6'}), {}, 'both lines'),
        ({}, dict(line='onedl'), 'pass --line openmmlab, or remove it with: pip uninstall mmdet'),
        (dict(packages=ONEDL), {}, 'pass --line onedl'),
        (dict(unmet=['torch==2.5.0']), dict(torch='torch==2.5.0'), '2.13.0+cpu, is not touched'),
        (dict(imports={'torch': 'OSError: libtorch.so'}), {}, '--force-reinstall torch=='),
        (dict(packages={'pip': None}), {}, '-m ensurepip'),
    ],
)
def test_somebody_elses_environment_is_refused_in_one_line(steps, changes, arguments, said):
    steps.python = Path('/env/bin/python')
    change(steps.facts, **changes)
    with pytest.raises(bootstrap.Stop) as stop:
        steps.prepare(**arguments)
    assert said in str(stop.value) and '\n' not in str(stop.value)
    assert (stop.value.code, steps.calls) == (2, [])


@pytest.mark.parametrize(
    ('name', 'torch', 'added'),
    [('c++', '2.13.0', ''), ('clang++', '2.14.1+cu130', '-std=c++20')],
)
@pytest.mark.skipif(os.name == 'nt', reason='a script stands for the compiler')
def test_mmcv_is_compiled_as_cxx20_where_pytorch_needs_it(
    steps, name, torch, added, tmp_path, monkeypatch
):
    # A compiler that shows what it is called with: its first words come from CXX.
    compiler = script(tmp_path / 'a b' / name, 'echo "$@"')
    monkeypatch.setenv('CXX', f"env '{compiler}'")
    monkeypatch.setenv('NVCC_APPEND_FLAGS', '-O1')
    monkeypatch.delenv('MAX_JOBS', raising=False)
    if added:
        monkeypatch.setenv('MAX_JOBS', '1')
    used = []

    def build(env):
        used.extend((Path(shlex.split(env['CXX'])[-1]), env['NVCC_APPEND_FLAGS'].split()))
        used.append(subprocess.check_output([*shlex.split(env['CXX']), 'b  c'], text=True))
        used.append(env)

    steps.build, steps.after = build, {'.whl': WORKS}
    unmet = dict(unmet=['mmcv==2.1.0'], packages={'torch': torch})
    change(steps.facts, **unmet, compiler=doctor._compiler())
    steps.prepare()
    assert used[1:3] == [['-O1', *added.split()], f'b  c {added}'.strip() + '\n']
    # PyTorch tells GCC from Clang by the name, and takes no blank in the path; a script that stands
    # for it does not stay.
    assert used[0].name == name and used[0].exists() == (' ' in str(used[0])) == (not added)
    # PyTorch's builder looks for ninja in the environment, and the user may say how many it runs.
    env = used[3]
    assert env['PATH'].split(os.pathsep)[0] == str(steps.python.parent)
    assert env['MAX_JOBS'] == ('1' if added else str(doctor.cores()))


@pytest.mark.skipif(bootstrap.fcntl is None, reason='needs file locks')
def test_of_two_bootstraps_one_waits_for_the_other(tmp_path):
    code = 'import sys, bootstrap, pathlib; held = bootstrap.lock(pathlib.Path(sys.argv[1])); '
    code += 'print("has it", flush=True)'
    path = tmp_path / '.venv' / 'bootstrap.lock'
    command = [sys.executable, '-c', code, str(path)]
    env = {**os.environ, 'PYTHONPATH': str(REPO / 'tools')}
    with bootstrap.lock(path):
        other = subprocess.Popen(command, stdout=subprocess.PIPE, env=env, text=True)
        assert 'waiting' in other.stdout.readline()
    assert other.communicate()[0] == 'has it\n'
    # Where nothing can be written, nothing has to be locked.
    (tmp_path / 'file').touch()
    assert bootstrap.lock(tmp_path / 'file' / 'bootstrap.lock') is None


def test_pins_are_those_of_setup_py():
    extras = load_file(REPO / 'setup.py').EXTRAS_REQUIRE
    for line, mmcv in bootstrap.MMCV.items():
        assert mmcv in extras[line]
    for name, (_, _, good) in doctor.VERSIONS.items():
        assert f'{name}=={good}' in extras['openmmlab']
    assert set().union(*bootstrap.EXTRAS.values()) <= set(extras)


@pytest.mark.parametrize(
    ('tool', 'arguments'),
    [
        *((doctor, words) for words in ('--bogus', '--python /nowhere/python')),
        *((bootstrap, words) for words in ('', 'nonsense', 'env --line mmlab', 'test -k foo')),
        *((bootstrap, words) for words in ('env --torch torch>=2', 'env -- x')),
    ],
)
def test_bad_arguments_end_with_one_line_and_code_2(tool, arguments, capsys):
    try:
        code = tool.main(arguments.split())
    except SystemExit as stop:
        code = stop.code
    text = capsys.readouterr()
    assert (code, text.out, text.err.count('\n')) == (2, '', 1) and '(see --help)' in text.err


def test_arguments_after_the_dashes_are_passed_on():
    args, passed_on = bootstrap.parse(['test', '--line', 'onedl', '--', '-k', 'x', '--', 'y'])
    assert (args.command, args.line, passed_on) == ('test', 'onedl', ['-k', 'x', '--', 'y'])


@pytest.mark.parametrize(
    ('active', 'managed', 'has_torch', 'has_venv', 'used'),
    [
        (True, False, True, True, 'here'),
        (True, False, False, False, 'venv'),
        (False, False, True, False, 'here'),
        (False, False, True, True, 'venv'),
        (False, True, True, False, 'venv'),
        (False, False, False, False, 'venv'),
    ],
)
def test_an_interpreter_with_pytorch_is_used_unless_the_system_owns_it(
    active, managed, has_torch, has_venv, used, tmp_path, monkeypatch
):
    monkeypatch.delenv('CONDA_PREFIX', raising=False)
    monkeypatch.setattr(sys, 'prefix', '/env' if active else sys.base_prefix)
    monkeypatch.setattr(doctor, 'find_spec', lambda name: has_torch or None)
    monkeypatch.setattr(doctor, 'ROOT', tmp_path)
    monkeypatch.setattr(doctor.sysconfig, 'get_path', lambda name: str(tmp_path))
    if managed:
        (tmp_path / 'EXTERNALLY-MANAGED').touch()
    venv = tmp_path / '.venv' / ('Scripts/python.exe' if os.name == 'nt' else 'bin/python')
    if has_venv:
        venv.parent.mkdir(parents=True)
        venv.touch()
    chosen = doctor.choose_python()
    assert chosen == (sys.executable if used == 'here' else str(venv))


def test_a_failing_step_shows_its_output_and_says_where_the_log_is(tmp_path, capfd):
    runner = bootstrap.Runner(sys.executable, tmp_path / 'bootstrap.log')
    with pytest.raises(bootstrap.Stop, match=r'"PyTorch" failed, .*bootstrap\.log') as stop:
        runner.pip('PyTorch', '--no-index', 'not-there')
    assert stop.value.code == 1 and '\n' not in str(stop.value)
    assert 'not-there' in capfd.readouterr().err
    assert 'not-there' in runner.log.read_text()


@pytest.mark.skipif(not hasattr(os, 'killpg'), reason='needs process groups')
def test_an_interrupt_ends_the_compilers_too(tmp_path, monkeypatch):
    os.mkfifo(pipe := tmp_path / 'pipe')
    opened = []

    def wait(process):
        monkeypatch.undo()
        opened.append(pipe.open())  # as soon as the grandchild has it open for writing
        raise KeyboardInterrupt

    monkeypatch.setattr(subprocess.Popen, 'wait', wait)
    runner = bootstrap.Runner(sys.executable, tmp_path / 'log')
    with pytest.raises(KeyboardInterrupt):
        runner.step('building', 'sh', '-c', f"sleep 600 > '{pipe}'; true", hint='')
    # It can be read to its end when the grandchild has ended.
    assert select.select(opened, [], [], 30)[0] and opened[0].read() == ''


@pytest.mark.parametrize(
    ('end', 'code'),
    [(KeyboardInterrupt(), 130), (bootstrap.Stop('failed', 1), 1), (OSError(28, 'full'), 2)],
)
def test_the_end_is_one_line(end, code, monkeypatch, capsys):
    def stop(*args):
        raise end

    monkeypatch.setattr(bootstrap, 'prepare', stop)
    assert bootstrap.main(['env']) == code
    text = capsys.readouterr()
    assert text.out == '' and text.err.strip().count('\n') == 0 and 'bootstrap: ' in text.err


@pytest.mark.parametrize('mode', [0o755, 0o644, None])
@pytest.mark.skipif(os.name == 'nt', reason='a script stands for the interpreter')
def test_a_broken_interpreter_is_one_line(mode, tmp_path, monkeypatch, capsys):
    python = tmp_path / 'python'
    if mode:
        script(python, 'exit 3', mode)
    monkeypatch.setattr(doctor, 'choose_python', lambda: str(python))
    monkeypatch.setattr(bootstrap, 'ROOT', tmp_path)
    assert bootstrap.main(['env']) == 2
    text = capsys.readouterr()
    assert text.out == '' and str(python) in text.err and text.err.count('\n') == 1
