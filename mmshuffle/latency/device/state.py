"""What the device is, and the state it is in: read from Linux's and Android's files, never set."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

CPU = 'sys/devices/system/cpu'
# Names of Arm's cores by the part number that /proc/cpuinfo prints (Arm's manuals, MIDR_EL1).
ARM_PARTS = dict(
    re.findall(
        r'(\w+) ([^,]+)',
        'd03 Cortex-A53, d04 Cortex-A35, d05 Cortex-A55, d07 Cortex-A57, d08 Cortex-A72, '
        'd09 Cortex-A73, d0a Cortex-A75, d0b Cortex-A76, d0c Neoverse N1, d0d Cortex-A77, '
        'd40 Neoverse V1, d41 Cortex-A78, d42 Cortex-A78AE, d44 Cortex-X1, d46 Cortex-A510, '
        'd47 Cortex-A710, d48 Cortex-X2, d49 Neoverse N2, d4d Cortex-A715, d4e Cortex-X3',
    )
)


def read_text(path: Path) -> str | None:
    """A file of one value; None where it is absent, forbidden or not readable now."""
    try:
        return path.read_text(errors='replace').replace('\0', ' ').strip()
    except OSError:
        return None


def read_number(path: Path) -> int | None:
    """A file of one whole number; None where there is none."""
    text = read_text(path)
    return int(text) if text and re.fullmatch(r'-?\d+', text) else None


def read_device(root: Path = Path('/')) -> dict[str, Any]:
    """What does not change: SoC, cores, memory, operating system, Python."""
    cores = read_cores(root)
    return dict(
        soc=read_soc(root),
        machine=platform.machine(),
        cores=cores,
        clusters=[
            [core['number'] for core in cores if core['online'] and rank(core) == value]
            for value in sorted({rank(core) for core in cores if core['online']})
        ],
        memory_mb=_memory(root, 'MemTotal'),
        os=_os_name(root),
        kernel=platform.release(),
        python=platform.python_version(),
        libc=' '.join(platform.libc_ver()),
    )


def read_soc(root: Path) -> str | None:
    """Name of the board or chip, from the first place that has one."""
    named = read_text(root / 'proc/device-tree/model')
    if not named and root == Path('/'):
        words = [_run(['getprop', key]) for key in ('ro.soc.manufacturer', 'ro.soc.model')]
        named = ' '.join(filter(None, words))
    kinds = r'^(?:Hardware|model name|Processor)\s*:\s*(.+)$'
    return named or _find(kinds, root / 'proc/cpuinfo')


def read_cores(root: Path) -> list[dict[str, Any]]:
    """Number, kind, highest frequency in kHz, relative capacity of each core; is it online?"""
    blocks = re.split(r'\n\s*\n', read_text(root / 'proc/cpuinfo') or '')
    parts: dict[int, str] = {}
    for block in blocks:
        number = re.search(r'^processor\s*:\s*(\d+)', block, re.MULTILINE)
        part = re.search(r'^CPU part\s*:\s*(0x[0-9a-f]+)', block, re.MULTILINE)
        if number and part:
            code = part.group(1)
            parts[int(number.group(1))] = ARM_PARTS.get(code[2:], code)
    folders = [p for p in (root / CPU).glob('cpu[0-9]*') if p.name[3:].isdigit()]
    online, present = (parse_cores(read_text(root / CPU / n) or '') for n in ('online', 'present'))
    numbers = {*present, *(int(p.name[3:]) for p in folders)} or range(os.cpu_count() or 1)
    return [
        dict(
            number=n,
            online=not online or n in online,
            kind=parts.get(n),
            max_khz=read_number(root / CPU / f'cpu{n}/cpufreq/cpuinfo_max_freq'),
            capacity=read_number(root / CPU / f'cpu{n}/cpu_capacity'),
        )
        for n in sorted(numbers)
    ]


def parse_cores(text: str) -> list[int]:
    """Numbers of a list such as ``0,2-3``."""
    bounds = [part.partition('-') for part in text.split(',') if part]
    return [n for a, _, b in bounds for n in range(int(a), int(b or a) + 1)]


def rank(core: dict[str, Any]) -> tuple[int, int, str]:
    """What orders cores from little to big."""
    if core['capacity']:
        return core['capacity'], 0, ''
    return 0, core['max_khz'] or 0, core['kind'] or ''


def read_state(root: Path = Path('/')) -> dict[str, Any]:
    """What changes: frequencies, governors, temperatures, throttling, load, free memory."""
    frequency = {str(c['number']): f'cpu{c["number"]}/cpufreq/scaling_' for c in read_cores(root)}
    celsius = {}
    for zone in sorted((root / 'sys/class/thermal').glob('thermal_zone*')):
        name = f'{zone.name.replace("thermal_zone", "")} {read_text(zone / "type")}'
        celsius[name] = read_celsius(read_number(zone / 'temp'))
    load = read_text(root / 'proc/loadavg')
    return dict(
        khz=_known({n: read_number(root / CPU / f'{f}cur_freq') for n, f in frequency.items()}),
        governor=_known({n: read_text(root / CPU / f'{f}governor') for n, f in frequency.items()}),
        celsius=_known(celsius),
        throttling=read_throttling(root),
        load=float(load.split()[0]) if load else None,
        memory_available_mb=_memory(root, 'MemAvailable'),
    )


def _known(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value not in (None, '')}


def read_celsius(value: int | None) -> float | None:
    """Degrees of a thermal zone, in thousandths, or, on some boards, in whole ones or tenths.

    Whatever is no temperature of a device in any of them is a sensor that is off.
    """
    if value is None:
        return None
    celsius = value / (1 if -1000 < value < 150 else 10 if 0 < value < 1500 else 1000)
    return celsius if -40 <= celsius < 150 else None


def read_throttling(root: Path) -> dict[str, int]:
    """Signs of throttling that are not 0.

    A Raspberry Pi's flags (its bit 0: under-voltage, 1: frequency capped, 2: throttled, and 16 to
    18: so since the start), cooling devices of the processor at work, and x86's counters.
    """
    found = {}
    for path in (root / 'sys/devices/platform').glob('soc*/*firmware/get_throttled'):
        flags = read_text(path)
        if flags:
            found['raspberry pi flags'] = int(flags, 16)
    for path in (root / 'sys/class/thermal').glob('cooling_device*'):
        kind = read_text(path / 'type') or ''
        if 'cpufreq' in kind:
            found[f'{path.name} {kind}'] = read_number(path / 'cur_state') or 0
    for path in (root / CPU).glob('cpu[0-9]*/thermal_throttle/core_throttle_count'):
        found[f'{path.parents[1].name} count'] = read_number(path) or 0
    return {name: value for name, value in found.items() if value}


def _find(pattern: str, path: Path) -> str | None:
    found = re.search(pattern, read_text(path) or '', re.MULTILINE)
    return found.group(1).strip() if found else None


def _memory(root: Path, key: str) -> int | None:
    found = _find(rf'^{key}:\s*(\d+) kB', root / 'proc/meminfo')
    return int(found) // 1024 if found else None


def _os_name(root: Path) -> str:
    named = _find(r'^PRETTY_NAME="?([^"\n]+)', root / 'etc/os-release')
    release = '' if named else _run(['getprop', 'ro.build.version.release'])
    return named or (f'Android {release}' if release else f'{platform.system()} {sys.platform}')


def _run(command: list[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=5)
    except (OSError, subprocess.SubprocessError):
        return ''
    return done.stdout.strip()
