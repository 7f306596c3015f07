"""The networks that are measured, and the cases and files that follow from what is asked for."""

import hashlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mmshuffle.deploy.export import FORMATS, AsTuple, expect
from mmshuffle.deploy.fold import fold_batchnorm
from mmshuffle.deploy.formats import Unsupported
from mmshuffle.deploy.forms import NATIVE, ShuffleForm
from mmshuffle.deploy.quantise import Recipe
from mmshuffle.deploy.shuffle_free import has_shuffle, in_form
from mmshuffle.engine import files, shipped
from mmshuffle.engine.network import extract_part, list_parts, load_model, load_model_config
from mmshuffle.errors import UserError, one_line

from .device.gate import make_input

# The gate can tell a wrong output from a right one only where another input changes it by more.
MIN_SENSITIVITY = 0.02
# Largest difference that passes the gate, as a share of the largest value of the output. Sums in
# another order and Winograd's transforms make 1e-6 to 1e-4. Where ARM cores also add in half
# precision, random weights make 0.003 to 0.03 at 224x224 and up to 0.17 at 64x64 (seen with ncnn
# under emulation; 2e-4 where they only store it).
# int8 is compared with the same file in the runtime here: halves may round the other way, which
# makes up to 0.017 (the networks of Table 8 on x86 and on ARM under emulation).
TOLERANCES = {'fp32': 1e-3, 'fp16': 0.25, 'int8': 0.05}
Setting = dict[str, Any]


@dataclass(frozen=True)
class Network:
    """A network to be measured."""

    name: str  # its name in tables, and ``config`` of its results
    # Makes the module, in evaluation mode, for a height and width of its input; it maps an image of
    # shape (1, channels, height, width) to a tensor or several.
    build: Callable[[Sequence[int]], nn.Module] | None
    channels: int = 3
    weights: str = 'random'  # where its weights come from: a checkpoint, or ``'random'``
    part: str = 'model'  # what of a config's model it is
    file: Path | None = None  # a file that is measured as it is, instead of ``build``


def from_config(name: str, checkpoint: str | None = None, part: str = 'auto') -> Network:
    """Make a network of a config.

    Args:
        name: Name of a config that comes with the project, or path of one.
        checkpoint: Weights of its model; random ones where None.
        part: ``'backbone'``; ``'neck'``, backbone and neck; ``'classifier'``; ``'detector'``, one
            of one stage up to what its head puts out; ``'auto'``, all of a classifier, the neck of
            a detector, or its backbone.

    Raises:
        UserError: There is no such config or part.
    """
    cfg = load_model_config(name)
    parts = list_parts(cfg)
    chosen = [known for known in parts if known != 'detector'][-1] if part == 'auto' else part
    if chosen not in parts:
        raise UserError(f'--part {part}: the model of {name} has {", ".join(parts)}')

    def build(shape: Sequence[int]) -> nn.Module:
        return extract_part(load_model(cfg, checkpoint, chosen, shape), chosen)[0]

    shown = name if shipped.find(name) else Path(name).stem
    channels = cfg.model.backbone.get('in_channels', 3)
    return Network(shown, build, channels, weights=checkpoint or 'random', part=chosen)


def example(shape: Sequence[int]) -> Tensor:
    """The fixed input, (N, C, H, W)."""
    values = torch.frombuffer(make_input(math.prod(shape)), dtype=torch.float32)
    return values.reshape(tuple(shape))


def expected_outputs(
    name: str, module: nn.Module, shape: Sequence[int]
) -> tuple[list[np.ndarray], float]:
    """What a device must compute from the fixed input of a shape, (N, C, H, W).

    Returns:
        The outputs, and how much another input changes them: the least of all outputs, as a share
        of the largest value of each.

    Raises:
        UserError: The network cannot run on inputs of this shape, or its outputs say nothing: they
            are not finite, or the same for another input.
    """
    image, network = example(shape), AsTuple(module)
    outputs = expect(network, image, name)
    # Mirrored and halved: under global pooling, another order of the same noise hardly matters.
    others = expect(network, image.flip((2, 3)) / 2, name)
    change = min(np.abs(y - z).max() / np.abs(y).max() for y, z in zip(outputs, others))
    if not change > MIN_SENSITIVITY:
        raise UserError(
            f'{name} gives nearly the same outputs for different inputs ({change:.1g} of the '
            'largest): wrong results on the device would not be noticed; give a --checkpoint'
        )
    return outputs, float(change)


def setting(
    runtime: str, threads: int = 1, precision: str = 'fp32', shuffle: str = 'native'
) -> Setting:
    """How networks run: only figures of one are ranked, but for the form of the shuffle.

    Raises:
        UserError: The runtime does not have that; the message names the option.
    """
    if precision == 'fp16' and runtime != 'ncnn':
        raise UserError(f'--precision fp16: {runtime} has no such path here; use ncnn')
    if precision == 'int8' and runtime == 'pytorch':
        raise UserError('--precision int8: pytorch has no such path here; use another --runtime')
    if ShuffleForm.parse(shuffle) != NATIVE and runtime == 'pytorch':
        raise UserError(f'--shuffle: {runtime} runs the network as it is; use another --runtime')
    return dict(runtime=runtime, threads=threads, precision=precision, shuffle=shuffle)


@dataclass
class Case:
    """One network at one size in one setting, and what came back of it."""

    number: int
    network: Network
    shape: tuple[int, int, int, int]  # of the input, (1, C, H, W)
    setting: Setting  # how it runs
    files: dict[str, str] = field(default_factory=dict)  # names of its files on the device, by role
    # Names of the files with its expected outputs.
    expected: list[str] = field(default_factory=list)
    tolerance: float = TOLERANCES['fp32']  # largest difference from them that passes the gate
    accuracy: dict[str, Any] | None = None  # of int8, see :func:`read_accuracies`
    version: str | None = None  # version of the runtime there
    options: dict[str, Any] = field(default_factory=dict)  # its settings
    gate: dict[str, Any] | None = None  # outcome of the correctness gate, of the last session
    # Milliseconds of the runs, session by session and block by block; see :func:`.loop.take_turns`.
    sessions: list[list[list[float]]] = field(default_factory=list)
    # Processor's time as a share of the length, block by block.
    cpu: list[float] = field(default_factory=list)
    layers: list[dict[str, Any]] | None = None  # layers with their times, of a profile
    counts: dict[str, Any] | None = None  # see device/counts.py
    failure: dict[str, str] | None = None  # stage and message, where it cannot be measured

    @property
    def group(self) -> dict[str, Any]:
        """What those cases have in common that are measured in turn and ranked."""
        kept = ('runtime', 'threads', 'precision')  # forms of one network are compared
        return dict({key: self.setting[key] for key in kept}, shape=list(self.shape[2:]))

    def describe(self) -> dict[str, Any]:
        """What it is, for files."""
        network = self.network
        names = dict(config=network.name, part=network.part, weights=network.weights)
        accuracy = {} if self.accuracy is None else dict(accuracy=self.accuracy)
        return {**names, **self.group, 'shuffle': self.setting['shuffle'], **accuracy}


def read_accuracies(paths: Sequence[str]) -> dict[tuple, tuple[dict[str, Any], list[str]]]:
    """Read what ``tools/export.py --int8 --json`` has written.

    Returns:
        The accuracy and the layers in int8, by network, part, runtime, form, True and shape.

    Raises:
        UserError: A file is another one, or its accuracy was not measured.
    """
    found = {}
    for path in paths:
        content = files.read_json(Path(path))
        try:
            form = str(ShuffleForm(content['shuffle'], content['align']))
            runtime = content['format'].replace('onnx', 'onnxruntime')
            names = shipped.network(Path(content['config'])), content['part'], runtime, form
            known = dict(content['int8']['accuracy'], weights=content['checkpoint'], file=path)
            found[(*names, True, *content['input_shape'])] = known, content['int8']['layers']
        except (KeyError, TypeError):
            raise UserError(
                f'--accuracy {path}: give what tools/export.py --int8 --json writes of a test'
            ) from None
    return found


@dataclass
class Plan:
    """The cases of a measurement, and the files that the device needs for them."""

    folder: Path  # where the files are written
    # Of int8, see :func:`read_accuracies`.
    accuracies: dict[tuple, tuple[dict[str, Any], list[str]]] = field(default_factory=dict)
    cases: list[Case] = field(default_factory=list)
    files: dict[str, Path] = field(default_factory=dict)  # files by their names on the device

    def add(
        self, network: Network, shapes: Sequence[tuple[int, int]], settings: Sequence[Setting]
    ) -> Iterator[None]:
        """Add a network at some sizes in some settings; yields after each, to show progress.

        Raises:
            UserError: It cannot be built, run at a size, or exported.
        """
        module = None if network.file else network.build(shapes[0])
        name = shipped.network(shipped.find(network.name) or Path(f'{network.name}.py'))
        for size in shapes:
            shape = (1, network.channels, *size)
            if module is None:  # its right outputs are not known
                alone = {network.file.suffix[1:]: self._keep(network.file)}
                for setting in settings:
                    self.cases.append(Case(len(self.cases), network, shape, setting, alone))
                    yield
                continue
            outputs, change = expected_outputs(network.name, module, shape)
            expected = self._keep_outputs(outputs)
            written: dict[tuple, tuple[dict[str, str], list[str]]] = {}
            for setting in settings:
                # ncnn's fp16 is of the same file.
                int8 = setting['precision'] == 'int8'
                key = network.part, setting['runtime'], setting['shuffle'], int8
                accuracy, layers = self.accuracies.get((name, *key, *shape), (None, None))
                if key not in written:
                    written[key] = self._export(module, shape, setting, expected, layers)
                # A network that ignores its input must not pass.
                tolerance = min(TOLERANCES[setting['precision']], change / 2)
                how = setting, *written[key], tolerance, accuracy
                self.cases.append(Case(len(self.cases), network, shape, *how))
                yield

    def _export(
        self,
        module: nn.Module,
        shape: tuple[int, ...],
        setting: Setting,
        expected: list[str],
        layers: Sequence[str] | None,
    ) -> tuple[dict[str, str], list[str]]:
        """Write a network's files, which the gate runs; in int8, these ``layers`` or all.

        Returns:
            Their names there by role, and those of its expected outputs: of int8, which is
            calibrated on the fixed input, what the runtime here computes of that.
        """
        folder = self.folder / f'export-{len(self.cases)}'
        folder.mkdir()
        image = example(shape)
        if setting['runtime'] == 'pytorch':
            path = folder / 'model.pt2'
            try:
                with torch.no_grad():
                    torch.export.save(torch.export.export(module, (image,)), path)
            except Exception as error:  # whatever the network of a user raises
                raise Unsupported(f'torch.export cannot write it: {one_line(error)}') from error
            return dict(pt2=self._keep(path)), expected
        # Without a shuffle all forms are the same network, which the others are compared with.
        form = ShuffleForm.parse(setting['shuffle']) if has_shuffle(module) else NATIVE
        format = FORMATS[setting['runtime'].replace('onnxruntime', 'onnx')]
        format.require()
        paths = format.paths(folder / 'model')
        rewritten, int8 = in_form(module, form), setting['precision'] == 'int8'
        network = AsTuple(fold_batchnorm(rewritten) if int8 else rewritten)
        format.write(network, image, paths, [f'out{i}' for i in range(len(expected))], False)
        if int8:
            calibrated = format.calibrate(network, paths, [image.numpy()], Recipe())
            paths = format.paths(folder / 'int8')
            layers = calibrated.layers if layers is None else layers
            if not set(layers) <= set(calibrated.layers):
                raise Unsupported('--accuracy: the network that it is of has other layers')
            calibrated.write(layers, paths)
            expected = self._keep_outputs(format.load(paths, threads=1)(image.numpy()))
        return {path.suffix[1:]: self._keep(path) for path in paths}, expected

    def _keep_outputs(self, outputs: Sequence[np.ndarray]) -> list[str]:
        """Write expected outputs; returns their names on the device."""
        names = []
        for output in outputs:
            path = self.folder / f'expected-{len(self.files)}.f32'
            path.write_bytes(np.ascontiguousarray(output, '<f4').tobytes())
            names.append(self._keep(path))
        return names

    def _keep(self, path: Path) -> str:
        """Name a file by its content: weights that several sizes share are sent once."""
        name = hashlib.sha256(path.read_bytes()).hexdigest()[:16] + path.suffix
        self.files.setdefault(name, path)
        return name
