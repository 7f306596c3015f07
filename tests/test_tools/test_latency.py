"""The command line that measures latencies."""

import itertools
import os
import sys
from pathlib import Path

import pytest

from mmshuffle.engine.files import write_json
from mmshuffle.latency.record import read_record
from mmshuffle.latency.request import PROTOCOL, make_request
from tests.test_latency.tiny import check_schema, stop_after, tiny_plan
from tests.test_tools.conftest import exit_code, load_tool

NETWORK = 'shufflenetv1-x0.25-g8'
WARM_UP = ['--warmup-loops', '1', '--warmup-seconds', '0']
LENGTH = ['--loops', '6', '--seconds', '0', '--block-seconds', '0', '--block-loops', '3']
QUICK = [*WARM_UP, *LENGTH, '--cooldown', '0', '--sessions', '2']
SMALL = [NETWORK, '--shape', '32x32', '--runtime', 'ncnn', *QUICK]


def latency(*args: object) -> int:
    return exit_code(load_tool('latency'), *args)


@pytest.fixture(scope='module')
def measured(tmp_path_factory) -> Path:
    for package in ('ncnn', 'pnnx'):
        pytest.importorskip(package, reason=f'needs {package}')
    path = tmp_path_factory.mktemp('latency') / 'first.json'
    assert latency(*SMALL, '--out', path) == 0
    return path


def test_measurement_is_written_and_shown(measured, capsys):
    record = read_record(measured)
    check_schema(record)
    (result,) = record['results']
    assert record['complete'] and result['config'] == NETWORK and result['shape'] == [32, 32]
    assert [list(map(len, blocks)) for blocks in result['samples_ms']] == [[3, 3]] * 2
    assert result['gate_error'] < 1e-5 and record['request']['protocol']['loops'] == 6
    assert latency('show', measured) == 0
    assert capsys.readouterr().out.strip() == measured.with_suffix('.md').read_text().strip()


def test_measurement_is_repeated_and_compared(measured, tmp_path, capsys):
    again = tmp_path / 'again.json'
    assert latency('--replay', measured, '--loops', 4, '--out', again) == 0
    first, second = read_record(measured)['request'], read_record(again)['request']
    assert second.pop('protocol') == {**first.pop('protocol'), 'loops': 4} and first == second
    capsys.readouterr()
    assert latency('diff', measured, again) == 0
    assert f'| {NETWORK}, 32x32, ncnn, 1 thread, fp32 |' in capsys.readouterr().out


def test_reference_of_the_measurement_is_shown_again(measured, tmp_path, capsys):
    record = read_record(measured)
    record['results'].append(dict(record['results'][0], config='other'))
    record['request']['reference'] = 'other'
    write_json(record, tmp_path / 'a.json')
    assert latency('show', tmp_path / 'a.json') == 0
    assert latency('show', tmp_path / 'a.json', '--reference', NETWORK) == 0
    asked_then, asked_now = capsys.readouterr().out.split('# Latency on ')[1:]
    assert '| × other [' in asked_then and f'| × {NETWORK} [' in asked_now


def test_what_replay_may_change(measured, tmp_path):
    out = tmp_path / 'sweep.json'
    changes = ['--threads', 1, 2, '--shuffle', 'native', 'free-8', '--gate-only', '--out', out]
    assert latency('--replay', measured, *changes) == 0
    record = read_record(out)
    settings = {(gate['threads'], gate['shuffle']) for gate in record['gates'] if gate['passed']}
    assert settings == set(itertools.product((1, 2), ('native', 'free-8')))
    assert record['results'] == []


@pytest.fixture
def tool(monkeypatch):
    """Whose networks are one of a single layer."""
    tool = load_tool('latency')
    monkeypatch.setattr(tool, 'make_plan', lambda request, folder: tiny_plan(folder, 1))
    return tool


def test_ctrl_c_writes_what_was_measured(tool, tmp_path, monkeypatch, capsys):
    measure = tool.measure

    def interrupted(plan, target, job, progress, **kwargs):
        return measure(plan, target, job, stop_after(2), **kwargs)

    monkeypatch.setattr(tool, 'measure', interrupted)
    assert exit_code(tool, *SMALL, '--out', tmp_path / 'a.json') == 130
    assert 'marked incomplete' in capsys.readouterr().err
    record = read_record(tmp_path / 'a.json')
    assert record['problem'] == 'interrupted by Ctrl-C' and not record['complete']
    assert len(record['results'][0]['samples_ms'][0]) >= 2


UNUSABLE = {
    '--target ssh:nobody@127.0.0.1:1': 'ssh',
    '--python /no/python': '/no/python cannot be started',
    '--device-folder /no/folder': 'prepare there failed',
    '--wheels .': 'ncnn is there only as ncnn-1-cp311-cp311-manylinux2014_riscv64.whl',
    '--target emulated --root .': 'emulated: the command there ended with exit code 1: no device',
    '--target emulated --root . --count': 'gcc cannot compile',
    '--target adb:R58M12ABCDE --binary benchncnn --precision fp16': 'allow USB debugging',
    '--target adb --binary benchncnn': 'give --precision fp16',
}


@pytest.mark.parametrize('again', [False, True], ids=['', 'replay'])
@pytest.mark.parametrize('where', UNUSABLE)
def test_unusable_device_is_told_before_anything_is_exported(
    tmp_path, capsys, monkeypatch, request, where, again
):
    what = ['--replay', request.getfixturevalue('measured')] if again else [NETWORK]
    monkeypatch.chdir(tmp_path)
    Path('usr/bin').mkdir(parents=True)
    Path('ncnn-1-cp311-cp311-manylinux2014_riscv64.whl').touch()
    for name in ('adb', 'benchncnn', 'usr/bin/python3', 'qemu-aarch64', 'gcc'):
        Path(name).write_text('#!/bin/sh\necho no devices/emulators found >&2\nexit 1\n')
        Path(name).chmod(0o755)
    monkeypatch.setenv('PATH', f'{tmp_path}:{os.environ["PATH"]}')
    tool = load_tool('latency')
    monkeypatch.setattr(tool, 'make_plan', lambda *args: pytest.fail('networks are exported'))
    assert exit_code(tool, *what, '--runtime', 'ncnn', *where.split(), '--out', 'a.json') == 2
    (error,) = [line for line in capsys.readouterr().err.splitlines() if 'error: ' in line]
    assert UNUSABLE[where] in error and not Path('a.json').exists()


def test_network_that_fails_is_an_error_and_kept(tool, tmp_path, capsys):
    bare = tmp_path / 'python'
    bare.write_text(f'#!/bin/sh\nexec {sys.executable} -S "$@"\n')
    bare.chmod(0o755)
    assert exit_code(tool, *SMALL, '--python', bare, '--out', tmp_path / 'a.json') == 2
    err = capsys.readouterr().err
    assert 'error: conv4, ncnn: ncnn cannot be imported' in err and '--wheels' in err
    assert read_record(tmp_path / 'a.json')['failures'][0]['stage'] == 'load'


TIMING = [f'--{name.replace("_", "-")}' for name in PROTOCOL]
# Options that would be passed over, by what passes over them.
UNUSED = {
    '--target local': '--ssh-config --root --cpu --binary',
    '--target ssh:pi': '--root --cpu --binary',
    '--target adb --runtime ncnn': '--python --device-folder --ssh-config --root --cpu --wheels '
    '--set-governor --mlperf --warmup-loops --warmup-seconds --block-seconds --checkpoint',
    '--target emulated': '--python --ssh-config --binary --cores --set-governor --mlperf '
    '--reference',
    '--gate-only': f'{" ".join(TIMING)} --mlperf --set-governor --reference',
    '--profile': f'{" ".join(TIMING)} --mlperf --reference',
    '--count --target emulated': ' '.join(TIMING),
    '--suite guidelines': '--part --checkpoint',
}
VALUES = {'--part': ['neck'], '--mlperf': [], '--checkpoint': [f'{NETWORK}=a.pth']}


@pytest.mark.parametrize(
    'where, option', [(where, o) for where, names in UNUSED.items() for o in names.split()]
)
def test_options_that_would_be_passed_over_are_refused(where, option, tmp_path, capsys):
    network = [] if 'suite' in where else [NETWORK]
    words = [*network, *where.split(), option, *VALUES.get(option, ['7'])]
    assert latency(*words, '--out', tmp_path / 'a.json') == 2
    err = [line for line in capsys.readouterr().err.splitlines() if 'error: ' in line]
    assert len(err) == 1 and f'{option}: ' in err[0] and 'does not use it; leave it out' in err[0]


@pytest.mark.parametrize(
    'args, message',
    [
        (['nonsense'], 'nonsense'),
        ([NETWORK, '--target', 'tcp:host'], '--target tcp:host'),
        ([NETWORK, '--target', 'emulated'], '--root'),
        ([NETWORK, '--count'], '--count: counts one thread on --target emulated'),
        ([NETWORK, '--count', '--target', 'emulated', '--threads', '2'], '--count: counts one'),
        (['--prepare', '/'], '--prepare /: it exists'),
        ([NETWORK, '--prepare', '/no/such'], 'leave all other arguments out'),
        (['--prepare', '/no/such', '--cpu', 'max'], 'leave all other arguments out'),
        ([NETWORK, '--target', 'adb'], 'adb'),
        (['a.tflite', '--target', 'adb', '--runtime', 'litert'], '--shape: give the one size'),
        *(
            ([NETWORK, '--shape', size], 'write height x width')
            for size in ('224', '0x224', 'axb', '224x224x3')
        ),
        ([NETWORK, '--checkpoint', 'a=b', '--checkpoint', 'c'], '--checkpoint c'),
        ([NETWORK, '--checkpoint', 'a.pth'], 'a.pth'),
        ([NETWORK, '--wheels', '/no/such'], '--wheels'),
        ([NETWORK, '--replay', '/no/such.json'], '/no/such.json'),
        ([NETWORK, '--accuracy', '/no/such.json'], '/no/such.json cannot be read'),
        ([NETWORK, '--reference', 'other'], '--reference other: give one of shufflenetv1-x0.25'),
        (['diff', '/no/a.json', '/no/b.json'], '/no/a.json'),
        (['diff', '/no/a.json'], 'name two files or more'),
        (['show', '/no/a.json'], '/no/a.json'),
    ],
)
def test_bad_input_is_one_line(tmp_path, capsys, args, message):
    out = [] if args[0] in ('diff', 'show', '--prepare') else ['--out', tmp_path / 'a.json']
    assert latency(*args, *out) == 2
    err = [line for line in capsys.readouterr().err.splitlines() if 'error: ' in line]
    assert len(err) == 1 and message in err[0]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    'args, least',
    [
        ([NETWORK, '--mlperf'], (1024, 60.0)),
        ([NETWORK, '--mlperf', '--loops', '6', '--seconds', '90'], (1024, 90.0)),
        (['--replay', 'MEASURED', '--mlperf'], (1024, 60.0)),
    ],
)
def test_mlperf_asks_for_its_runs_and_seconds(measured, args, least):
    tool = load_tool('latency')
    words = [str(measured) if word == 'MEASURED' else word for word in args]
    request = make_request(vars(tool.parse_args(words)))
    timing = request['protocol']
    assert (timing['loops'], timing['seconds']) == least and request['mlperf']


@pytest.mark.slow
def test_profile_by_type_of_layer(tmp_path, capsys):
    pytest.importorskip('onnxruntime', reason='needs onnxruntime')
    pytest.importorskip('onnx', reason='needs onnx')
    out = tmp_path / 'a.json'
    assert latency(NETWORK, '--shape', '64x64', '--profile', '--out', out) == 0
    (profile,) = read_record(out)['profiles']
    assert {'1x1 convolution', 'depthwise convolution', 'shuffle, concat, slice'} <= set(
        profile['by_type']
    )
    assert 'Time by type of layer' in capsys.readouterr().out
    check_schema(read_record(out))


@pytest.mark.slow
@pytest.mark.parametrize('runtime', ['onnxruntime', 'pytorch'])
def test_other_runtimes(tmp_path, runtime):
    pytest.importorskip('onnxruntime', reason='needs onnxruntime')
    words = [NETWORK, '--shape', '32x32', '--runtime', runtime, *QUICK, '--out']
    assert latency(*words, tmp_path / 'a.json') == 0
    (result,) = read_record(tmp_path / 'a.json')['results']
    assert result['runtime'] == runtime and result['gate_error'] < 1e-5 and result['median_ms'] > 0
