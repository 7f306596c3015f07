"""The part of :mod:`mmshuffle.environment` that runs in the interpreter under examination.

``python _probe.py '[[DISTRIBUTION, ...], [PROBE, ...]]'`` prints JSON lines marked with ``@@``: the
versions first, then one line before and one after every probe. When an import kills the process,
the last ``start`` without a result names the culprit.
"""

import importlib
import importlib.machinery
import importlib.metadata as metadata
import importlib.util
import json
import os
import sys


def say(**fields):
    """Print one record at once, so that it is out before anything crashes."""
    print('@@' + json.dumps(fields), flush=True)


def probe_torch():
    """Return PyTorch's version and what it sees of CUDA."""
    import torch

    cuda = torch.cuda.is_available()
    count = torch.cuda.device_count() if cuda else 0
    return {
        'version': torch.__version__,
        'cuda': torch.version.cuda,
        'cudnn': torch.backends.cudnn.version() if cuda else None,
        'gpus': [torch.cuda.get_device_name(i) for i in range(count)],
    }


def probe_mmcv_ext():
    """Load mmcv's compiled operations by path.

    Without ``mmcv/__init__.py`` this is a second faster and other faults cannot hide this one.
    """
    import torch  # noqa: F401  (its libraries have to be loaded first)

    mmcv = importlib.util.find_spec('mmcv')
    if mmcv is None:
        raise ModuleNotFoundError("No module named 'mmcv'")
    spec = importlib.machinery.PathFinder.find_spec('mmcv._ext', mmcv.submodule_search_locations)
    if spec is None:
        raise ModuleNotFoundError("No module named 'mmcv._ext'")
    spec.loader.exec_module(importlib.util.module_from_spec(spec))


def probe_mmshuffle():
    """Return the version and the names of the backbones that importing mmshuffle registers."""
    from mmdet.registry import MODELS

    import mmshuffle

    names = [n for n, c in MODELS.module_dict.items() if c.__module__.startswith('mmshuffle.back')]
    return {'version': mmshuffle.__version__, 'backbones': sorted(names)}


def version_of(name):
    """Return an installed distribution's version, or None."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def say_installed(names):
    """Print the interpreter, the versions, and an editable mmshuffle's source and time."""
    found = next(iter(metadata.distributions(name='mmshuffle')), None)
    origin = json.loads((found and found.read_text('direct_url.json')) or '{}')
    records = [f.locate() for f in (found and found.files) or () if f.name == 'RECORD']
    say(
        packages={name: version_of(name) for name in names},
        editable=origin.get('url') if origin.get('dir_info', {}).get('editable') else None,
        installed_at=max((os.path.getmtime(path) for path in records), default=None),
        python={
            'version': sys.version.split()[0],
            'executable': sys.executable,
            'prefix': sys.prefix,
        },
    )


def main():
    """Answer the request in the first argument."""
    # What merely lies in the working directory or beside this file is not installed.
    not_installed = ('', os.path.dirname(os.path.abspath(__file__)))
    sys.path[:] = [path for path in sys.path if path not in not_installed]
    names, probes = json.loads(sys.argv[1])
    if names:
        say_installed(names)
    for name in probes:
        say(start=name)
        probe = globals().get('probe_' + name)
        try:
            fields = probe() if probe else importlib.import_module(name) and None
            say(probe=name, ok=True, **(fields or {}))
        except BaseException as e:
            lines = str(e).strip().splitlines() or ['']
            say(probe=name, ok=False, error=f'{type(e).__name__}: {lines[0][:300]}')


if __name__ == '__main__':
    main()
