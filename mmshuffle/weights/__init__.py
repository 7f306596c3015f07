"""Weight files: read as tensors only, recognised, converted and loaded strictly."""

from .loader import LoadReport, load_pretrained, split_init_cfg
from .reader import read_checkpoint, read_tensors

__all__ = ['LoadReport', 'load_pretrained', 'read_checkpoint', 'read_tensors', 'split_init_cfg']
