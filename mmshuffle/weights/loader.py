"""Loading pretrained weights into a network: strictly, and with a report."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from mmengine.logging import print_log
from mmengine.model.weight_init import update_init_info
from mmengine.registry import WEIGHT_INITIALIZERS
from torch import Tensor, nn

from mmshuffle.errors import UserError

from .families import hints, recognise
from .family import Normalisation, check_settings, noted_settings
from .reader import read_weights
from .state import Weights

# BatchNorm counts its batches, which matters only without momentum, and converters lack the count.
COUNTER = 'num_batches_tracked'


@dataclass
class LoadReport:
    """What became of each tensor of a checkpoint and of the network."""

    source: str
    family: str
    matched: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)  # in the checkpoint
    unexpected: list[str] = field(default_factory=list)  # of no use, such as a classifier
    # Name, shape in the checkpoint, shape in the network.
    misshapen: list[tuple[str, tuple[int, ...], tuple[int, ...]]] = field(default_factory=list)
    excused: list[str] = field(default_factory=list)  # missing or misshapen, as allowed
    normalisation: Normalisation | None = None  # of the training, where the family tells
    hints: list[str] = field(default_factory=list)  # settings of the training that are other
    notes: Sequence[str] = ()  # what was chosen in the file, such as moving averages

    @property
    def fits(self) -> bool:
        """Whether the checkpoint has all that the network needs, and anything of it at all."""
        matched = any(not name.endswith(COUNTER) for name in self.matched)
        return matched and not self.missing and not self.misshapen

    def __str__(self) -> str:
        shapes = [f'{name} {found} for {needed}' for name, found, needed in self.misshapen]
        counts = (
            f'{self.source} ({self.family}): {len(self.matched)} matched, '
            f'{_count(self.missing, "missing")}, {_count(self.unexpected, "unexpected")}, '
            f'{_count(shapes, "of another shape")}'
        )
        excused = [_count(self.excused, 'left as they were')] if self.excused else []
        trained = [] if self.normalisation is None else [f'trained on {self.normalisation}']
        return '; '.join([', '.join([counts, *excused]), *self.notes, *trained, *self.hints])


def compare_state(
    module: nn.Module,
    state: Mapping[str, Tensor],
    source: str,
    family: str = 'own names',
    allow_missing: Sequence[str] = (),
) -> LoadReport:
    """Compare names and shapes of ``state`` with those of ``module``, which is not changed."""
    if isinstance(allow_missing, str):  # its letters would begin the names of everything
        allow_missing = (allow_missing,)
    report = LoadReport(source, family)
    own = module.state_dict()
    for name, value in own.items():
        # A count of more than 65504 is infinite in half precision.
        lost = name.endswith(COUNTER) and name in state and not _finite(state[name]).all()
        if name in state and state[name].shape == value.shape and not lost:
            report.matched.append(name)
        elif name.endswith(COUNTER):
            continue
        elif name.startswith(tuple(allow_missing)):
            report.excused.append(name)
        elif name in state:
            report.misshapen.append((name, tuple(state[name].shape), tuple(value.shape)))
        else:
            report.missing.append(name)
    report.unexpected = sorted(state.keys() - own.keys())
    return report


def check_finite(tensors: Mapping[str, Tensor], source: str) -> None:
    """Refuse weights with which a network computes nothing."""
    for name, value in tensors.items():
        if value.is_complex():
            raise UserError(f'{source}: {name} has complex numbers; give a checkpoint of real ones')
        if not _finite(value).all():
            count = int((~_finite(value)).sum())
            raise UserError(
                f'{source}: {name} has {count} of {value.numel()} numbers that are NaN or '
                'infinite; give a checkpoint from before the training failed'
            )


def _finite(value: Tensor) -> Tensor:
    # Some types, such as those of 8 bits, have no test of their own.
    return torch.isfinite(value if value.is_complex() else value.float())


def load_weights(
    module: nn.Module,
    weights: Weights,
    source: str,
    prefix: str | None = None,
    allow_missing: Sequence[str] = (),
) -> LoadReport:
    """Recognise the family of weights, convert them, and load them if all is there, else nothing.

    Raises:
        UserError: There is nothing below the prefix, or the network was built in a way that the
            weights cannot fit, or a number is NaN or infinite.
    """
    family, state = recognise(module, weights.tensors, prefix)
    if not state:
        raise UserError(f'{source} has no tensors below prefix={prefix!r}; correct the prefix')
    if family is None:
        # What is noted is of the model's own backbone, and not of another part.
        if prefix in (None, 'backbone', 'backbone.'):
            check_settings(module, noted_settings(weights.meta))
        report = compare_state(module, state, source, allow_missing=allow_missing)
    else:
        report = compare_state(module, state, source, family.name, allow_missing)
        report.normalisation = family.normalisation
        report.hints = list(hints(module, family))
    report.notes = weights.notes
    if report.fits:
        fitting = {name: state[name] for name in report.matched}
        check_finite(fitting, source)
        module.load_state_dict(fitting, strict=False)
    return report


def load_pretrained(
    module: nn.Module, checkpoint: str, prefix: str | None = None, allow_missing: Sequence[str] = ()
) -> LoadReport:
    """Load a checkpoint of any known family into a network.

    Args:
        module: One of this package's backbones, MMDetection's MobileNetV2, or any module whose own
            names the checkpoint has.
        checkpoint: Path, http(s) address or zoo name, see :func:`mmshuffle.weights.read_tensors`.
        prefix: Only tensors below this name, such as ``'backbone'`` of a detector's checkpoint.
            Where None, it is found.
        allow_missing: Name prefixes that may be missing or of another shape.

    Returns:
        The report, which is also logged: as a warning where the network's BatchNorm eps or
        activation is not the one that the weights were trained with.

    Raises:
        UserError: The file cannot be read, something that ``module`` needs is missing or of another
            shape, a number is NaN or infinite, or nothing of it is there; ``module`` is then
            unchanged.
    """
    weights = read_weights(checkpoint)
    report = load_weights(module, weights, str(checkpoint), prefix, allow_missing)
    if not report.fits:
        raise UserError(f'weights do not fit {describe(module)}: {report}; {_advice(report)}')
    level = logging.WARNING if report.hints else logging.INFO
    print_log(f'loaded {report}', logger='current', level=level)
    return report


@WEIGHT_INITIALIZERS.register_module()
@dataclass
class PretrainedStrict:
    """Fill a module from a checkpoint of a known family, or fail with a report.

    ``init_cfg=dict(type='Pretrained', ...)`` of MMDetection's own networks loads what happens to
    fit and leaves the rest random; with this type it is all or nothing. Give it as the last entry
    of an ``init_cfg`` that is a list. Arguments: see :func:`mmshuffle.weights.load_pretrained`.
    """

    checkpoint: str
    prefix: str | None = None
    allow_missing: Sequence[str] = ()

    def __call__(self, module: nn.Module) -> None:
        """Load into ``module``."""
        # mmengine would initialise the children after this call, and ConvModule draws new weights
        # then: they come first, and are marked as done.
        for child in module.children():
            if hasattr(child, 'init_weights'):
                if not getattr(child, 'is_init', False):
                    child.init_weights()
                child.is_init = True
        load_pretrained(module, self.checkpoint, self.prefix, self.allow_missing)
        if hasattr(module, '_params_init_info'):
            update_init_info(module, f'PretrainedStrict: load from {self.checkpoint}')


def describe(module: nn.Module) -> str:
    """Name a network with the arguments that decide its shape."""
    names = ('version', 'widen_factor', 'groups', 'layout', 'shuffle', 'bypass', 'padding')
    given = [f'{name}={getattr(module, name)!r}' for name in names if hasattr(module, name)]
    return f'{type(module).__name__}({", ".join(given)})'


def _advice(report: LoadReport) -> str:
    """What to do about weights that do not fit."""
    shapes = [(name, found, needed) for name, found, needed in report.misshapen if len(found) > 1]
    if len(report.misshapen) == len(shapes) == 1 and not report.missing:
        name, found, needed = shapes[0]
        if (found[0], *found[2:]) == (needed[0], *needed[2:]):
            return (
                f'they are for images of {found[1]} channels, and this network has in_channels='
                f'{needed[1]}: allow_missing={[name]} starts that layer from random weights'
            )
    return 'give a checkpoint of this network and width, or name the exceptions in allow_missing'


def _count(names: list[str], what: str) -> str:
    if not names:
        return f'0 {what}'
    more = ', ...' if len(names) > 3 else ''
    return f'{len(names)} {what} ({", ".join(names[:3])}{more})'
