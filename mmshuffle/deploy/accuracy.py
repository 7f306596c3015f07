"""What a runtime does to a network's accuracy: pictures, and answers that evaluators take."""

import copy
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmdet.registry import DATASETS, TRANSFORMS
from mmengine.config import Config
from mmengine.dataset import Compose
from mmengine.structures import InstanceData
from torch import Tensor, nn

from mmshuffle.checks.dataset_config import unwrapped
from mmshuffle.classification.listing import EXTENSIONS
from mmshuffle.engine.network import load_model_config, predict
from mmshuffle.engine.progress import quiet_screen
from mmshuffle.errors import UserError

from . import board
from .detections import Look, evaluate, spread
from .detector import as_array, as_instances, load_picture, without_annotations
from .formats import Inference
from .part import Part

# Figures of evaluators that tell how good a network is: name, and its points in a unit.
FIGURES = {
    'accuracy/top1': ('top-1', 1),
    'coco/bbox_mAP': ('AP', 100),
    'pascal_voc/mAP': ('AP', 100),
}


class Preparing:
    """Makes a network's input of the file of a picture.

    Args:
        cfg: Of a classifier, whose test pipeline is used, or of a detector.
        shape: Height and width of the input.
        facts: How a board prepares pictures for a detector, see :func:`.board.prepare`; None for
            a classifier.
    """

    def __init__(self, cfg: Config, shape: Sequence[int], facts: dict[str, Any] | None) -> None:
        _, dataset = next(unwrapped(cfg, 'test_dataloader'), (None, None))
        if dataset is None:
            raise UserError('the config has no test_dataloader, whose pipeline prepares pictures')
        steps = without_annotations(dataset['pipeline'])
        self.shape = tuple(shape)
        self.facts = None if facts is None else dict(facts, shape=self.shape, head=None)
        with TRANSFORMS.switch_scope_and_registry('mmdet'):
            self._pipeline = Compose(steps if facts is None else steps[:1])

    def __call__(self, path: str | Path) -> tuple[Tensor, Sequence[int], Sequence[int]]:
        """Prepare a picture.

        Returns:
            The image, (1, C, height, width) in 0 to 255, height and width of the picture in it, and
            of the picture itself.

        Raises:
            UserError: It cannot be read.
        """
        item = load_picture(self._pipeline, path)
        if self.facts is None:
            image = item['inputs'][None].float()
            return image, image.shape[2:], image.shape[2:]
        picture = as_array(item)
        image, size = board.prepare(picture, self.facts)
        return torch.from_numpy(image), size, picture.shape


class Pictures:
    """Inputs for calibration, made anew of their pictures each time.

    Args:
        source: A folder of pictures, also in folders below it, or a config, whose training set is
            taken.
        count: How many, evenly spread.
        prepare: See :class:`Preparing`; images of another shape are resized.
        part: Whose inputs they are.

    Raises:
        UserError: There are none.
    """

    def __init__(self, source: str, count: int, prepare: Preparing, part: Part) -> None:
        if Path(source).is_dir():
            files = Path(source).rglob('*')
            found = sorted(path for path in files if path.suffix.lower() in EXTENSIONS)
        else:
            found = sorted(data_paths(load_model_config(source), 'train_dataloader'))
        if not found:
            raise UserError(f'--calibrate {source}: there is no picture: give a folder with some')
        self.paths, self.prepare, self.part = spread(found, count), prepare, part

    def __len__(self) -> int:
        return len(self.paths)

    @torch.no_grad()
    def __iter__(self) -> Iterator[np.ndarray]:
        for path in self.paths:
            image, *_ = self.prepare(path)
            shape = self.prepare.shape
            if image.shape[2:] != shape:
                image = nn.functional.interpolate(image, shape, mode='bilinear', antialias=True)
            yield (self.part.prepare or nn.Identity())(image).numpy()


def data_paths(cfg: Config, loader: str) -> Iterator[Path]:
    """Files of the images of a loader."""
    for _, settings in unwrapped(cfg, loader):
        with quiet_screen():
            dataset = DATASETS.build({**settings, 'pipeline': []})
        yield from (Path(dataset.get_data_info(i)['img_path']) for i in range(len(dataset)))


def in_runtime(
    model: nn.Module, part: str, cut_out: Part, prepare: Preparing, run: Inference
) -> Look:
    """Let a runtime compute a part of a model, and PyTorch the rest.

    Args:
        model: The whole model.
        part: What the runtime computes, of :data:`mmshuffle.engine.network.PARTS`.
        cut_out: The part as it was exported.
        prepare: Makes the images.
        run: The runtime.
    """
    rest = copy.deepcopy(model)
    if cut_out.prepare is None:  # the file normalises by itself
        rest.data_preprocessor._enable_normalize = False
        rest.data_preprocessor._channel_conversion = False

    def features(images: Tensor) -> tuple[Tensor, ...]:
        return tuple(torch.from_numpy(output) for output in run(images.numpy()))

    if part == 'neck':
        rest.extract_feat = features
    else:
        rest.backbone.forward = features

    @torch.no_grad()
    def look(path: str) -> Tensor | InstanceData:
        image, size, picture = prepare(path)
        if prepare.facts is None:
            if tuple(size) != prepare.shape:
                raise UserError(
                    f'the test pipeline makes images of {size[0]}x{size[1]}: give --shape '
                    f'{size[0]} {size[1]}, or the pipeline a step that resizes'
                )
            if part == 'classifier':
                return features((cut_out.prepare or nn.Identity())(image))[0][0]
            return rest.test_step(dict(inputs=image, data_samples=None))[0]['scores']
        if part == 'detector':
            outputs = run(image.numpy())
        else:
            found = predict(rest, image[0])
            outputs = [found.bboxes.numpy(), found.scores.numpy(), found.labels.numpy()]
        facts = {**prepare.facts, **cut_out.facts}
        return as_instances(board.finish(outputs, facts, size, picture))

    return look


def points(cfg: Config, look: Look, title: str, count: int | None) -> tuple[str, float]:
    """Name and points, of 100, of the figure of :func:`.detections.evaluate` that tells most.

    Raises:
        UserError: The test evaluator has none that is known.
    """
    figures = evaluate(cfg, look, title, count)
    for key, (name, unit) in FIGURES.items():
        if key in figures:
            return name, unit * figures[key]
    raise UserError(
        f'the test evaluator tells {", ".join(figures)}, and neither top-1 nor AP: give '
        '--test-images 0 to export without'
    )
