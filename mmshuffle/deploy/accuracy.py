"""What a runtime does to a network's accuracy; int8 is refused where that lost much."""

import copy
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmdet.registry import DATASETS, TRANSFORMS
from mmengine.config import Config
from mmengine.dataset import Compose
from mmengine.evaluator import Evaluator
from mmengine.structures import InstanceData
from torch import Tensor, nn
from tqdm import tqdm

from mmshuffle.checks.dataset_config import unwrapped
from mmshuffle.classification.listing import EXTENSIONS
from mmshuffle.engine.network import load_model_config, predict
from mmshuffle.engine.progress import quiet_screen
from mmshuffle.errors import UserError

from . import board
from .detector import as_array, as_instances, load_picture, without_annotations
from .formats import Format, Inference, Paths
from .part import Part
from .quantise import Calibrated, Recipe, choose

# From the path of a picture to ``bboxes`` in its pixels, ``scores`` and ``labels``, or, of a
# classifier, to the scores, (K,).
Look = Callable[[str], InstanceData | Tensor]
# Figures of evaluators that tell how good a network is: name, and its points in a unit.
FIGURES = {
    'accuracy/top1': ('top-1', 1),
    'coco/bbox_mAP': ('AP', 100),
    'pascal_voc/mAP': ('AP', 100),
}
# Images that the error of each layer is computed on.
SHOWN_IMAGES = 4
WORST = 5  # layers that are named


class Preparing:
    """Makes a network's input of the file of a picture.

    Args:
        cfg: Of a classifier, whose test pipeline is used, or of a detector.
        shape: Height and width of the input.
        facts: Of a detector, how a board prepares pictures, see :func:`.board.prepare`; else None.
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
        source: A folder of pictures, with those below it, or a config, whose training set is taken.
        count: How many, evenly spread.
        prepare: Makes the images; those of another shape are resized.
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
            (image, *_), shape = self.prepare(path), self.prepare.shape
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
    """Let a runtime compute a part of a model as it was exported, and PyTorch the rest."""
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


def evaluate(cfg: dict, look: Look, title: str, count: int | None = None) -> dict[str, float]:
    """Evaluate on the test set of a config, or on ``count`` of its images, evenly spread.

    Args:
        cfg: Config of a detector or classifier, with ``test_dataloader`` and ``test_evaluator``.

    Returns:
        The figures of the evaluator, such as ``coco/bbox_mAP``.
    """
    with quiet_screen():
        dataset = DATASETS.build(cfg['test_dataloader']['dataset'])
        evaluator = Evaluator(cfg['test_evaluator'])
    evaluator.dataset_meta = dataset.metainfo
    chosen = spread(range(len(dataset)), count)
    if len(chosen) < len(dataset):  # what is in images that nobody looked at is not missed
        for metric in evaluator.metrics:
            metric.img_ids = [dataset.get_data_info(index).get('img_id') for index in chosen]
    for index in tqdm(chosen, title, unit='image'):
        sample = dataset[index]['data_samples']
        found = look(dataset.get_data_info(index)['img_path'])
        if isinstance(found, Tensor):
            sample = dict(scores=found, gt_label=sample)
        else:
            sample.pred_instances = found
        evaluator.process(data_samples=[sample])
    with quiet_screen():
        return evaluator.evaluate(len(chosen))


def spread(items: Sequence, count: int | None) -> list:
    """Take ``count`` of the items, evenly spread; all where None or where there are fewer."""
    if count is None or count >= len(items):
        return list(items)
    return [items[i * len(items) // count] for i in range(count)]


def points(cfg: Config, look: Look, title: str, count: int | None) -> tuple[str, float]:
    """Name and points, of 100, of the figure of :func:`evaluate` that tells most.

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


@dataclass
class Int8:
    """Writes a checked float32 file in int8, as ``convert`` of :func:`.export.export`.

    Attributes:
        layers: Layers in int8, after the writing.
        accuracy: Name of the figure, and its points before and after.
        errors: How much single layers change the outputs, the worst first; only where it was
            computed.
    """

    format: Format
    recipe: Recipe
    pictures: Sequence[np.ndarray]  # inputs that show the ranges; (1, C, H, W) each
    keep: Sequence[str] = ()  # layers that stay in float32, see :func:`.quantise.choose`
    # Tells, for a runtime and the title of a progress bar, the name and the points of what tells
    # how good a network is; None: the accuracy is not looked at.
    points: Callable[[Inference, str], tuple[str, float]] | None = None
    max_drop: float = 1.0  # in points
    show_errors: bool = False  # compute `errors` also where nothing is wrong
    outputs: Sequence[int] = ()  # which ones the errors are computed of; all where empty
    layers: list[str] = field(default_factory=list)
    accuracy: dict[str, Any] | None = None
    errors: dict[str, float] | None = None

    def __call__(self, module: nn.Module, checked: Paths, paths: Paths) -> None:
        """Write ``paths``.

        Raises:
            UserError: The accuracy falls by more than ``max_drop``, or no layer can be int8.
        """
        calibrated = self.format.calibrate(module, checked, self.pictures, self.recipe)
        self.layers = choose(calibrated, self.keep)
        calibrated.write(self.layers, paths)
        run, drop = self._load(paths), 0.0
        finite = all(np.isfinite(output).all() for output in run(next(iter(self.pictures))))
        if self.points is not None:
            name, before = self.points(self._load(checked), 'fp32')
            name, after = self.points(run, 'int8')
            self.accuracy = dict(name=name, fp32=before, int8=after)
            drop = before - after
        refused = drop > self.max_drop or not finite
        if refused or self.show_errors:
            spare = [path.with_name(f'one-{path.name}') for path in paths]
            self.errors = self._errors(calibrated, checked, spare)
        if refused:
            raise UserError(self._complaint(drop))

    def _load(self, paths: Paths) -> Inference:
        return self.format.load(paths, threads=torch.get_num_threads())

    def _errors(self, calibrated: Calibrated, checked: Paths, spare: Paths) -> dict[str, float]:
        """How much each layer changes the outputs where it alone is in int8, the worst first.

        That is the root mean square of the differences over that of the output in float32, the
        largest of all outputs.
        """
        images = list(itertools.islice(self.pictures, SHOWN_IMAGES))

        def compute(paths: Paths) -> list[np.ndarray]:
            outputs = [np.array(x, float) for x in zip(*map(self._load(paths), images))]
            return [outputs[index] for index in self.outputs or range(len(outputs))]

        expected, errors = compute(checked), {}
        for name in tqdm(self.layers, 'layers alone in int8', unit='layer'):
            calibrated.write([name], spare)
            squares = [
                np.square(found - wanted).sum() / max(np.square(wanted).sum(), 1e-30)
                for found, wanted in zip(compute(spare), expected, strict=True)
            ]
            errors[name] = float(np.sqrt(np.max(squares)))
        return dict(sorted(errors.items(), key=lambda item: -item[1]))

    def _complaint(self, drop: float) -> str:
        advice = 'keep some in fp32 with --keep-fp32, or try --ranges entropy'
        if not self.recipe.per_channel:
            advice = 'leave --per-tensor out'
        lost = 'puts out infinite values or NaN'
        if drop > self.max_drop:
            lost = f'loses {drop:.1f} points, and --max-drop {self.max_drop:g} is allowed'
        accuracy = f'{self.accuracy_line()}: ' if self.accuracy else ''
        return f'{accuracy}int8 {lost}: it was deleted; {self.errors_line()}; {advice}'

    def accuracy_line(self) -> str:
        """The figures in words."""
        found = self.accuracy
        return f'{found["name"]} {found["fp32"]:.1f} in fp32, {found["int8"]:.1f} in int8'

    def errors_line(self) -> str:
        """The worst layers in words."""
        worst = list(self.errors.items())[:WORST]
        named = ', '.join(f'{name} {error:.1%}' for name, error in worst)
        return f'the worst layers, each alone in int8: {named} of the outputs'

    def as_dict(self) -> dict[str, Any]:
        """What was done, as plain data."""
        kept = dict(layers=self.layers, accuracy=self.accuracy, errors=self.errors)
        return asdict(self.recipe) | dict(calibration_images=len(self.pictures)) | kept
