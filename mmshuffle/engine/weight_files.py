"""Writing files that hold tensors by name and nothing else."""

import hashlib
import io
from collections.abc import Mapping
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor

from mmshuffle.errors import UserError
from mmshuffle.weights import read_tensors
from mmshuffle.weights.download import digest_in
from mmshuffle.weights.loader import COUNTER, check_finite
from mmshuffle.weights.zoo import SCHEME

from .files import write

SUFFIXES = ('.safetensors', '.pth')


def encode(tensors: Mapping[str, Tensor], suffix: str) -> bytes:
    """Make the content of a weight file; equal tensors give equal bytes."""
    # Copies, because safetensors refuses tensors that share memory, such as tied weights.
    plain = {name: value.detach().cpu().clone().contiguous() for name, value in tensors.items()}
    if suffix == '.safetensors':
        return safetensors.torch.save(plain)
    # Into memory, because torch.save puts the name of a file into its content.
    buffer = io.BytesIO()
    torch.save(plain, buffer)
    return buffer.getvalue()


def write_weights(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Write a weight file, whole or not at all."""
    check_suffix(path)
    write(encode(tensors, path.suffix), path)


def check_suffix(path: Path) -> None:
    """Refuse a file that could not be written, before anything is read for it."""
    if path.suffix not in SUFFIXES or path.is_dir():
        raise UserError(f'{path}: give a file that ends in {" or ".join(SUFFIXES)}')


def publish(
    source: str | Path,
    target: str | Path,
    suffix: str = '.safetensors',
    backbone_only: bool = False,
    force: bool = False,
) -> tuple[Path, str]:
    """Write the weights of a checkpoint alone, with the start of the file's SHA-256 in its name.

    Args:
        target: Folder, or the beginning of the path; the name then gets ``-HASH`` and ``suffix``.
        backbone_only: Keep what is below ``backbone.``, without that prefix.
        force: Overwrite a file of the same name.

    Raises:
        UserError: The checkpoint has no such tensors, one has numbers that are NaN or infinite, or
            the file exists.
    """
    tensors = read_tensors(source)
    # mmcv's EMA hook keeps the averaged value by the parameter's own name, and the other by a name
    # like ema_backbone_conv1_weight.
    others = {f'ema_{name.replace(".", "_")}' for name in tensors}
    tensors = {name: value for name, value in tensors.items() if name not in others}
    check_finite({n: v for n, v in tensors.items() if not n.endswith(COUNTER)}, str(source))
    if backbone_only:
        tensors = {
            name.removeprefix('backbone.'): value
            for name, value in tensors.items()
            if name.startswith('backbone.')
        }
        if not tensors:
            raise UserError(f'{source} has nothing below backbone.; leave out --backbone-only')
    content = encode(tensors, suffix)
    sha256 = hashlib.sha256(content).hexdigest()
    folder, stem = _split_target(str(source), str(target))
    path = folder / f'{stem}-{sha256[:8]}{suffix}'
    if path.exists() and not force:
        raise UserError(f'{path} exists; choose another name, or --force to overwrite it')
    write(content, path)
    return path, sha256


def _split_target(source: str, target: str) -> tuple[Path, str]:
    """Folder and first part of the name of a published file."""
    path = Path(target)
    if path.is_dir() or target.endswith('/'):
        name = Path(source).name
        # A name of the zoo, such as mobilenetv1-x1.0, has no suffix.
        stem = name if source.startswith(SCHEME) else Path(name).stem
        return path, stem.removesuffix(f'-{digest_in(name)}')
    stem = path.stem if path.suffix in SUFFIXES else path.name
    return path.parent, stem
