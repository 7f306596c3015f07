"""ExecuTorch with XNNPACK."""

from collections import Counter
from pathlib import Path

import torch
from torch import Tensor, fx

from mmshuffle.errors import UserError

from .board import load_executorch
from .formats import Inference, Paths, Unsupported, refusing, silence
from .quantise_xnnpack import XnnpackFormat


class ExecuTorchFormat(XnnpackFormat):
    """ExecuTorch's program, for XNNPACK as far as that takes it."""

    name = 'executorch'
    suffixes = ('.pte',)
    packages = ('executorch',)

    def compile(self, recorded: fx.GraphModule, images: Tensor, path: Path, int8: bool) -> None:
        """Compile, and refuse operators that the runtime lacks."""
        from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
        from executorch.exir import to_edge_transform_and_lower
        from executorch.runtime import Runtime

        with refusing('ExecuTorch cannot compile the network'):
            program = torch.export.export(recorded, (images,))
            edge = to_edge_transform_and_lower(program, partitioner=[XnnpackPartitioner()])
            content = edge.to_executorch().buffer
        path.write_bytes(content)
        known = Runtime.get().operator_registry.operator_names
        lacking = [name for name in _operators([path]) if '::' in name and name not in known]
        if lacking:
            raise Unsupported(f'ExecuTorch has no {", ".join(sorted(set(lacking)))}: try onnx')

    def load(self, paths: Paths, threads: int | None = None) -> Inference:
        """Load the program; ``threads`` becomes the number of threads of the process."""
        with refusing(f'ExecuTorch cannot load {paths[0].name}', UserError), silence():
            return load_executorch(paths[0], threads or 0)

    def count_nodes(self, paths: Paths) -> Counter[str]:
        """Count the pieces that XNNPACK gets, and the operators outside them."""
        with silence():
            return Counter(name.removeprefix('aten::') for name in _operators(paths))


def _operators(paths: Paths) -> list[str]:
    """Names of a program's operators, in their order; ``XnnpackBackend`` is a piece for XNNPACK."""
    from executorch.exir._serialize._program import deserialize_pte_binary

    (plan,) = deserialize_pte_binary(paths[0].read_bytes()).program.execution_plan
    found = []
    for step in (step.instr_args for chain in plan.chains for step in chain.instructions):
        if hasattr(step, 'delegate_index'):
            found.append(plan.delegates[step.delegate_index].id)
        elif hasattr(step, 'op_index'):
            called = plan.operators[step.op_index]
            found.append('.'.join(filter(None, (called.name, called.overload))))
    return found
