"""Measuring Android devices: the programs' outputs, and a scripted device behind ``adb``."""

import dataclasses
import os
from pathlib import Path

import pytest

from mmshuffle.latency.device.state import read_state
from mmshuffle.latency.measure import INTERRUPTED, Recording, measure
from mmshuffle.latency.plan import Plan, setting
from mmshuffle.latency.record import make_record
from mmshuffle.latency.report import to_markdown
from mmshuffle.latency.request import find_work, make_request
from mmshuffle.latency.targets import AdbTarget, make_target
from mmshuffle.latency.targets.adb import PROGRAMS
from tests.conftest import refused

from .tiny import QUICK, ask, stop_after

# As the programs print them; figures are made up.
BENCHNCNN = """loop_count = 5
num_threads = 1
powersave = 2
gpu_device = -1
cooling_down = 0
         conv4.param  min =    1.25  max =    1.75  avg =    1.50
"""
BENCHMARK_MODEL = """INFO: STARTING!
INFO: Running benchmark for at least 1 iterations and at least 0.5 seconds
INFO: count=11 first=48000 curr=44000 min=43000 max=49000 avg=45000.5 std=1500

INFO: Running benchmark for at least 5 iterations and at least 0 seconds
INFO: count=5 first=32000 curr=34000 min=32000 max=34000 avg=33250.5 std=450

INFO: Inference timings in us: Init: 855, First inference: 48000, Inference (avg): 33250.5
"""
EXECUTOR_RUNNER = """I ExecuTorch: Model executed successfully 9 time(s) in 99.0 ms.
I ExecuTorch: Model executed successfully 2 time(s) in 8.5 ms.
I ExecuTorch: 1 outputs:
"""
# Pushes into a folder and runs commands of the shell there; what it is asked is written down.
ADB = """
printf '%s\\037' "$@" >> {log}
echo >> {log}
if [ "$1" = -s ]; then shift 2; fi
if [ -e {trouble} ]; then
    IFS='|' read -r words said < {trouble}
    case "$*" in *"$words"*) echo "$said" >&2; exit 1;; esac
fi
there() {{ printf %s "$1" | sed 's#/data/local/tmp#{folder}#g'; }}
if [ "$1" = push ]; then cp "$2" "$(there "$3")"; else sh -c "$(there "$2")"; fi
"""
GETPROP = """
case $1 in
  ro.build.version.release) echo 99;;
  ro.soc.manufacturer) echo Maker;;
  ro.soc.model) echo Chip 1;;
esac
"""


class Phone:
    def __init__(self, folder: Path) -> None:
        self.folder, self.log, self.trouble = (folder / n for n in ('data', 'log', 'trouble'))
        names = ('benchncnn', 'benchmark_model', 'executor_runner-android')
        self.benchncnn, self.benchmark_model, self.executor_runner = (folder / n for n in names)
        for path in (self.folder, folder / 'bin'):
            path.mkdir(parents=True)
        programs = {
            'bin/adb': ADB.format_map(vars(self)),
            'bin/getprop': GETPROP,
            'benchncnn': f'cat >&2 <<EOF\n{BENCHNCNN}EOF\n',
            'benchmark_model': f'cat <<EOF\n{BENCHMARK_MODEL}EOF\n',
            # What it says is in the system's log alone, behind what an older run has said.
            'executor_runner-android': '',
            'bin/logcat': f'cat <<EOF\n{EXECUTOR_RUNNER}EOF\n',
        }
        for name, text in programs.items():
            (folder / name).write_text(f'#!/bin/sh\n{text}')
            (folder / name).chmod(0o755)

    def asked(self) -> list[list[str]]:
        return [line.split('\037')[:-1] for line in self.log.read_text().splitlines()]

    def measure(self, plan: Plan, *progress) -> Recording:
        return measure(plan, AdbTarget(None, str(self.benchncnn)), ask(protocol=QUICK), *progress)

    def fail(self, words: str, message: str) -> None:
        self.trouble.write_text(f'{words}|{message}')


@pytest.fixture
def phone(tmp_path, monkeypatch) -> Phone:
    monkeypatch.setenv('PATH', f'{tmp_path / "phone/bin"}:{os.environ["PATH"]}')
    return Phone(tmp_path / 'phone')


@pytest.fixture
def plan(plan) -> Plan:
    plan.cases = [
        dataclasses.replace(case, setting=setting('ncnn', precision='fp16')) for case in plan.cases
    ]
    return plan


def test_phone_is_measured_and_left_clean(phone, plan):
    target = make_target('adb:SERIAL-1', binary=str(phone.benchncnn))
    recording = measure(plan, target, ask(protocol=QUICK, cores='big'))
    assert recording.problem is None
    # Three calls of two runs each a session, of which the program prints the mean.
    assert [case.sessions for case in recording.cases] == [[[[1.5]] * 3] * 2] * 2
    assert recording.device['soc'] == 'Maker Chip 1' and recording.device['os'] == 'Android 99'
    assert list(phone.folder.iterdir()) == []
    asked = phone.asked()
    assert all(words[:2] == ['-s', 'SERIAL-1'] for words in asked)
    calls = [words[3] for words in asked if 'param=' in words[-1]]
    folder = calls[0].split(' ')[1]
    assert calls[0] == (f"cd {folder} && ./benchncnn 2 1 2 -1 0 param=conv4.param 'shape=[8,8,3]'")


@pytest.mark.parametrize(
    'serial',
    [
        *('R58M12ABCDE', 'emulator-5554', '192.168.1.5:5555', 'pixel.local:5555', '[fe80::1]:5555'),
        *('[fe80::1%wlan0]:5555', 'adb-R58M12ABCDE-a1b2c3._adb-tls-connect._tcp', 'usb:1-2.3'),
        *('adb-R58M12ABCDE-a1b2c3 (2)._adb-tls-connect._tcp', '????????????', 'localhost:5555'),
    ],
)
def test_serials_are_taken_as_adb_lists_them(phone, serial):
    target = make_target(f'adb:{serial}', binary=str(phone.benchncnn))
    target.probe(ask(target='adb', runtimes=['ncnn'], precisions=['fp16']))
    assert {tuple(words[:2]) for words in phone.asked()} == {('-s', serial)}
    assert target.name == f'adb:{serial}' and list(phone.folder.iterdir()) == []


def test_unchecked_figures_are_not_ranked(phone, plan):
    target = AdbTarget(None, str(phone.benchncnn))
    recording = measure(plan, target, ask(protocol=QUICK))
    record = make_record(recording, target, dict(protocol=QUICK))
    for result in record['results']:
        assert result['gate_error'] is None
        assert result['reasons'] == ['outputs not checked: the program shows none']
        assert result['options']['sample'] == 'mean of 2 runs'
    rows = [line for line in to_markdown(record).splitlines() if line.startswith('| conv')]
    assert len(rows) == 2 and all('| - |' in row for row in rows)


@pytest.mark.parametrize(
    ('program', 'role', 'ms', 'command'),
    [
        ('benchmark_model', 'tflite', 33.2505, '--graph={} --num_threads=1 --num_runs=2'),
        ('executor_runner', 'pte', 4.25, '--model_path={} --cpu_threads=1 --num_executions=2'),
    ],
)
def test_other_programs_run_their_files(phone, plan, tmp_path, program, role, ms, command):
    runtime = PROGRAMS[program][0]
    file = tmp_path / f'net.{role}'
    file.write_bytes(b'TFL3')
    plan.files = {file.name: file}
    changes = dict(setting=setting(runtime), files={role: file.name})
    plan.cases = [dataclasses.replace(plan.cases[0], **changes)]
    target = AdbTarget(None, str(getattr(phone, program)))
    recording = measure(plan, target, ask(protocol=QUICK))
    assert recording.problem is None and recording.cases[0].sessions == [[[ms]] * 3] * 2
    assert recording.cases[0].version.startswith(f'{program}, sha256 ')
    assert any(f' && ./{program} {command.format(file.name)}' in c[-1] for c in phone.asked())


def test_a_litert_file_is_measured_as_it_is(phone, tmp_path):
    (tmp_path / 'net.tflite').write_bytes(b'TFL3')
    plan = Plan(tmp_path)
    asked = dict(models=[str(tmp_path / 'net.tflite')], target='adb', runtimes=['litert'])
    ((network, shapes),) = find_work(ask(**asked, shapes=[(8, 8)]))
    list(plan.add(network, shapes, [setting('litert')]))
    recording = measure(plan, AdbTarget(None, str(phone.benchmark_model)), ask(protocol=QUICK))
    assert recording.cases[0].sessions == [[[33.2505]] * 3] * 2


def test_device_cannot_write_files_here(phone, tmp_path, monkeypatch):
    outside = tmp_path / 'outside'
    target = AdbTarget(None, str(phone.benchncnn))
    text = f'@@ {outside}\nx\n@@ ../../outside\nx\n@@ proc/loadavg\n1.50 0 0 1/1 1\n'
    monkeypatch.setattr(target, '_shell', lambda *words: text)
    assert target._read(read_state)['load'] == 1.5 and not outside.exists()


@pytest.mark.parametrize(
    'words, message, expected',
    [
        ('mkdir', 'adb: no devices/emulators found', 'allow USB debugging'),
        ('mkdir', 'error: device unauthorized.', 'dialog on its screen'),
        ('mkdir', 'error: more than one device/emulator', 'adb:SERIAL'),
        ('push', 'adb: error: failed to copy: No space left on device', 'remove something'),
        ('shape=', 'sh: ./benchncnn: not executable: 64-bit ELF file', 'another architecture'),
        ('shape=', 'layer Foo not exists or registered', 'layer Foo not exists'),
    ],
)
def test_faults_end_in_one_line_and_leave_nothing(phone, plan, words, message, expected):
    phone.fail(words, message)
    recording = phone.measure(plan)
    assert recording.problem.startswith('adb: ') and '\n' not in recording.problem
    assert message in recording.problem and expected in recording.problem
    assert list(phone.folder.iterdir()) == []


def test_phone_that_is_unplugged_keeps_what_was_measured(phone, plan):
    def unplug(done: float) -> None:
        if done > 0.5:
            phone.fail('shell', "error: device 'X' not found")

    recording = phone.measure(plan, unplug)
    assert "device 'X' not found" in recording.problem
    assert recording.cases[0].sessions[0] == [[1.5]] * 3


def test_ctrl_c_keeps_what_was_measured(phone, plan):
    recording = phone.measure(plan, stop_after(2))
    assert recording.problem == INTERRUPTED and recording.cases[0].sessions == [[[1.5]]]
    assert list(phone.folder.iterdir()) == []


@pytest.mark.parametrize(
    'options, expected',
    [
        (dict(precisions=['fp32']), '--precision fp16'),
        (dict(precisions=['fp32', 'fp16']), '--precision fp16'),
        (dict(runtimes=['ncnn', 'onnxruntime']), '--runtime ncnn'),
        (dict(what='gate'), 'cannot check outputs'),
        (dict(what='profile', runtimes=['onnxruntime']), 'cannot check outputs'),
        (dict(cores='0'), 'takes big or little'),
    ],
)
def test_what_the_program_cannot_do_is_refused_beforehand(phone, options, expected):
    options = dict(models=['a'], target='adb', runtimes=['ncnn'], precisions=['fp16']) | options
    with refused(expected):
        AdbTarget(None, str(phone.benchncnn)).probe(make_request(options))
    assert not phone.log.exists()


def test_a_program_that_prints_no_figures_is_told(phone, plan):
    phone.benchncnn.write_text('#!/bin/sh\necho layer Foo not exists\n')
    said = 'benchncnn prints no figures: layer Foo not exists'
    assert said in phone.measure(plan).problem


@pytest.mark.parametrize(
    'serial, binary',
    [
        *((s, 'benchncnn') for s in ('a;b', '-s', ' a', 'a\nb', 'a`b`')),
        *((None, name) for name in (None, 'absent', 'bin/adb')),
    ],
)
def test_target_without_device_or_program_is_refused(phone, serial, binary):
    path = None if binary is None else str(phone.folder.parent / binary)
    with refused():
        AdbTarget(serial, path)
