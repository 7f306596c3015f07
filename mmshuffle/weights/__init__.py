"""Weight files: read as tensors only, recognised, converted and loaded strictly."""

from .loader import PretrainedStrict, load_pretrained
from .reader import read_checkpoint, read_tensors

__all__ = ['PretrainedStrict', 'load_pretrained', 'read_checkpoint', 'read_tensors']
