"""Packs the runner, :mod:`mmshuffle.latency.device`, into the one file that goes to the device."""

import functools
import io
import zipfile
from pathlib import Path

DEVICE = Path(__file__).parent / 'device'
RUNNER = 'runner.pyz'
START = 'from runner.main import main\n\nmain()\n'


@functools.cache
def pack_runner() -> bytes:
    """The runner as a zip archive that Python runs like a script."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, 'w', zipfile.ZIP_DEFLATED) as archive:
        archive.writestr('__main__.py', START)
        for path in sorted(DEVICE.glob('*.py')):
            archive.writestr(f'runner/{path.name}', path.read_bytes())
    return packed.getvalue()


@functools.cache
def bootstrap_code() -> str:
    """The text for ``python3 -c`` that makes, fills and removes the folder on the device."""
    return (DEVICE / 'bootstrap.py').read_text(encoding='utf-8')
