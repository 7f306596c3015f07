"""Weight files: read as tensors only, recognised, converted and loaded strictly."""

from .family import Family, Normalisation
from .loader import LoadReport, PretrainedStrict, load_pretrained
from .reader import read_checkpoint, read_tensors

__all__ = [
    'Family',
    'LoadReport',
    'Normalisation',
    'PretrainedStrict',
    'load_pretrained',
    'read_checkpoint',
    'read_tensors',
]
