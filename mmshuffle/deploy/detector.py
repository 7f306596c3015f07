"""A detector that takes pictures as they are: a checkpoint's, or an exported one."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmdet.registry import TRANSFORMS
from mmengine.config import Config
from mmengine.dataset import Compose, pseudo_collate
from mmengine.structures import InstanceData
from torch import nn

from mmshuffle.checks.dataset_config import class_names, type_name, unwrapped
from mmshuffle.engine.network import input_channels, load_model
from mmshuffle.errors import UserError
from mmshuffle.weights import read_checkpoint

from . import board
from .normalise import Normalise


class Detector:
    """Detects on pictures of any size, prepared by the test pipeline of a config.

    Args:
        cfg: Of a detector, with ``test_dataloader``.
        checkpoint: Weights, a model that has them, or a whole detector that ``tools/export.py``
            wrote (such as ``.onnx``, or ``.json``), which prepares pictures by itself.
        device: Where PyTorch computes; other runtimes take the CPU.

    Attributes:
        classes: Names by label.

    Raises:
        UserError: The weights do not fit, or are of other classes than the config's.
    """

    def __init__(self, cfg: Config, checkpoint: str | nn.Module, device: str = 'cpu') -> None:
        _, dataset = next(unwrapped(cfg, 'test_dataloader'))
        self.classes = class_names(dataset) or ()
        steps = without_annotations(dataset['pipeline'])
        self._board = None
        if isinstance(checkpoint, nn.Module):
            self._model = checkpoint
        elif Path(checkpoint).suffix in ('.json', *board.RUNTIMES):
            try:
                self._board = board.Detector(Path(checkpoint).with_suffix('.json'))
            except board.Wrong as error:
                raise UserError(str(error)) from None
        else:
            check_classes(checkpoint, self.classes)
            self._model = load_model(cfg, checkpoint).to(device)
        wrap = dict(type='mmdet.LoadImageFromNDArray', to_float32=steps[0].get('to_float32', False))
        with TRANSFORMS.switch_scope_and_registry('mmdet'):
            self._load, self._wrap, self._prepare = map(Compose, (steps[:1], [wrap], steps[1:]))

    def __call__(self, picture: str | Path | np.ndarray) -> InstanceData:
        """Detect on one picture.

        Args:
            picture: Path, or (H, W, C) uint8 as OpenCV reads it.

        Returns:
            ``bboxes`` (K, 4) as (x1, y1, x2, y2) in pixels of the picture, ``scores`` (K,) and
            ``labels`` (K,), on the CPU.

        Raises:
            UserError: The picture cannot be read.
        """
        if isinstance(picture, np.ndarray):
            item = self._wrap(dict(img=picture, img_id=0))
        else:
            item = load_picture(self._load, picture)
        if self._board:
            found = as_instances(self._board(as_array(item)))
        else:
            with torch.no_grad():
                (sample,) = self._model.test_step(pseudo_collate([self._prepare(item)]))
            found = sample.pred_instances.cpu()
        if len(found) and found.labels.max() >= len(self.classes):
            raise UserError(
                f'the detector has more classes than the {len(self.classes)} of the config: give '
                'the config that it was trained with'
            )
        return found


def load_picture(steps: Compose, path: str | Path) -> dict:
    """Do steps of a test pipeline, of which the first loads the file of a picture.

    Raises:
        UserError: It cannot be read.
    """
    try:
        return steps(dict(img_path=str(path), img_id=0, gt_label=0))
    except Exception:  # each decoder has its own
        raise UserError(f'{path} cannot be read: it does not decode; repair or remove it') from None


def as_array(item: dict) -> np.ndarray:
    """A loaded picture as a board takes it: (H, W, C) uint8."""
    picture = item['img'].astype(np.uint8)
    return picture.reshape(*picture.shape[:2], -1)


def as_instances(found: board.Detections) -> InstanceData:
    """Detections of a board as MMDetection has them."""
    return InstanceData(**dict(zip(('bboxes', 'scores', 'labels'), map(torch.from_numpy, found))))


def picture_facts(cfg: Config, model: nn.Module) -> dict[str, Any]:
    """What the device has to know of pictures, see :func:`mmshuffle.deploy.board.prepare`.

    Raises:
        UserError: The test pipeline does with them what is not done there.
    """
    _, dataset = next(unwrapped(cfg, 'test_dataloader'), (None, {}))
    channels, preprocessor = input_channels(model), model.data_preprocessor
    fill, keep_ratio = torch.full((channels,), float(preprocessor.pad_value)), False
    first = Normalise.of(preprocessor, channels)
    if first is not None:
        fill = torch.linalg.solve(first.conv.weight[..., 0, 0], fill - first.conv.bias).detach()
    for step in dataset.get('pipeline', ()):
        kind = type_name(step)
        if kind == 'Resize':
            keep_ratio = bool(step.get('keep_ratio', False))
        elif kind == 'Pad':
            value = step.get('pad_val', 0)
            value = value.get('img', 0) if isinstance(value, Mapping) else value
            fill = torch.tensor(value, dtype=torch.float).expand(channels)
        elif not kind.startswith(('Load', 'Pack')):
            raise UserError(
                f'the test pipeline has a step {kind}, and an exported detector resizes and pads '
                'only: leave it out, or export --part neck'
            )
    classes = list(class_names(dataset) or ()) if dataset else []
    return dict(classes=classes, keep_ratio=keep_ratio, fill=[round(x, 3) for x in fill.tolist()])


def without_annotations(pipeline: Sequence[dict]) -> list[dict]:
    """A test pipeline for pictures that have none.

    Raises:
        UserError: The first step does not load an image.
    """
    steps = [step for step in pipeline if 'LoadAnnotations' not in type_name(step)]
    if not steps or not type_name(steps[0]).startswith('LoadImage'):
        raise UserError('the test pipeline does not begin with a step that loads an image')
    return steps


def check_classes(checkpoint: str, classes: Sequence[str]) -> None:
    """Refuse a checkpoint that was trained on other classes than a config's."""
    content = read_checkpoint(checkpoint)
    meta = content.get('meta') if isinstance(content, Mapping) else None
    meta = (meta.get('dataset_meta') if isinstance(meta, Mapping) else None) or {}
    trained = tuple(meta.get('classes') or meta.get('CLASSES') or ())
    if trained and trained != tuple(classes):
        first, second = (
            ', '.join(names[:5]) + f', ... ({len(names)} in all)' * (len(names) > 5)
            for names in (trained, classes)
        )
        raise UserError(
            f'{checkpoint} was trained on the classes ({first}) and the config has ({second}): '
            'give the config that it was trained with'
        )
