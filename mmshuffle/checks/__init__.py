"""What is wrong with a config, its data or its input, found before a run.

:func:`check_config` does all of it; the other functions are its parts.
"""

from .classifier import check_classifier_model, is_classifier_config
from .config import check_config
from .dataset import check_datasets
from .dataset_config import LOADERS, is_local
from .detector import check_model
from .problem import Problem, raise_on

__all__ = [
    'LOADERS',
    'Problem',
    'check_classifier_model',
    'check_config',
    'check_datasets',
    'check_model',
    'is_classifier_config',
    'is_local',
    'raise_on',
]
