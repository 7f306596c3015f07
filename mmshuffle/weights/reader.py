"""Reading weight files without executing anything that they contain."""

import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.runner.checkpoint import CheckpointLoader
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from mmshuffle.errors import UserError, way_to_train

from .download import cache_path, fetch
from .zoo import SCHEME, TORCHVISION, find_entry, find_remote

FORMATS = ('.pth', '.pt', '.safetensors', '.npz')


def read_checkpoint(source: str | Path, map_location: Any = 'cpu') -> Any:
    """Read a ``torch.save`` file with PyTorch's weights-only unpickler.

    Args:
        source: Path, http(s) address or zoo name of the file.
        map_location: Where to put the tensors, as in ``torch.load``.

    Returns:
        What was saved: tensors and plain containers.

    Raises:
        UserError: The file is missing, truncated, or holds more than tensors and plain data.
    """
    path = local_path(source)
    try:
        return torch.load(path, map_location=map_location, weights_only=True)
    except pickle.UnpicklingError as error:
        found = re.search(r'GLOBAL ([\w.]+)', str(error))
        if found is None:
            raise UserError(f'{path} is damaged, or not written by torch.save') from None
        raise UserError(
            f'{path} holds more than tensors and plain data ({found[1]}) and is not read, because '
            'that could run code; save its state_dict alone with torch.save'
        ) from None
    except Exception as error:  # from damaged bytes an unpickler raises anything
        reason = f'{type(error).__name__}: {_first_line(error)}'
        raise UserError(f'{path} is damaged, or not written by torch.save ({reason})') from None


def read_tensors(source: str | Path) -> dict[str, Tensor]:
    """Read every tensor of a weight file by name; see :func:`read_weights`."""
    return read_weights(source)[0]


def read_weights(source: str | Path) -> tuple[dict[str, Tensor], Any]:
    """Read every tensor of a weight file by name, and what a training checkpoint notes beside them.

    A state dict inside ``state_dict`` or ``model`` is unwrapped, and the prefix ``module.`` of
    data-parallel training is dropped.

    Args:
        source: Path, http(s) address or zoo name of a ``.pth``, ``.pt``, ``.safetensors`` or
            ``.npz`` file.

    Returns:
        Tensors on the CPU by name, and the ``meta`` of a training checkpoint; None where there is
        none.

    Raises:
        UserError: The file is missing, damaged, of another format, or has no tensors.
    """
    path = local_path(source)
    if path.suffix == '.safetensors':
        try:
            return load_file(path), None
        except SafetensorError as error:
            raise UserError(f'{path} is damaged and cannot be read: {error}') from None
    if path.suffix == '.npz':
        try:
            with np.load(path, allow_pickle=False) as arrays:
                return {name: torch.from_numpy(arrays[name]) for name in arrays.files}, None
        except Exception as error:  # from damaged bytes zipfile and zlib raise many kinds
            reason = _first_line(error)
            raise UserError(f'{path} is damaged or holds more than arrays: {reason}') from None
    if path.suffix not in FORMATS:
        raise UserError(f'{path}: unknown weight format; give one of {", ".join(FORMATS)}')
    content = read_checkpoint(path)
    meta = content.get('meta') if isinstance(content, Mapping) else None
    for key in ('state_dict', 'model'):
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    tensors = {}
    if isinstance(content, Mapping):
        tensors = {
            str(name).removeprefix('module.'): value
            for name, value in content.items()
            if isinstance(value, Tensor)
        }
    if not tensors:
        raise UserError(f'{path} has no tensors in it; give a file with a state_dict')
    return tensors, meta


def local_path(source: str | Path) -> Path:
    """Path of a weight file on this machine; what is elsewhere is downloaded first.

    Args:
        source: Path, http(s) address, or a name of :mod:`mmshuffle.weights.zoo`.

    Raises:
        UserError: There is no such file, or it cannot be downloaded.
    """
    remote = find_remote(str(source))
    if remote is not None:
        return fetch(*remote)
    path = Path(source).expanduser()
    if path.is_dir():
        raise UserError(f'weight file {path} is a folder; give the path of a file')
    if not path.is_file():
        way = way_to_train(path)
        raise UserError(
            f'weight file {path} does not exist; give the path of an existing file{way}'
        )
    return path


def path_if_here(source: str | Path) -> Path | None:
    """Path of a weight file if nothing has to be downloaded for it, else None.

    Raises:
        UserError: ``source`` is no path, and no address or name that :func:`local_path` takes.
    """
    source = str(source)
    if source.startswith(TORCHVISION) and find_entry(source) is None:
        return None  # only torchvision, which takes seconds to import, knows its address
    remote = find_remote(source)
    path = Path(source).expanduser() if remote is None else cache_path(remote.url, remote.file_name)
    return path if path.is_file() else None


def _read_from_zoo(source: str, map_location: Any = None) -> dict[str, Tensor]:
    return read_tensors(source)


# For what mmengine itself reads, such as `load_from` or the weights of other networks.
CheckpointLoader.register_scheme(SCHEME, _read_from_zoo, force=True)


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
