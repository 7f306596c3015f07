"""From a network to the files that a runtime reads."""

from pathlib import Path

import torch
from torch import nn

from mmshuffle.backbones import ShuffleNetV1, ShuffleNetV2

from .networks import example

SHUFFLES = ('native', 'gather', 'free')
# Format and name of the file of each runtime that reads a file of another program.
FORMATS = {'onnxruntime': ('onnx', 'model.onnx'), 'ncnn': ('ncnn', 'model.param')}


def export_network(
    module: nn.Module,
    folder: Path,
    runtime: str,
    shape: tuple[int, ...],
    shuffle: str = 'native',
) -> dict[str, Path]:
    """Write the files of a network.

    Unlike :func:`mmshuffle.deploy.export` it takes inputs of any number of channels and does not
    run the files here: the gate does so where it matters, on the device.

    Args:
        module: The network.
        folder: Where to; it must be empty.
        runtime: ``'onnxruntime'``, ``'ncnn'`` or ``'pytorch'``.
        shape: Of the input, (1, C, H, W).
        shuffle: Form of the channel shuffle, one of :data:`SHUFFLES`.

    Returns:
        Files by role: the suffix without its dot, such as ``param`` and ``bin``.

    Raises:
        UserError: The exporter is not installed or cannot express the network.
    """
    image = example(shape)
    if runtime == 'pytorch':
        path = folder / 'model.pt2'
        with torch.no_grad():
            torch.export.save(torch.export.export(module, (image,)), path)
        return dict(pt2=path)
    from mmshuffle.deploy.export import FORMATS as EXPORTERS
    from mmshuffle.deploy.export import AsTuple
    from mmshuffle.deploy.formats import Request

    # Without a shuffle all forms are the same network, which the others are compared with.
    if shuffle != 'native' and has_shuffle(module):
        from mmshuffle.deploy.forms import FORMS

        module = FORMS[shuffle](module)
    form, name = FORMATS[runtime]
    exporter = EXPORTERS[form]
    exporter.require()
    network = AsTuple(module)
    with torch.no_grad():
        count = len(network(image))
    paths = exporter.paths(folder / name)
    names = tuple(f'out{i}' for i in range(count))
    exporter.write(Request(network, image, 'in0', names, dynamic_batch=False), paths)
    return {path.suffix[1:]: path for path in paths}


def has_shuffle(module: nn.Module) -> bool:
    """Whether a network or a part of it is one of those that shuffle channels."""
    return any(isinstance(part, (ShuffleNetV1, ShuffleNetV2)) for part in module.modules())
