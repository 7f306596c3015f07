"""The parts of the runner: loop, gate, inputs, cores and the state of the device."""

import ast
import io
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from array import array
from pathlib import Path

import numpy as np
import pytest

from mmshuffle.deploy import board
from mmshuffle.latency.device import bootstrap, cores, gate, loop, main, state
from mmshuffle.latency.device.gate import TILE, make_input
from mmshuffle.latency.device.runtimes import RUNTIMES, Problem, load_onnxruntime
from mmshuffle.latency.targets import python_target
from mmshuffle.latency.targets.python_target import DEVICE, RUNNER

from .tiny import AT_ONCE

PROTOCOL = dict(AT_ONCE, loops=7, warmup_loops=2, block_loops=3)


class FakeClock:
    """Time that passes only where a network runs."""

    def __init__(self) -> None:
        self.now = 0.0
        self.runs: list[str] = []

    def __call__(self) -> float:
        return self.now

    def network(self, name: str, seconds: float):
        def run() -> None:
            self.runs.append(name)
            self.now += seconds

        return run


def collect(clock: FakeClock, networks: list, **changes) -> list[tuple[int, list[float], float]]:
    found = []
    loop.measure(
        networks,
        {**PROTOCOL, **changes},
        lambda n, times, cpu, done: found.append((n, list(times), done)),
        clock,
    )
    return found


def test_networks_take_turns_after_their_warm_ups_and_single_runs_are_timed():
    clock = FakeClock()
    found = collect(clock, [clock.network('a', 0.25), clock.network('b', 0.5)])
    # Two warm-ups each, then blocks of three behind one run that is not timed, then the rest.
    # Every other turn goes backwards.
    assert ''.join(clock.runs) == 'aabb' + 'aaaabbbb' + 'bbbbaaaa' + 'aabb'
    assert [times for n, times, _ in found if n == 1] == [[500.0] * 3, [500.0] * 3, [500.0]]
    assert [done for n, _, done in found if n == 0] == pytest.approx([3 / 7, 6 / 7, 1])


def test_both_the_number_and_the_length_are_reached():
    clock = FakeClock()
    networks = [clock.network('a', 0.25), clock.network('b', 2.0)]
    found = collect(clock, networks, seconds=5.0, warmup_seconds=3.0)
    runs = [sum(len(times) for n, times, _ in found if n == k) for k in (0, 1)]
    assert ''.join(clock.runs).startswith('a' * 12 + 'bb' + 'a') and runs[0] >= 20 and runs[1] == 7


def test_threads_rest_while_another_network_has_its_turn(tmp_path, monkeypatch):
    runtime = pytest.importorskip('onnxruntime', reason='needs onnxruntime')
    given = []
    monkeypatch.setattr(
        runtime, 'InferenceSession', lambda path, options, **_: given.append(options)
    )
    with pytest.raises(AttributeError):  # there is no session
        load_onnxruntime(runtime, dict(threads=4), dict(onnx=tmp_path / 'a.onnx'))
    assert given[0].get_session_config_entry('session.force_spinning_stop') == '1'
    assert given[0].intra_op_num_threads == 4


def test_inputs_are_the_same_everywhere():
    values = np.frombuffer(make_input(3 * TILE), np.float32)
    assert np.array_equal(values[:TILE], values[TILE : 2 * TILE])
    assert np.array_equal(values * 2**15, np.round(values * 2**15))
    assert (values[:3] * 2**15).tolist() == [908, -21251, -12541]
    assert -1 <= values.min() < -0.99 and 0.99 < values.max() < 1 and abs(values.mean()) < 0.02


RIGHT = array('f', [1.0, -2.0, 4.0])


@pytest.mark.parametrize(
    ('actual', 'expected', 'error', 'reason'),
    [
        ([[1.0, -2.0, 4.003]], [RIGHT], 0.00075, None),
        ([RIGHT, [1.0, -2.1, 4.0]], [RIGHT, RIGHT], 0.025, 'outputs differ by 0.025 of the'),
        ([[math.nan, -2.0, 4.0]], [RIGHT], None, 'not finite'),
        ([[1.0, -2.0, math.nan]], [RIGHT], None, 'not finite'),
        ([[math.inf, -2.0, 4.0]], [RIGHT], None, 'not finite'),
        ([[1.0, -2.0, -math.inf]], [RIGHT], None, 'not finite'),
        ([[1.0]], [RIGHT], None, 'outputs have [1] values instead of [3]'),
    ],
)
def test_gate_passes_what_is_within_its_tolerance(actual, expected, error, reason):
    found = gate.compare([array('f', values) for values in actual], expected, 1e-3)
    assert found['passed'] is (reason is None) and (reason or '') in found.get('reason', '')
    assert found['error'] == (error if error is None else pytest.approx(error, rel=1e-3))


def make_system(root: Path) -> Path:
    """A made-up Raspberry Pi with two small and two big cores."""
    files = {
        'proc/device-tree/model': 'Raspberry Pi 9 Model Z\0',
        'proc/cpuinfo': ''.join(
            f'processor\t: {n}\nCPU part\t: {"0xd03" if n < 2 else "0xd08"}\n\n' for n in range(4)
        ),
        'proc/meminfo': 'MemTotal:  4096000 kB\nMemAvailable: 2048000 kB\n',
        'proc/loadavg': '0.25 0.50 0.75 1/100 1234\n',
        'etc/os-release': 'NAME="X"\nPRETTY_NAME="Raspberry OS 99"\n',
        'sys/class/thermal/thermal_zone0/type': 'cpu-thermal',
        'sys/class/thermal/thermal_zone0/temp': '61500',
        'sys/class/thermal/thermal_zone1/type': 'modem',
        'sys/class/thermal/thermal_zone1/temp': '-274000',
        'sys/class/thermal/cooling_device0/type': 'cpufreq-cpu0',
        'sys/class/thermal/cooling_device0/cur_state': '2',
        'sys/devices/platform/soc/soc:firmware/get_throttled': '50005',
    }
    for n in range(4):
        base = f'sys/devices/system/cpu/cpu{n}/cpufreq'
        files[f'{base}/cpuinfo_max_freq'] = '1000000' if n < 2 else '1800000'
        files[f'{base}/scaling_cur_freq'] = '600000'
        files[f'{base}/scaling_governor'] = 'ondemand'
        files[f'{base}/scaling_available_governors'] = 'ondemand performance'
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content)
    return root


def test_device_and_its_state_are_read(tmp_path):
    device = state.read_device(make_system(tmp_path))
    assert device['soc'] == 'Raspberry Pi 9 Model Z' and device['os'] == 'Raspberry OS 99'
    assert device['clusters'] == [[0, 1], [2, 3]] and device['memory_mb'] == 4000
    assert [core['kind'] for core in device['cores']] == ['Cortex-A53'] * 2 + ['Cortex-A72'] * 2
    found = state.read_state(tmp_path)
    assert (
        found['khz'] == {str(n): 600000 for n in range(4)} and found['governor']['3'] == 'ondemand'
    )
    assert found['throttling'] == {'raspberry pi flags': 0x50005, 'cooling_device0 cpufreq-cpu0': 2}
    assert found['load'] == 0.25 and found['memory_available_mb'] == 2000
    found = state.read_state(tmp_path / 'proc')  # without these files
    assert found['khz'] == {} and found['load'] is None and found['throttling'] == {}


@pytest.mark.parametrize(
    'value, celsius',
    [
        *(('61500', 61.5), ('-5000', -5.0), ('125000', 125.0)),
        *(('45', 45.0), ('-5', -5.0), ('0', 0.0), ('455', 45.5), ('1050', 105.0)),
        *(('-274000', None), ('-274', None), ('500000', None), ('2147483647', None), ('', None)),
    ],
)
def test_temperatures_are_read_in_the_unit_of_the_board(tmp_path, value, celsius):
    (make_system(tmp_path) / 'sys/class/thermal/thermal_zone0/temp').write_text(value)
    expected = {} if celsius is None else {'0 cpu-thermal': celsius}
    assert state.read_state(tmp_path)['celsius'] == expected


@pytest.mark.parametrize('capacities', [('400', '1024'), ('', '')], ids=['capacities', ''])
@pytest.mark.parametrize(
    'online, wanted, chosen',
    [
        *(('0-3', 'big', [2, 3]), ('0-3', 'little', [0, 1]), ('0-3', '3,0-1', [0, 1, 3])),
        *(('0-2', 'big', [2]), ('0,2-3', 'little', [0])),
        ('0-2', '2,3', 'switched off core 3'),
        ('0', '1-2', 'switched off core 1, 2'),
        ('0-2', '2,9,5', 'no core 5, 9'),
        ('0-1', 'big', 'switched off core 2, 3|of one kind'),  # where the capacity is not known
    ],
)
def test_cores_are_chosen_by_kind_or_number_and_told_where_they_are_offline(
    tmp_path, online, wanted, chosen, capacities
):
    root, numbers = make_system(tmp_path), state.parse_cores(online)
    for name, content in dict(present='0-3\n', online=f'{online}\n').items():
        (root / state.CPU / name).write_text(content)
    for n in range(4):
        (root / state.CPU / f'cpu{n}/cpu_capacity').write_text(capacities[n > 1])
        if n not in numbers:
            shutil.rmtree(root / state.CPU / f'cpu{n}/cpufreq')
    known = state.read_device(root)
    assert [core['online'] for core in known['cores']] == [n in numbers for n in range(4)]
    assert sorted(n for cluster in known['clusters'] for n in cluster) == numbers
    with cores.governor('performance', 1, root):
        assert governors(root) == {'performance'}
    if isinstance(chosen, list):
        assert cores.choose(wanted, root) == chosen
    else:
        with pytest.raises(Problem, match=chosen):
            cores.choose(wanted, root)


def test_cores_that_this_process_may_not_use_are_refused(monkeypatch, tmp_path):
    """Of which Linux would take the others alone."""
    with pytest.raises(Problem, match='of one kind'):
        cores.choose('big', tmp_path)  # which does not tell cores apart
    monkeypatch.setattr(os, 'sched_setaffinity', lambda *args: None, raising=False)
    monkeypatch.setattr(os, 'sched_getaffinity', lambda *args: {0}, raising=False)
    cores.pin([0])
    with pytest.raises(Problem, match='may not use all'):
        cores.pin([0, 1])


def governors(root: Path) -> set[str]:
    return {p.read_text() for p in (root / state.CPU).glob('cpu*/cpufreq/scaling_governor')}


@pytest.mark.parametrize('shared', [False, True])
def test_governor_is_set_and_put_back_whatever_happens(tmp_path, shared):
    """Cores of a cluster share the file, as on every Raspberry Pi."""
    root = make_system(tmp_path)
    for n in (1, 2, 3) if shared else ():
        folder = root / state.CPU / f'cpu{n}/cpufreq'
        folder.rename(folder.with_name('own'))
        folder.symlink_to(root / state.CPU / 'cpu0/cpufreq')
    with cores.governor(None, 1, root):
        assert governors(root) == {'ondemand'}
    with pytest.raises(KeyboardInterrupt), cores.governor('performance', 1, root):
        assert governors(root) == {'performance'}
        raise KeyboardInterrupt
    with pytest.raises(Problem, match='the device has ondemand performance'):
        cores.governor('turbo', 1, root).__enter__()
    assert governors(root) == {'ondemand'}


# A runner whose runtime hangs, deaf to signals, with or without Python's lock.
HANGING = """
import ctypes, sys
from pathlib import Path
sys.argv, root, library = [sys.argv[1], 'job.json'], *sys.argv[2:]
sys.path.insert(0, sys.argv[0])
from device import cores, main
def hang(lock=ctypes.create_string_buffer(64)):
    while True:
        getattr(ctypes, library)(None).pthread_mutex_lock(lock)
governor = cores.governor
cores.governor = lambda name, patience: governor(name, patience - 1.8, Path(root))
main.load, main.PATIENCE = lambda *args: main.Loaded(hang, list, '1', {}), 0.5
main.main()
"""


def send(parent: Path, **job) -> Path:
    """A folder with the runner and what it is to do."""
    (folder := parent / 'folder').mkdir()
    python_target.pack_runner(folder / RUNNER)
    (folder / 'job.json').write_text(json.dumps(dict(job, cores=None)))
    return folder


@pytest.mark.parametrize(
    'library, end', [('CDLL', 'gone'), ('CDLL', 'killed'), ('PyDLL', 'gone'), ('PyDLL', 'stop')]
)
def test_governor_is_put_back_where_a_runtime_hangs_or_is_killed(tmp_path, library, end):
    runs = [dict(id=0, expected=[], tolerance=1, threads=1)]
    settings = dict(keep=False, governor='performance', protocol=PROTOCOL)
    root, folder = make_system(tmp_path), send(tmp_path, what='measure', runs=runs, **settings)
    command = [sys.executable, '-c', HANGING, folder / RUNNER, root, library]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        wait_for(lambda: governors(root) == {'performance'})
        if end == 'killed':
            process.kill()
        elif end == 'stop':
            process.stdin.write(b'stop\n')
        process.stdin.close()
        process.wait()
    wait_for(lambda: governors(root) == {'ondemand'})
    assert folder.exists() == ((library, end) != ('CDLL', 'gone'))  # which alone can clean


def wait_for(condition) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.fixture
def mine(tmp_path) -> Path:
    """A folder with a name as the tool gives it."""
    (folder := tmp_path / f'{bootstrap.PREFIX}x').mkdir()
    return folder


def test_only_folders_of_the_tool_are_removed(mine, tmp_path):
    (other := tmp_path / 'home').mkdir()
    assert bootstrap.remove(str(mine)) == dict(removed=True)
    assert bootstrap.remove(str(other)) == dict(removed=False) and other.exists()


def run_bootstrap(action: str, argument: Path, given: bytes) -> dict:
    command = [sys.executable, '-c', python_target.BOOTSTRAP, action, str(argument)]
    return json.loads(subprocess.run(command, input=given, stdout=subprocess.PIPE).stdout)


@pytest.mark.parametrize('answer, kept', [(b'taken\n', True), (b'', False), (b'stop\n', False)])
def test_folder_that_nobody_knows_of_is_removed(tmp_path, answer, kept):
    result = run_bootstrap('prepare', tmp_path, answer)
    assert [str(path) for path in tmp_path.iterdir()] == [result['folder']] * kept


def packed(**files: bytes) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode='w|') as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


@pytest.mark.parametrize('size', [0, 8704, 9216, 9728])
def test_folder_is_kept_however_long_the_archive_is(mine, size):
    """Its reader leaves up to a record of zeros at the end, in front of the answer."""
    assert run_bootstrap('unpack', mine, packed(a=bytes(size), b=b'1') + b'taken\n') == {}
    assert {path.name: path.stat().st_size for path in mine.iterdir()} == dict(a=size, b=1)


@pytest.mark.parametrize('length', [300, 512 + 4096])  # within a file, and between two
def test_folder_is_removed_when_the_connection_drops_while_files_come(mine, length):
    run_bootstrap('unpack', mine, packed(a=bytes(4096), b=bytes(4096))[:length])
    assert not mine.exists()


@pytest.mark.parametrize('answer, kept', [(b'', False), (None, False), (b'stop\n', True)])
def test_runner_that_gets_no_answer_removes_its_folder(tmp_path, answer, kept):
    """The network goes away silently, so that the standard input stays open, or this side dies."""
    folder = send(tmp_path, what='gate', runs=[], keep=False)
    code = (
        'import sys; sys.argv = [sys.argv[1], "job.json"]; sys.path.insert(0, sys.argv[0]); '
        f'from device import main; main.PATIENCE = {0 if answer == b"" else 1000}; main.main()'
    )
    command = [sys.executable, '-c', code, str(folder / RUNNER)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        events = [json.loads(process.stdout.readline())['event'] for _ in range(2)]
        if answer is None:
            process.stdin.close()
        else:
            process.stdin.write(answer)
            process.stdin.flush()
        process.wait()
    assert events == ['device', 'end'] and folder.exists() == kept


def test_second_signal_does_not_cut_the_cleaning_short():
    before = {n: signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    main._handle_signals(main._interrupt)
    try:
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGHUP)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


# What is evaluated where it stands, and what came after Python 3.8.
GENERICS = {'dict', 'list', 'set', 'tuple', 'type', 'Callable', 'Iterator', 'Sequence'}
NEWER = {'removeprefix', 'removesuffix', 'bit_count', 'is_relative_to', 'strict', 'unparse'}


@pytest.mark.parametrize(
    'path', [*DEVICE.glob('*.py'), Path(board.__file__)], ids=lambda path: path.stem
)
def test_what_goes_to_a_device_is_python_3_8_and_needs_nothing_but_the_standard_library(path):
    tree = ast.parse(path.read_text(encoding='utf-8'), feature_version=(3, 8))
    allowed = set(sys.stdlib_module_names) | {'numpy'}  # ONNX Runtime's Python has it anyway
    if path.stem in ('board', 'runtimes'):
        allowed |= {package.partition('.')[0] for _, package in RUNTIMES.values()}
    nodes = list(ast.walk(tree))
    calls = {n for n in nodes if getattr(getattr(n, 'func', None), 'id', '') == 'dict'}
    dicts = calls | {n for n in nodes if isinstance(n, (ast.Dict, ast.DictComp))}
    hints = [
        getattr(node, f) for node in nodes for f in ('annotation', 'returns') if hasattr(node, f)
    ]
    annotations = {node for hint in filter(None, hints) for node in ast.walk(hint)}
    origins = {
        node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.level == 0
    }
    names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    assert {name.partition('.')[0] for name in origins | names} <= allowed
    assert '__future__' in origins or not annotations
    for node in set(nodes) - annotations:
        if isinstance(node, ast.Subscript):
            assert getattr(node.value, 'id', '') not in GENERICS, ast.unparse(node)
        if isinstance(getattr(node, 'op', None), ast.BitOr):  # of dictionaries since 3.9
            assert dicts.isdisjoint(ast.iter_child_nodes(node)), ast.unparse(node)
        names = (getattr(node, 'attr', None), getattr(node, 'arg', None))
        assert not NEWER.intersection(names), ast.unparse(node)
