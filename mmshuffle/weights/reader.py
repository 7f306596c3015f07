"""Reading weight files without executing anything that they contain."""

import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlparse
from zipfile import BadZipFile

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from mmshuffle.errors import UserError

FORMATS = ('.pth', '.pt', '.safetensors', '.npz')


def read_checkpoint(source: str | Path, map_location: Any = 'cpu') -> Any:
    """Read a ``torch.save`` file with PyTorch's weights-only unpickler.

    Args:
        source: Path or http(s) address of the file.
        map_location: Where to put the tensors, as in ``torch.load``.

    Returns:
        What was saved: tensors and plain containers.

    Raises:
        UserError: The file is missing, truncated, or holds more than tensors and plain data.
    """
    path = _existing(source)
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
    except (RuntimeError, EOFError, BadZipFile, OSError, ValueError, KeyError) as error:
        reason = f'{type(error).__name__}: {_first_line(error)}'
        raise UserError(f'{path} is damaged, or not written by torch.save ({reason})') from None


def read_tensors(source: str | Path) -> dict[str, Tensor]:
    """Read every tensor of a weight file by name.

    A state dict inside ``state_dict`` or ``model`` is unwrapped, and the prefix ``module.`` of
    data-parallel training is dropped.

    Args:
        source: Path or http(s) address of a ``.pth``, ``.pt``, ``.safetensors`` or ``.npz`` file.

    Returns:
        Tensors on the CPU by name.

    Raises:
        UserError: The file is missing, damaged, of another format, or has no tensors.
    """
    path = _existing(source)
    if path.suffix == '.safetensors':
        try:
            return load_file(path)
        except SafetensorError as error:
            raise UserError(f'{path} is damaged and cannot be read: {error}') from None
    if path.suffix == '.npz':
        try:
            with np.load(path, allow_pickle=False) as arrays:
                return {name: torch.from_numpy(arrays[name]) for name in arrays.files}
        except (ValueError, BadZipFile, EOFError, TypeError) as error:
            raise UserError(f'{path} is damaged or holds more than arrays: {error}') from None
    if path.suffix not in FORMATS:
        raise UserError(f'{path}: unknown weight format; give one of {", ".join(FORMATS)}')
    content = read_checkpoint(path)
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
    return tensors


def _existing(source: str | Path) -> Path:
    if urlparse(str(source)).scheme in ('http', 'https'):
        return _download(str(source))
    path = Path(source).expanduser()
    if path.is_dir():
        raise UserError(f'weight file {path} is a folder; give the path of a file')
    if not path.is_file():
        raise UserError(f'weight file {path} does not exist; give the path of an existing file')
    return path


def _download(url: str) -> Path:
    """Fetch into torch's hub cache, checking the hash that torch puts into file names."""
    name = Path(urlparse(url).path).name
    path = Path(torch.hub.get_dir()) / 'checkpoints' / name
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        found = re.search(r'-([a-f0-9]{8,})\.', name)
        try:
            torch.hub.download_url_to_file(url, path, hash_prefix=found[1] if found else None)
        except (OSError, RuntimeError) as error:
            raise UserError(
                f'cannot download {url}: {_first_line(error)}; fetch it by hand and give its path'
            ) from None
    return path


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
