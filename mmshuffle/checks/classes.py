"""A check that heads have as many classes as the data set."""

from collections.abc import Iterator, Mapping
from typing import Any

from mmshuffle.data.finetune import class_settings

from .dataset_config import class_names, class_of
from .problem import Problem


def check_class_counts(model: Mapping[str, Any], dataset: Mapping[str, Any]) -> Iterator[Problem]:
    """Compare every setting of a detector that counts classes with the classes of a data set."""
    names, kind = class_names(dataset), class_of(dataset)
    # Data sets of trackers count otherwise, and detectors with a language model compare with words.
    read_alike = {base.__name__ for base in getattr(kind, '__mro__', ())}
    if not names or not read_alike & {'CocoDataset', 'XMLDataset'} or 'language_model' in model:
        return
    info = {**(getattr(kind, 'METAINFO', None) or {}), **(dataset.get('metainfo') or {})}
    things = len(info.get('thing_classes') or names)
    wanted = dict(
        num_classes=things, num_things_classes=things, num_stuff_classes=len(names) - things
    )
    for place, part, key, given in class_settings(model):
        if isinstance(given, int) and given != wanted[key]:
            yield Problem(
                f'{place}.{key}',
                f'{given}{"" if key in part else " by default"}, but the data set has '
                f'{wanted[key]} classes: set it to {wanted[key]}',
            )
