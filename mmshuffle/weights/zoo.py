"""Published ImageNet weights by name: where they are, whose they are, which backbone they fit.

A name such as ``mmshuffle://torchvision/shufflenetv2-x1.0`` stands wherever a checkpoint's path
may. The figures are their publishers'; the files are not part of this project, and their licences
hold.
"""

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, NamedTuple
from urllib.parse import urlparse

from mmengine.runner import checkpoint as mmengine_checkpoint

from mmshuffle.errors import UserError

from .download import digest_in
from .family import RELU6

SCHEME = 'mmshuffle://'
TORCHVISION = 'torchvision://'


class Remote(NamedTuple):
    """A file on the web, as :func:`mmshuffle.weights.download.fetch` takes it."""

    url: str
    sha256: str | None = None
    file_name: str | None = None


@dataclass(frozen=True)
class Entry:
    """One published file.

    Attributes:
        name: Publisher and network.
        url: Address of the file.
        family: Name of the :class:`~mmshuffle.weights.Family`, which tells the input, too.
        licence: SPDX name of the licence of the release.
        top1: ImageNet validation top-1 accuracy in percent, one 224x224 crop, as published.
        source: Who publishes that figure.
        network: Config of the backbone that the file fits.
        aliases: Names behind ``torchvision://`` in mmengine.
        sha256: SHA-256 of the file, where its address does not end in the first digits.
    """

    name: str
    url: str
    family: str
    licence: str
    top1: float
    source: str
    network: dict[str, Any]
    aliases: tuple[str, ...] = ()
    sha256: str | None = None

    @property
    def digest(self) -> str:
        """SHA-256 of the file in hex digits, or the first of them."""
        return self.sha256 or digest_in(self.url)

    @property
    def remote(self) -> Remote:
        """Address, hash and a name in the cache that tells files of one name apart."""
        name = PurePosixPath(urlparse(self.url).path).name
        if digest_in(name) is None:
            suffix = PurePosixPath(name).suffix
            name = f'{self.name.replace("/", "_")}-{self.digest[:8]}{suffix}'
        return Remote(self.url, self.digest, name)


def _torchvision(
    name: str,
    file: str,
    family: str,
    top1: float,
    network: dict[str, Any],
    weights: str,
    aliases: Iterable[str] = (),
) -> Entry:
    """Make an entry of torchvision's; ``weights`` is the class that it is the entry of."""
    builder, _, version = weights.lower().partition('_weights.')
    return Entry(
        name=f'torchvision/{name}',
        url=f'https://download.pytorch.org/models/{file}',
        family=f'torchvision {family}',
        licence='BSD-3-Clause',
        top1=top1,
        source=f'torchvision {weights}',
        network=network,
        aliases=(f'{builder}.{version}', *aliases),
    )


def _shufflenet_v2(width: float, file: str, top1: float) -> Entry:
    printed = str(width).replace('.', '_')
    builder = f'shufflenet_v2_x{printed}'
    return _torchvision(
        f'shufflenetv2-x{width}',
        file,
        'ShuffleNetV2',
        top1,
        dict(type='ShuffleNetV2', widen_factor=width, layout='torchvision'),
        f'ShuffleNet_V2_X{printed}_Weights.IMAGENET1K_V1',
        (builder, f'{builder}.default', f'shufflenetv2_x{width}'),
    )


def _openmmlab(name: str, path: str, family: str, top1: float, network: dict[str, Any]) -> Entry:
    return Entry(
        name=f'mmpretrain/{name}',
        url=f'https://download.openmmlab.com/mmclassification/v0/{path}',
        family=f'MMPretrain {family}',
        licence='Apache-2.0',
        top1=top1,
        source=f'mmpretrain configs/{path.partition("/")[0]}/README.md',
        network=network,
    )


def _timm(width: float, repository: str, revision: str, sha256: str, top1: float) -> Entry:
    return Entry(
        name=f'timm/mobilenetv1-x{width}',
        url=f'https://huggingface.co/timm/{repository}/resolve/{revision}/model.safetensors',
        family='timm MobileNetV1',
        licence='Apache-2.0',
        top1=top1,
        source='timm README.md of 2024, at 224x224',
        network=dict(type='MobileNetV1', widen_factor=width, act_cfg=RELU6),
        sha256=sha256,
    )


ENTRIES = (
    _shufflenet_v2(0.5, 'shufflenetv2_x0.5-f707e7126e.pth', 60.552),
    _shufflenet_v2(1.0, 'shufflenetv2_x1-5666bf0f80.pth', 69.362),
    _shufflenet_v2(1.5, 'shufflenetv2_x1_5-3c479a10.pth', 72.996),
    _shufflenet_v2(2.0, 'shufflenetv2_x2_0-8be3c8ee.pth', 76.230),
    _openmmlab(
        'shufflenetv2-x1.0',
        'shufflenet_v2/shufflenet_v2_batch1024_imagenet_20200812-5bf4721e.pth',
        'ShuffleNetV2',
        69.55,
        dict(type='ShuffleNetV2', widen_factor=1.0, layout='torchvision'),
    ),
    _openmmlab(
        'shufflenetv1-x1.0-g3',
        'shufflenet_v1/shufflenet_v1_batch1024_imagenet_20200804-5d6cec73.pth',
        'ShuffleNetV1',
        68.13,
        dict(type='ShuffleNetV1', groups=3, widen_factor=1.0),
    ),
    _timm(
        1.0,
        'mobilenetv1_100.ra4_e3600_r224_in1k',
        '6e88b523abded44469eafcd52f7832d5e0300b1b',
        '15c2f1411deb8e0533acbb41fe9523062f80d444d0393e7ad2b429f41378efc3',
        75.382,
    ),
    _timm(
        1.25,
        'mobilenetv1_125.ra4_e3600_r224_in1k',
        '9e2b4f9a089f39eaf59cb38fb5d595f4d78c8064',
        '5616b1d4d774ac5bdf3fb254a72da78a5f27b19aa13bcceac03a743077c6acd8',
        76.924,
    ),
    _torchvision(
        'mobilenetv2-x1.0',
        'mobilenet_v2-b0353104.pth',
        'MobileNetV2',
        71.878,
        dict(type='MobileNetV2', widen_factor=1.0),
        'MobileNet_V2_Weights.IMAGENET1K_V1',
        ('mobilenet_v2',),
    ),
    _torchvision(
        'mobilenetv2-x1.0-v2',
        'mobilenet_v2-7ebf99e0.pth',
        'MobileNetV2',
        72.154,
        dict(type='MobileNetV2', widen_factor=1.0),
        'MobileNet_V2_Weights.IMAGENET1K_V2',
        ('mobilenet_v2.default',),
    ),
    _torchvision(
        'squeezenet-1.0',
        'squeezenet1_0-b66bff10.pth',
        'SqueezeNet 1.0',
        58.092,
        dict(type='SqueezeNet', version='1.0'),
        'SqueezeNet1_0_Weights.IMAGENET1K_V1',
        ('squeezenet1_0', 'squeezenet1_0.default'),
    ),
    _torchvision(
        'squeezenet-1.1',
        'squeezenet1_1-b8a52dc0.pth',
        'SqueezeNet 1.1',
        58.178,
        dict(type='SqueezeNet', version='1.1'),
        'SqueezeNet1_1_Weights.IMAGENET1K_V1',
        ('squeezenet1_1', 'squeezenet1_1.default'),
    ),
    _torchvision(
        'alexnet',
        'alexnet-owt-7be5be79.pth',
        'AlexNet',
        56.522,
        dict(type='AlexNet', version='torchvision'),
        'AlexNet_Weights.IMAGENET1K_V1',
        ('alexnet', 'alexnet.default'),
    ),
)
BY_NAME = {entry.name: entry for entry in ENTRIES}
BY_URL = {entry.url: entry for entry in ENTRIES}
BY_ALIAS = {alias: entry for entry in ENTRIES for alias in entry.aliases}


def find_entry(source: str) -> Entry | None:
    """The entry that a name or an address stands for, None where it is something else.

    Args:
        source: Path, address, ``mmshuffle://NAME`` or ``torchvision://NAME``.

    Raises:
        UserError: ``mmshuffle://`` with a name that does not exist.
    """
    if source.startswith(SCHEME):
        name = source.removeprefix(SCHEME)
        if name not in BY_NAME:
            close = difflib.get_close_matches(name, BY_NAME, n=1, cutoff=0.0)
            raise UserError(
                f'{source} is no name of the zoo: meant {SCHEME}{close[0]}? '
                '(tools/convert_weights.py --list shows all)'
            )
        return BY_NAME[name]
    if source.startswith(TORCHVISION):
        return BY_ALIAS.get(source.removeprefix(TORCHVISION).lower().replace('_weights.', '.'))
    return BY_URL.get(source)


def find_remote(source: str) -> Remote | None:
    """Where on the web a checkpoint is, None where ``source`` is something else.

    Names of mmengine's own lists, such as ``torchvision://resnet50``, are looked up there.

    Raises:
        UserError: A name that does not exist.
    """
    entry = find_entry(source)
    if entry is not None:
        return entry.remote
    scheme, _, name = source.partition('://')
    if scheme in ('http', 'https'):
        return Remote(source)
    if scheme not in LISTS:
        return None
    try:
        urls = LISTS[scheme]()
    except (ImportError, RuntimeError, OSError) as error:
        # torchvision beside another PyTorch than its own fails with one of the latter two.
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(
            f'{source} needs torchvision, which cannot be imported here ({reason}); give the '
            "file's path or address instead"
        ) from None
    url = urls.get(name) or ''
    if urlparse(url).scheme not in ('http', 'https'):
        raise UserError(f"{scheme} has no weights {name}; give the file's path or address")
    return Remote(url)


def _openmmlab_urls() -> dict[str, str]:
    urls = mmengine_checkpoint.get_external_models()
    renamed = mmengine_checkpoint.get_deprecated_model_names()
    return {**urls, **{old: urls[new] for old, new in renamed.items() if new in urls}}


def _torchvision_urls() -> dict[str, str]:
    return mmengine_checkpoint.get_torchvision_models()


# Schemes of mmengine, and the addresses of their names.
LISTS = {
    'torchvision': _torchvision_urls,
    'modelzoo': _torchvision_urls,
    'open-mmlab': _openmmlab_urls,
    'openmmlab': _openmmlab_urls,
    'mmcls': lambda: mmengine_checkpoint.get_mmcls_models(),
}
