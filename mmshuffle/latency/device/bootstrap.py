"""Makes, fills and removes the folder of a measurement on the device.

It is passed to ``python3 -c`` as text, before anything is on the device, with an action and its
arguments; it prints a line of JSON. It must therefore be whole in this one file.
"""

import io
import json
import os
import platform
import shutil
import sys
import tarfile
import tempfile
import zipfile

PREFIX = 'mmshuffle-latency-'
# The other side's answer to a result.
TAKEN = b'taken\n'


def prepare(parent=''):
    """Make the folder, readable by its owner only, in ``parent`` or the usual place."""
    folder = tempfile.mkdtemp(prefix=PREFIX, dir=parent or None)
    return dict(
        folder=folder,
        free=shutil.disk_usage(folder).free,
        machine=platform.machine(),
        python=platform.python_version(),
    )


def unpack(folder):
    """Unpack a tar archive from the standard input; wheels in it become the folder ``site``."""
    with tarfile.open(fileobj=sys.stdin.buffer, mode='r|') as archive:
        for member in archive:
            name = os.path.basename(member.name)
            content = archive.extractfile(member)
            if name.endswith('.whl'):
                with zipfile.ZipFile(io.BytesIO(content.read())) as wheel:
                    wheel.extractall(os.path.join(folder, 'site'))
                continue
            with open(os.path.join(folder, name), 'wb') as file:
                shutil.copyfileobj(content, file)
    return {}


def remove(folder):
    """Remove the folder, if it is one that :func:`prepare` has made."""
    if os.path.basename(folder).startswith(PREFIX):
        shutil.rmtree(folder, ignore_errors=True)
    return dict(removed=not os.path.exists(folder))


def is_taken(result):
    """Print a result; returns whether the other side, which may be gone, has taken note of it."""
    try:
        print(json.dumps(result), flush=True)
        # In front of it may be zeros, the end of an archive, which tarfile does not read.
        return sys.stdin.buffer.readline().lstrip(b'\0') == TAKEN
    except OSError:
        return False


def main(action, *arguments):
    """Run an action; what goes wrong is printed as ``problem``.

    A folder that the other side does not know of, or has not filled to the end, is removed.
    """
    try:
        result = dict(prepare=prepare, unpack=unpack, remove=remove)[action](*arguments)
    except (OSError, tarfile.TarError, zipfile.BadZipFile) as error:
        result = dict(problem=getattr(error, 'strerror', None) or str(error))
    if not is_taken(result) and action != 'remove':
        remove(arguments[0] if action == 'unpack' else result.get('folder', ''))


if __name__ == '__main__':
    main(*sys.argv[1:])
