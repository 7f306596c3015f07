"""Published ImageNet weights by name: ``zoo.json``, one file a line.

A name such as ``mmshuffle://torchvision/shufflenetv2-x1.0`` stands wherever a checkpoint's path
may. The figures are their publishers'; the files are not part of this project, and their licences
hold.
"""

import difflib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple
from urllib.parse import urlparse

from mmengine.runner import checkpoint as mmengine_checkpoint

from mmshuffle.errors import UserError

from .download import digest_in

SCHEME = 'mmshuffle://'
TORCHVISION = 'torchvision://'


class Remote(NamedTuple):
    """A file on the web, as :func:`mmshuffle.weights.download.fetch` takes it."""

    url: str
    sha256: str | None = None
    file_name: str | None = None


@dataclass(frozen=True)
class Entry:
    """One published file."""

    name: str
    url: str
    family: str  # name of the :class:`.family.Family`, which tells the input, too
    licence: str
    top1: float  # ImageNet validation top-1 accuracy in percent, one 224x224 crop, as published
    source: str  # who publishes that figure
    network: dict[str, Any]  # config of the backbone that the file fits
    aliases: Sequence[str] = ()  # names behind ``torchvision://`` in mmengine
    sha256: str | None = None  # of the file, where its address does not end in the first digits

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


ENTRIES = tuple(
    Entry(**row) for row in json.loads(Path(__file__).with_name('zoo.json').read_text('utf-8'))
)
BY_NAME = {entry.name: entry for entry in ENTRIES}
BY_URL = {entry.url: entry for entry in ENTRIES}
BY_ALIAS = {alias: entry for entry in ENTRIES for alias in entry.aliases}


def find_entry(source: str) -> Entry | None:
    """The entry that a name or an address stands for, None where it is something else.

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


# Schemes of mmengine, and the addresses of their names.
LISTS = {
    'torchvision': lambda: mmengine_checkpoint.get_torchvision_models(),
    'open-mmlab': _openmmlab_urls,
    'mmcls': lambda: mmengine_checkpoint.get_mmcls_models(),
}
LISTS |= dict(modelzoo=LISTS['torchvision'], openmmlab=_openmmlab_urls)
