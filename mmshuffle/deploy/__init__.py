"""Networks for other runtimes: rewriting them without changing their function, and exporting."""

from .export import FORMATS, ExportReport, export
from .fold import fold_batchnorm
from .shuffle_free import shuffle_free

__all__ = ['FORMATS', 'ExportReport', 'export', 'fold_batchnorm', 'shuffle_free']
