"""int8 that keeps its accuracy: calibrated, written, evaluated, and refused where it lost much."""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from mmshuffle.errors import UserError

from .formats import Format, Inference, Paths
from .quantise import Calibrated, Recipe, choose

# Images that the error of each layer is computed on.
SHOWN_IMAGES = 4
WORST = 5  # layers that are named


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
            self.errors = self._layer_errors(calibrated, checked, spare)
        if refused:
            raise UserError(self._complaint(drop))

    def _load(self, paths: Paths) -> Inference:
        return self.format.load(paths, threads=torch.get_num_threads())

    def _layer_errors(
        self, calibrated: Calibrated, checked: Paths, spare: Paths
    ) -> dict[str, float]:
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
