"""Reading weight files, of any format and origin, without running anything that they contain."""

import io
import os
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import mmengine.fileio
import numpy as np
import safetensors.torch
from mmengine.logging import print_log
from mmengine.runner import checkpoint as mmengine_checkpoint
from mmengine.runner.checkpoint import CheckpointLoader
from torch import Tensor

from mmshuffle.errors import UserError, one_line, way_to_train

from .download import cache_path, fetch
from .state import Weights, as_tensor, find_weights
from .torch_file import read_archive, read_stream
from .unpickler import Budget
from .zoo import SCHEME, TORCHVISION, find_entry, find_remote

# How other files begin, what they are, and what to do.
OTHERS = {
    b'\x93NUMPY': 'is one array without a name; save it with numpy.savez, by its name',
    b'\x89HDF': 'is an HDF5 file, of Keras perhaps; save its arrays by name with numpy.savez',
    b'\x1f\x8b': 'is compressed; unpack it with gunzip',
    b'BZh': 'is compressed; unpack it with bunzip2',
    b'\xfd7zXZ': 'is compressed; unpack it with unxz',
    b'version https://git-lfs': 'is a pointer of Git LFS and not the file; run git lfs pull',
    b'<': 'is a web page and no weight file; get the file itself',
}


def read_checkpoint(source: str | Path) -> Any:
    """Read what a weight file holds.

    The format is told by the content: both of ``torch.save``, other pickles, safetensors and npz.
    Objects other than tensors, arrays and plain data are not rebuilt, see
    :class:`~mmshuffle.weights.unpickler.Unread`. Tensors are on the CPU.

    Args:
        source: Path, http(s) address, zoo name, or an address that mmengine has a backend for.

    Raises:
        UserError: The file is missing, damaged or of another format.
    """
    with open_source(source) as stream:
        try:
            return _read(stream, str(source))
        except OSError as error:  # of the disk
            raise UserError(f'weight file {source} cannot be read: {error.strerror}') from None


def read_tensors(source: str | Path) -> dict[str, Tensor]:
    """Read every tensor of a weight file by name; see :func:`read_weights`."""
    return read_weights(source).tensors


def read_weights(source: str | Path) -> Weights:
    """Find the weights in a file that :func:`read_checkpoint` reads."""
    return _find(read_checkpoint(source), source)


def _find(content: Any, source: str | Path) -> Weights:
    weights = find_weights(content)
    if not weights.tensors:
        raise UserError(f'{source} has no tensors by name in it; save a model.state_dict()')
    return weights


def open_source(source: str | Path) -> BinaryIO:
    """Open a weight file; what is elsewhere is downloaded first.

    Raises:
        UserError: There is no such file, or it cannot be fetched.
    """
    remote = find_remote(str(source))
    if remote is not None:
        return open(fetch(*remote, check=_check), 'rb')
    if '://' in str(source):
        return io.BytesIO(_from_backend(str(source)))
    path = Path(os.path.expanduser(source))
    if os.path.isdir(path):
        raise UserError(f'weight file {path} is a folder; give the path of a file')
    if not os.path.isfile(path):
        way = way_to_train(path)
        raise UserError(f'weight file {path} does not exist; give an existing file{way}')
    try:
        return open(path, 'rb')
    except OSError as error:
        raise UserError(f'weight file {path} cannot be read: {error.strerror}') from None


def path_if_here(source: str | Path) -> Path | None:
    """Path of a weight file if nothing has to be downloaded for it, else None."""
    source = str(source)
    if source.startswith(TORCHVISION) and find_entry(source) is None:
        return None  # only torchvision, which takes seconds to import, knows its address
    remote = find_remote(source)
    here = (
        os.path.expanduser(source) if remote is None else cache_path(remote.url, remote.file_name)
    )
    return Path(here) if os.path.isfile(here) else None


def _read(stream: BinaryIO, name: str) -> Any:
    head = stream.read(512)
    size = stream.seek(0, io.SEEK_END)
    stream.seek(0)
    if not head:
        raise UserError(f'{name} is damaged: it is empty; get it anew')
    # The length of its header comes first, which may begin like anything.
    safe = head[8:9] == b'{' and int.from_bytes(head[:8], 'little') < size
    for begin, problem in OTHERS.items():
        if not safe and head.lstrip().startswith(begin):
            raise UserError(f'{name} {problem}')
    if head[257:262] == b'ustar' and not safe:
        raise UserError(f'{name} is an archive; unpack it with tar')
    try:
        if safe:
            return safetensors.torch.load(stream.read())
        if head.startswith(b'PK'):
            return _read_zip(stream, name, Budget(size))
        return read_stream(stream, Budget(size))
    except UserError:
        raise
    except Exception as error:  # from damaged bytes readers raise anything
        reason = one_line(error)
        # Of a byte that stands for no operation.
        reason = 'no pickle' if isinstance(error, KeyError) and reason.isdigit() else reason
        raise UserError(f'{name} is damaged, or no weight file ({reason})') from None


def _read_zip(stream: BinaryIO, name: str, budget: Budget) -> Any:
    with zipfile.ZipFile(stream) as archive:
        names = archive.namelist()
        expanded = sum(info.file_size for info in archive.infolist())
        # People compress them, but a file that holds far more than its size is none.
        if expanded > budget.left:
            raise UserError(f'{name} would expand to {expanded / 1e9:.1f} GB: it is no weight file')
        if names and all(n.endswith('.npy') for n in names):
            stream.seek(0)
            return _read_npz(stream)
        if any(re.search(r'(^|/)constants\.pkl$', n) for n in names):
            raise UserError(f'{name} is a TorchScript program; save its state_dict with torch.save')
        pickled = [n for n in names if re.fullmatch(r'([^/]+/)?data\.pkl', n)]
        if len(pickled) != 1:
            raise UserError(f'{name} is an archive without tensors; unpack it')
        return read_archive(archive, pickled[0], budget)


def _read_npz(stream: BinaryIO) -> dict[str, Tensor]:
    tensors = {}
    with np.load(stream, allow_pickle=False) as arrays:
        for name in arrays.files:
            try:
                array = arrays[name]
            except ValueError as error:
                if 'Object arrays' in str(error):
                    continue  # such as settings that were saved along
                raise
            tensors[name] = as_tensor(array)
    return {name: value for name, value in tensors.items() if value is not None}


def _check(path: Path, url: str) -> None:
    """Refuse a download that cannot be read, as when it was cut short."""
    with open(path, 'rb') as stream:
        _read(stream, url)


def _from_backend(source: str) -> bytes:
    try:
        return mmengine.fileio.get(source)
    except Exception as error:  # of whichever client
        raise UserError(
            f'{source} cannot be fetched ({one_line(error)}); fetch the file and give its path'
        ) from None


def load_from_mmshuffle(source: str, map_location: Any = None) -> Any:
    """Read a file for mmengine, whose own readers leave it to PyTorch's default what is run."""
    content = read_checkpoint(source)
    training = isinstance(content, Mapping) and isinstance(content.get('state_dict'), Mapping)
    if training and 'meta' in content and not source.startswith('mmcls://'):
        return content
    weights = _find(content, source)
    for note in weights.notes:
        print_log(f'{source}: {note}', logger='current')
    below = 'backbone.' if source.startswith('mmcls://') else ''  # as mmengine does
    tensors = {
        name.removeprefix(below): value
        for name, value in weights.tensors.items()
        if name.startswith(below)
    }
    return dict(state_dict=tensors)


# mmengine logs the function's name without its first ten letters.
for _scheme, _loader in list(CheckpointLoader._schemes.items()):
    if _loader.__module__ == mmengine_checkpoint.__name__:
        CheckpointLoader.register_scheme(_scheme, load_from_mmshuffle, force=True)
CheckpointLoader.register_scheme(SCHEME, load_from_mmshuffle, force=True)
