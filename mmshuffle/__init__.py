"""Efficient backbones for MMDetection: ShuffleNet V1 and V2, MobileNet V1.

Importing the package registers everything, so that a config needs only
``custom_imports = dict(imports=['mmshuffle'])``.
"""

from . import backbones, classification, data, detection, engine, weights

__version__ = '0.1.0'
__all__ = ['__version__', 'backbones', 'classification', 'data', 'detection', 'engine', 'weights']
