"""An Android device, by the system's ``adb``, with a benchmark program that the user brings.

Neither program shows the outputs that it computes, so nothing is checked on the device, and figures
from here are never ranked. A phone with Python (Termux, with its ssh server) is measured in full by
the target ``ssh``.
"""

import hashlib
import re
import shlex
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from mmshuffle.errors import UserError, last_line
from mmshuffle.latency.device import loop, state
from mmshuffle.latency.device.bootstrap import PREFIX

from .base import DeviceError, Event, Target, advise

PARENT = '/data/local/tmp'
# Of USB, TCP (also IPv6 with its zone), an emulator, mDNS (also its second of a name).
SERIAL = re.compile(r'[\w\[?][\w.:,%()\[\]?+/#@=~ -]*')


class Program(NamedTuple):
    """A benchmark program; the last figures that it prints are those of the measured runs."""

    runtime: str
    role: str  # of the file that it is given
    words: str  # behind its name, with what differs from network to network in braces
    figures: str  # pattern of its ``mean``, or what is that of all ``runs``
    unit: float = 1.0  # of it, in milliseconds


PROGRAMS = {
    # Runs, threads, cluster, no GPU, no pause of ten seconds; files of one's own since June 2023.
    'benchncnn': Program(
        *('ncnn', 'param'),
        '{loops} {threads} {powersave} -1 0 param={file} shape=[{width},{height},{channels}]',
        r'min =\s*[\d.]+\s+max =\s*[\d.]+\s+avg =\s*(?P<mean>[\d.]+)',
    ),
    'benchmark_model': Program(
        *('litert', 'tflite'),
        '--graph={file} --num_threads={threads} --num_runs={loops} --min_secs=0',
        r'count=\d+.*?\bmin=[\d.e+]+\s+max=[\d.e+]+\s+avg=(?P<mean>[\d.e+]+)',
        1e-3,
    ),
    # Built for Android, it tells its figures to the system's log alone.
    'executor_runner': Program(
        *('executorch', 'pte'),
        '--model_path={file} --cpu_threads={threads} --num_executions={loops} '
        '&& logcat -d -s ExecuTorch:I',
        r'executed successfully (?P<runs>\d+) time\(s\) in (?P<mean>[\d.]+) ms',
    ),
}
PROGRAMS_OR = ' or '.join(PROGRAMS)
# benchncnn's names of clusters.
POWERSAVE = {None: 0, 'little': 1, 'big': 2}
# Files that say what the device is and does; the script has no word of the user's in it.
STATE_SCRIPT = (
    'cd /; for f in proc/cpuinfo proc/meminfo proc/loadavg '
    'sys/devices/system/cpu/online sys/devices/system/cpu/present '
    'sys/devices/system/cpu/cpu[0-9]*/cpu_capacity '
    'sys/devices/system/cpu/cpu[0-9]*/cpufreq/cpuinfo_max_freq '
    'sys/devices/system/cpu/cpu[0-9]*/cpufreq/scaling_cur_freq '
    'sys/devices/system/cpu/cpu[0-9]*/cpufreq/scaling_governor '
    'sys/class/thermal/thermal_zone*/type sys/class/thermal/thermal_zone*/temp '
    'sys/class/thermal/cooling_device*/type sys/class/thermal/cooling_device*/cur_state; '
    'do echo "@@ $f"; cat "$f" 2>/dev/null; done; true'
)
NAMES_SCRIPT = (
    'uname -m; uname -r; getprop ro.build.version.release; getprop ro.soc.manufacturer; '
    'getprop ro.soc.model; getprop ro.product.model; true'
)
HINTS = {
    'no devices': 'connect it and allow USB debugging',
    'unauthorized': 'allow this computer in the dialog on its screen',
    'more than one device': 'give the serial, as adb:SERIAL; adb devices lists them',
    'offline': 'connect it anew',
    'not found': 'check the serial with adb devices',
    'No space left': 'remove something there',
    'not executable': 'the program is for another architecture',
    'Exec format error': 'the program is for another architecture',
}


class AdbTarget(Target):
    """A device that ``adb`` knows.

    Args:
        serial: Which one; the only one where None.
        binary: The program, one of :data:`PROGRAMS`, built for the device.
        keep: Leave the files there.

    Raises:
        UserError: ``adb`` or the program is missing, or it is another one.
    """

    kind = 'adb'

    def __init__(
        self, serial: str | None = None, binary: str | None = None, keep: bool = False
    ) -> None:
        if serial is not None and SERIAL.fullmatch(serial) is None:
            raise UserError(f'adb:{serial!r}: give a serial as adb devices lists it')
        if shutil.which('adb') is None:
            raise UserError('the target adb needs adb: apt-get install adb')
        if binary is None or not Path(binary).is_file():
            raise UserError(f'the target adb needs --binary, a {PROGRAMS_OR} for the device')
        found = [program for program in PROGRAMS if program in Path(binary).name]
        if not found:
            raise UserError(f'--binary {binary}: give {PROGRAMS_OR}')
        self.serial, self.keep = serial, keep
        self.binary, self.program = Path(binary), found[0]
        self._folder = f'{PARENT}/{PREFIX}{uuid.uuid4().hex[:8]}'

    @property
    def name(self) -> str:
        return self.kind if self.serial is None else f'adb:{self.serial}'

    def make_folder(self) -> dict[str, Any]:
        self._shell('mkdir', self._folder)
        return dict(folder=self._folder)

    def remove_folder(self, folder: str) -> bool:
        self._shell('rm', '-r', folder)
        return True

    def send(self, files: Mapping[str, Path]) -> None:
        for name, path in {**files, self.program: self.binary}.items():
            if not name.endswith('.f32'):  # outputs, which no program here compares
                self._adb('push', str(path), f'{self._folder}/{name}')
        self._shell('chmod', '755', f'{self._folder}/{self.program}')

    def run(self, job: dict[str, Any]) -> Iterator[Event]:
        """As of every target, but a sample is the mean of some runs."""
        powersave = POWERSAVE[job['cores']]
        yield dict(event='device', device=self._device())
        loops = job['protocol']['block_loops']
        options = dict(sample=f'mean of {loops} runs', program=self.program)
        digest = hashlib.sha256(self.binary.read_bytes()).hexdigest()[:12]
        version = f'{self.program}, sha256 {digest}'
        for run in job['runs']:
            yield dict(event='loaded', run=run['id'], version=version, options=options)
        yield dict(event='state', when='before', state=self._read(state.read_state))

        def block(number: int, wanted: int) -> tuple[float, int, float]:
            mean = self._measure(job['runs'][number], loops, powersave)
            return mean, loops, loops * mean / 1e3

        for number, mean, done in loop.take_turns(len(job['runs']), job['protocol'], block):
            run = job['runs'][number]['id']
            yield dict(event='times', run=run, ms=[mean], cpu=[], done=done)
        yield dict(event='state', when='after', state=self._read(state.read_state))

    def probe(self, request: Mapping[str, Any]) -> dict[str, Any]:
        runtime = PROGRAMS[self.program].runtime
        if request['what'] != 'measure':
            raise DeviceError('the target adb cannot check outputs or profile')
        if request['cores'] not in (POWERSAVE if runtime == 'ncnn' else (None,)):
            raise DeviceError('--cores: with the target adb, benchncnn takes big or little')
        if request['runtimes'] != [runtime]:
            raise DeviceError(f'{self.program}: give --runtime {runtime}')
        if runtime == 'ncnn' and request['precisions'] != ['fp16']:
            raise DeviceError('benchncnn computes in half precision: give --precision fp16')
        return super().probe(request)

    def _measure(self, run: dict[str, Any], loops: int, powersave: int) -> float:
        """Mean milliseconds of some runs of the program."""
        program = PROGRAMS[self.program]
        names = dict(zip(('channels', 'height', 'width'), run['input'][1:]), powersave=powersave)
        names |= dict(file=run['files'][program.role], threads=run['threads'], loops=loops)
        words = [word.format_map(names) for word in program.words.split()]
        text = self._shell('cd', self._folder, '&&', f'./{self.program}', *words)
        means = [
            program.unit * float(found['mean']) / int(found.groupdict().get('runs', 1))
            for found in re.finditer(program.figures, text)
        ]
        if not means or not means[-1] > 0:
            raise DeviceError(f'{self.program} prints no figures: {last_line(text)}')
        return means[-1]

    def _device(self) -> dict[str, Any]:
        lines = [line.strip() for line in self._shell(NAMES_SCRIPT).splitlines()]
        machine, kernel, release, maker, chip, product = (lines + [''] * 6)[:6]
        device = self._read(state.read_device)
        soc = ' '.join(filter(None, (maker, chip))) or product or device['soc']
        changes = dict(machine=machine, kernel=kernel, os=f'Android {release}', soc=soc)
        return dict(device, **changes, product=product, python=None, libc=None)

    def _read(self, read: Callable[[Path], dict[str, Any]]) -> dict[str, Any]:
        """Read a copy of what the device's files say like those of Linux."""
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder)
            for part in self._shell(STATE_SCRIPT).split('@@ ')[1:]:
                name, _, content = part.partition('\n')
                path = root / name.strip()
                # What is not below ``root`` no honest device names.
                if '*' in name or '..' in name or not content.strip() or root not in path.parents:
                    continue
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(content)
            return read(root)

    def _shell(self, *words: str) -> str:
        """Run a command on the device; every word is quoted, but ``&&`` and a script alone."""
        quoted = [word if word == '&&' else shlex.quote(word) for word in words]
        return self._adb('shell', ' '.join(quoted if len(words) > 1 else words))

    def _adb(self, *words: str) -> str:
        command = ['adb', *(['-s', self.serial] if self.serial else []), *words]
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, start_new_session=True
        )
        # benchncnn prints its figures to the standard error.
        text = (done.stdout + done.stderr).decode(errors='replace')
        if done.returncode != 0:
            said = advise(text, HINTS) or f'{last_line(text)} (exit code {done.returncode})'
            raise DeviceError(f'{self.name}: {said}')
        return text
