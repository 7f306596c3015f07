"""ONNX, written by PyTorch's exporter and run by ONNX Runtime."""

import contextlib
import inspect
import logging
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mmshuffle.errors import UserError, one_line

from .detection_ops import onnx_translations
from .formats import Format, Inference, Unsupported


class OnnxFormat(Format):
    """ONNX; every operator is of the standard set."""

    name = 'onnx'
    suffixes = ('.onnx',)
    packages = ('onnx', 'onnxscript', 'onnxruntime')
    aligns = (1, 8, 16)

    def require(self) -> None:
        """Refuse to start without the packages, or with a PyTorch whose exporter is older.

        Raises:
            UserError: One is missing or too old.
        """
        super().require()
        if 'custom_translation_table' not in inspect.signature(torch.onnx.export).parameters:
            raise UserError(
                f'the onnx format needs a newer PyTorch than {torch.__version__}, whose exporter '
                'takes no custom operators: install it, or choose another --format'
            )

    def write(
        self,
        module: nn.Module,
        images: Tensor,
        paths: Sequence[Path],
        output_names: Sequence[str],
        dynamic_batch: bool = False,
    ) -> None:
        """Export with :func:`torch.onnx.export`, which folds BatchNorm and constants.

        Raises:
            Unsupported: The exporter cannot express the network.
        """
        free = None
        if dynamic_batch:
            # A batch of 1 would be taken for a constant.
            images = torch.cat((images, images))
            free = ({0: torch.export.Dim('batch')},)
        try:
            with _quiet():
                program = torch.onnx.export(
                    module,
                    (images,),
                    input_names=['image'],
                    output_names=list(output_names),
                    dynamic_shapes=free,
                    custom_translation_table=onnx_translations(),
                    dynamo=True,
                    verbose=False,
                )
        except Exception as error:  # whatever the network of a user makes the exporter raise
            message = f'the network cannot be written as ONNX: {one_line(error)}'
            raise Unsupported(message) from error
        _forget_sources(program.model)
        program.save(str(paths[0]))

    def load(self, paths: Sequence[Path], threads: int | None = None) -> Inference:
        """Start a session on the CPU with ONNX Runtime's default optimisations.

        Raises:
            UserError: ONNX Runtime does not take the file.
        """
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or 0  # 0 is its own choice
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        try:
            session = onnxruntime.InferenceSession(
                str(paths[0]), options, providers=['CPUExecutionProvider']
            )
        except Exception as error:  # its exceptions have no common base
            raise UserError(
                f'ONNX Runtime cannot load {paths[0].name}: {one_line(error)}'
            ) from error
        name = session.get_inputs()[0].name

        def run(images: np.ndarray) -> list[np.ndarray]:
            return session.run(None, {name: images})

        return run

    def count_nodes(self, paths: Sequence[Path]) -> Counter[str]:
        """Count the nodes of the graph by type."""
        import onnx

        model = onnx.load(str(paths[0]), load_external_data=False)
        return Counter(node.op_type for node in model.graph.node)


def _forget_sources(model: Any) -> None:
    """Drop what the exporter notes at every node: the source lines that it comes from.

    They are a third of a small network's file, and name folders of the machine.
    """
    model.metadata_props.clear()
    model.graph.metadata_props.clear()
    for node in model.graph:
        node.metadata_props.clear()
        for value in node.outputs:
            value.metadata_props.clear()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's remarks, such as that torchvision is not installed, off the screen."""
    logger = logging.getLogger('torch.onnx')
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            yield
    finally:
        logger.setLevel(level)
