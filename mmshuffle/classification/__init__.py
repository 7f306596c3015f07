"""Training and testing image classifiers on mmengine: pretraining on ImageNet, and fine-tuning."""

from .classifier import ImageClassifier
from .dataset import ImageFolder
from .heads import ConvHead, HiddenLayersHead, LinearHead
from .metric import Accuracy
from .preprocessor import BatchNormalizer
from .random_resized_crop import LoadRandomResizedCrop
from .transforms import ColorJitter, PackClassInputs

__all__ = [
    'Accuracy',
    'BatchNormalizer',
    'ColorJitter',
    'ConvHead',
    'HiddenLayersHead',
    'ImageClassifier',
    'ImageFolder',
    'LinearHead',
    'LoadRandomResizedCrop',
    'PackClassInputs',
]
