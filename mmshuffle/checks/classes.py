"""A check that heads have as many classes as the data set."""

import inspect
from collections.abc import Iterator, Mapping
from typing import Any

from mmdet.registry import DATASETS, MODELS

from .dataset_config import class_names, type_name
from .problem import Problem, as_list

# Heads by their place in a detector; the others count something else.
HEADS = ('bbox_head', 'mask_head', 'segm_head', 'panoptic_head', 'semantic_head')
ROI_HEADS = ('bbox_head', 'mask_head', 'point_head', 'mask_iou_head')


def check_class_counts(
    model: Mapping[str, Any], dataset: Mapping[str, Any], where: str = 'model'
) -> Iterator[Problem]:
    """Compare every head's number of classes with the classes of a data set.

    Args:
        model: A detector's config.
        dataset: Config of a data set of it.
        where: The model's place in the config.
    """
    if isinstance(model.get('detector'), Mapping) and 'semi_train_cfg' in model:
        yield from check_class_counts(model['detector'], dataset, f'{where}.detector')
    wanted = _wanted(dataset)
    if wanted is None or 'language_model' in model:  # whose heads compare with words
        return
    roi_head = model.get('roi_head') if isinstance(model.get('roi_head'), Mapping) else {}
    places = [(f'{where}.{name}', model.get(name)) for name in HEADS]
    places += [(f'{where}.roi_head.{name}', roi_head.get(name)) for name in ROI_HEADS]
    for place, heads in places:
        several = isinstance(heads, (list, tuple))
        for index, head in enumerate(as_list(heads)):
            at = f'{place}[{index}]' if several else place
            for key, number in wanted.items():
                given = head.get(key, _default(head, key))
                skipped = head.get('class_agnostic') or (
                    key == 'num_classes' and place.endswith('semantic_head')
                )
                if isinstance(given, int) and given != number and not skipped:
                    yield Problem(
                        f'{at}.{key}',
                        f'{given}{"" if key in head else " by default"}, but the data set has '
                        f'{number} classes: set it to {number}',
                    )


def _wanted(dataset: Mapping[str, Any]) -> dict[str, int] | None:
    """What a data set demands of the settings that count classes; None where it is not known."""
    names = class_names(dataset)
    if not names:
        return None
    kind = dataset.get('type')
    kind = kind if isinstance(kind, type) else DATASETS.get(type_name(dataset))
    bases = {base.__name__ for base in getattr(kind, '__mro__', ())}
    if not bases & {'CocoDataset', 'XMLDataset'}:  # of trackers, which count otherwise
        return None
    info = {**(getattr(kind, 'METAINFO', None) or {}), **(dataset.get('metainfo') or {})}
    things = len(info.get('thing_classes') or names)
    return dict(
        num_classes=things, num_things_classes=things, num_stuff_classes=len(names) - things
    )


def _default(head: Mapping[str, Any], key: str) -> Any:
    """What a head takes for a setting that is not given."""
    kind = head.get('type')
    kind = kind if isinstance(kind, type) else MODELS.get(type_name(head))
    for base in getattr(kind, '__mro__', ()):
        parameter = inspect.signature(base.__init__).parameters.get(key)
        if parameter is not None:
            return parameter.default
    return None
