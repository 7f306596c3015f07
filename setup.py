"""Packaging of mmshuffle.

``configs/``, ``tools/`` and ``model-index.yml`` lie at the repository root, where people look for
them, but mim and mmengine look for them in ``<package>/.mim``. A wheel gets copies there; an
editable install gets links, so that an edited config is the one that is used.
"""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent
BUNDLED = ('configs', 'tools', 'model-index.yml')
NOT_BUNDLED = ('__pycache__', '*.pyc')

# PyTorch is left out on purpose: which build of it fits (CPU, which CUDA) is the machine's affair,
# and pip would replace a working one. The lowest version is 2.4, the first with
# torch.library.custom_op; the doctor checks it (tools/doctor.py, LOWEST_TORCH).
INSTALL_REQUIRES = ['jsonschema>=4', 'numpy', 'pycocotools', 'safetensors', 'tqdm']

# Two distributions of the same import names; tools/bootstrap.py refuses to mix them.
EXTRAS_REQUIRE = {
    'openmmlab': ['mmdet==3.3.0', 'mmengine==0.10.7', 'mmcv==2.1.0', 'setuptools<82'],
    'onedl': ['onedl-mmdetection>=3.5.1', 'onedl-mmengine>=0.10.12', 'onedl-mmcv>=2.3.6'],
    # For tools/export.py and tools/latency.py; each is needed only for its own format.
    'deploy': ['onnx', 'onnxruntime', 'onnxscript', 'ncnn', 'pnnx'],
    'litert': ['litert-torch', 'ai-edge-litert'],  # converts on x86-64 Linux only
    'executorch': ['executorch'],
    # For tools/test.py --eval-backend, and for tools/compare.py --html.
    'report': ['faster-coco-eval', 'hotcoco', 'plotly'],
    'dev': ['pytest', 'pytest-xdist', 'ruff', 'hypothesis'],
}


def read_version() -> str:
    """Read ``__version__`` without importing the package, which would need PyTorch."""
    text = (ROOT / 'mmshuffle' / '__init__.py').read_text(encoding='utf-8')
    match = re.search(r"^__version__ = ['\"]([^'\"]+)['\"]", text, re.MULTILINE)
    if match is None:
        raise RuntimeError('mmshuffle/__init__.py has no __version__ line')
    return match.group(1)


def read_readme() -> str:
    """Return README.md, or nothing where only the package was unpacked."""
    path = ROOT / 'README.md'
    return path.read_text(encoding='utf-8') if path.is_file() else ''


def bundle(target: Path, link: bool) -> None:
    """Place the bundled paths in ``target`` (a ``.mim`` folder).

    Args:
        target: the folder; what an earlier build left in it is replaced.
        link: make relative symbolic links; where the file system refuses them, copy.
    """
    target.mkdir(parents=True, exist_ok=True)
    for name in BUNDLED:
        source, place = ROOT / name, target / name
        if place.is_dir() and not place.is_symlink():
            shutil.rmtree(place)
        else:
            place.unlink(missing_ok=True)
        if not source.exists():
            continue
        if link:
            try:
                place.symlink_to(os.path.relpath(source, target), source.is_dir())
                continue
            except OSError:
                print(f'no symbolic links here: copying {name}, run pip again after editing it')
        if source.is_dir():
            shutil.copytree(source, place, ignore=shutil.ignore_patterns(*NOT_BUNDLED))
        else:
            shutil.copy2(source, place)


class BuildPy(build_py):
    """``build_py`` that also fills ``mmshuffle/.mim``."""

    def run(self) -> None:
        """Build the package, then bundle: links into the source tree if editable, else copies."""
        super().run()
        parent = ROOT if self.editable_mode else Path(self.build_lib)
        bundle(parent / 'mmshuffle' / '.mim', link=self.editable_mode)

    def get_source_files(self) -> list[str]:
        """Name the bundled files too, so that an sdist holds what its wheel needs."""
        files = [ROOT / name for name in BUNDLED if (ROOT / name).is_file()]
        for name in BUNDLED:
            files += [p for p in (ROOT / name).rglob('*') if p.is_file() and p.suffix != '.pyc']
        return [*super().get_source_files(), *(str(p.relative_to(ROOT)) for p in files)]


if __name__ == '__main__':
    setup(
        name='mmshuffle',
        version=read_version(),
        description='ShuffleNet V1/V2 and MobileNet V1 backbones for MMDetection 3.x',
        long_description=read_readme(),
        long_description_content_type='text/markdown',
        license='Apache-2.0',
        python_requires='>=3.10',
        packages=[*find_packages(include=['mmshuffle', 'mmshuffle.*']), 'mmshuffle_command'],
        package_dir={'mmshuffle_command': 'tools/command'},
        entry_points={'console_scripts': ['mmshuffle = mmshuffle_command:main']},
        package_data={
            'mmshuffle.analysis.tables': ['*.json'],
            'mmshuffle.latency': ['*.json', 'targets/count.c'],
            'mmshuffle.weights': ['*.json'],
        },
        include_package_data=False,
        install_requires=INSTALL_REQUIRES,
        extras_require=EXTRAS_REQUIRE,
        cmdclass={'build_py': BuildPy},
        zip_safe=False,
    )
