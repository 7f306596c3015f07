"""Inference runtimes: each loads a network and gives a function that runs it once."""

from __future__ import annotations

import importlib
import json
import math
from array import array
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from .gate import make_input

PROFILED_LOOPS = 20


class Problem(Exception):
    """What went wrong, in one line for the user."""


class Loaded(NamedTuple):
    """A network, ready to run."""

    call: Callable[[], Any]  # runs it once on the fixed input, which is what is timed
    # Values of the outputs of one run, in the order of the network.
    outputs: Callable[[], list[array]]
    version: str  # version of the runtime
    options: dict[str, Any]  # settings of the runtime that bear on speed
    # Ends a profile and gives the path of its file; None where none is made.
    end_profile: Callable[[], str] | None = None
    # Starts an inference; gives name and type of each layer, in their order, and a call that goes
    # on to behind it or, made again, only reads its output. None where the runtime cannot stop.
    layers: Callable[[], list[tuple[str, str, Callable]]] | None = None


def load(run: dict[str, Any], folder: Path) -> Loaded:
    """Load the network of a run, see :func:`mmshuffle.latency.request.make_job`.

    Raises:
        Problem: The runtime is missing, or cannot load or run the network.
    """
    loader, package = RUNTIMES[run['runtime']]
    try:
        module = importlib.import_module(package)
    except Exception as error:  # a wheel of another platform raises anything
        raise Problem(
            f'{package} cannot be imported by this Python: {one_line(error)}; install it there, '
            'or carry its wheels over with --wheels'
        ) from None
    files = {role: folder / name for role, name in run['files'].items()}
    try:
        loaded = loader(module, run, files)
        loaded.call()
    except Problem:
        raise
    except Exception as error:  # each runtime has its own kinds
        raise Problem(f'{package} cannot run the network: {one_line(error)}') from None
    return loaded


def one_line(error: BaseException) -> str:
    """An exception's message on one line of bearable length, or its type where it has none."""
    text = ' '.join(str(error).split()) or type(error).__name__
    return text if len(text) <= 300 else f'{text[:300]}...'


def fixed_input(library: Any, run: dict[str, Any]) -> Any:
    """The input of a run as an array of NumPy or a tensor of PyTorch."""
    values = make_input(math.prod(run['input']))
    return library.frombuffer(values, dtype=library.float32).reshape(run['input'])


def read_floats(outputs: Any) -> list[array]:
    """Values of a tensor or array, or of several."""
    several = outputs if isinstance(outputs, (tuple, list)) else [outputs]
    return [array('f', output.ravel().tolist()) for output in several]


def load_onnxruntime(module: Any, run: dict[str, Any], files: dict[str, Path]) -> Loaded:
    """Load an ONNX file on the CPU of ONNX Runtime."""
    import numpy

    options = module.SessionOptions()
    options.intra_op_num_threads = run['threads']
    options.inter_op_num_threads = 1
    options.graph_optimization_level = module.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.log_severity_level = 3
    # Threads of a network that waits for its turn would spin for up to 0.1 s on the cores of the
    # one that is timed, which then takes three times as long.
    options.add_session_config_entry('session.force_spinning_stop', '1')
    if run.get('profile'):
        options.enable_profiling = True
        options.profile_file_prefix = str(files['onnx'].with_suffix(''))
    session = module.InferenceSession(
        str(files['onnx']), options, providers=['CPUExecutionProvider']
    )
    feed = {session.get_inputs()[0].name: fixed_input(numpy, run)}
    shown = dict(graph_optimization='all', execution_mode='sequential', force_spinning_stop=True)
    return Loaded(
        lambda: session.run(None, feed),
        lambda: read_floats(session.run(None, feed)),
        module.__version__,
        dict(shown, provider='CPUExecutionProvider'),
        session.end_profiling if run.get('profile') else None,
    )


def load_ncnn(module: Any, run: dict[str, Any], files: dict[str, Path]) -> Loaded:
    """Load an ncnn network; half precision is stored and computed in, or neither."""
    net = module.Net()
    half = run['precision'] == 'fp16'
    options = dict(
        use_fp16_packed=half,
        use_fp16_storage=half,
        use_fp16_arithmetic=half,
        use_bf16_storage=False,
        use_packing_layout=True,
        use_winograd_convolution=True,
        use_sgemm_convolution=True,
        lightmode=True,
        use_vulkan_compute=False,
    )
    for name, value in options.items():
        setattr(net.opt, name, value)
    net.opt.num_threads = run['threads']
    if net.load_param(str(files['param'])) != 0 or net.load_model(str(files['bin'])) != 0:
        raise Problem(f'ncnn {module.__version__} cannot read the network: a layer is not known')
    if run['input'][0] != 1:
        raise Problem('ncnn has no batches: give a batch of 1')
    # ncnn starts every channel at a multiple of 16 bytes, so the copy is what it can read.
    values = memoryview(make_input(math.prod(run['input']))).cast('B')
    image = module.Mat(values.cast('f', tuple(run['input'][1:]))).clone()
    first = net.input_names()[0]
    # ncnn lists every blob that nothing reads, pieces of slices too, in the order of the file.
    named = [name for name in net.output_names() if name.startswith('out')]
    names = sorted(named, key=lambda name: int(name[3:]))

    def infer() -> list[Any]:
        extractor = net.create_extractor()
        extractor.input(first, image)
        return [extractor.extract(name) for name in names]

    def outputs() -> list[array]:
        found = infer()
        for code, _ in found:
            if code != 0:
                raise Problem(f'ncnn {module.__version__} stops with error {code}')
        return [array('f', memoryview(mat).tobytes()) for _, mat in found]

    def layers() -> list[tuple[str, str, Callable]]:
        extractor = net.create_extractor()
        extractor.input(first, image)

        def run_to(blob: str) -> Callable:
            return lambda: extractor.extract(blob, 1)  # 1: in the layout that the layer leaves

        steps = []
        # type, name, number of inputs, number of outputs, inputs, outputs, settings
        lines = files['param'].read_text().splitlines()[2:]
        for kind, name, inputs, *words in filter(None, map(str.split, lines)):
            if kind == 'Input':
                continue
            if 'Convolution' in kind:
                kind += ''.join(' {0}x{0}'.format(word[2:]) for word in words if word[:2] == '1=')
            steps.append((name, kind, run_to(words[1 + int(inputs)])))
        return steps

    outputs()  # infer() alone, which is timed, does not look at the error codes
    return Loaded(infer, outputs, module.__version__, options, layers=layers)


def load_pytorch(module: Any, run: dict[str, Any], files: dict[str, Path]) -> Loaded:
    """Load a program of ``torch.export`` and run it operator by operator, as eager PyTorch does."""
    module.set_num_threads(run['threads'])
    program = module.export.load(str(files['pt2'])).module()
    image = fixed_input(module, run)

    def infer() -> Any:
        with module.inference_mode():
            return program(image)

    options = dict(memory_format='contiguous')
    return Loaded(infer, lambda: read_floats(infer()), module.__version__, options)


def load_litert(module: Any, run: dict[str, Any], files: dict[str, Path]) -> Loaded:
    """Load a LiteRT file; XNNPACK gets what it takes of it, as is usual."""
    import ai_edge_litert
    import numpy

    interpreter = module.Interpreter(str(files['tflite']), num_threads=run['threads'])
    interpreter.allocate_tensors()
    image = interpreter.get_input_details()[0]
    interpreter.set_tensor(image['index'], fixed_input(numpy, run))
    # LiteRT has an order of its own; the names have the network's.
    details = interpreter.get_output_details()
    details.sort(key=lambda known: int(known['name'].rsplit('output_', 1)[1].split('_')[0]))

    def outputs() -> list[array]:
        interpreter.invoke()
        return read_floats([interpreter.get_tensor(known['index']) for known in details])

    nodes = [node['op_name'] for node in interpreter._get_ops_details()]
    options = dict(xnnpack_delegates=nodes.count('DELEGATE'))
    return Loaded(interpreter.invoke, outputs, ai_edge_litert.__version__, options)


def load_executorch(module: Any, run: dict[str, Any], files: dict[str, Path]) -> Loaded:
    """Load an ExecuTorch program; its threads are those of all programs of the process."""
    import torch
    from executorch.extension.pybindings import portable_lib
    from executorch.version import __version__

    portable_lib._unsafe_reset_threadpool(run['threads'])
    program = module.Runtime.get().load_program(files['pte'])
    method = program.load_method('forward')
    image = [fixed_input(torch, run)]

    def outputs() -> list[array]:
        # The program, without which the method has no memory, lives as long as this.
        return read_floats(program.load_method('forward').execute(image))

    return Loaded(lambda: method.execute(image), outputs, __version__, dict(backend='XNNPACK'))


# Loader and importable name of each runtime.
RUNTIMES = {
    'onnxruntime': (load_onnxruntime, 'onnxruntime'),
    'ncnn': (load_ncnn, 'ncnn'),
    'pytorch': (load_pytorch, 'torch'),
    'litert': (load_litert, 'ai_edge_litert.interpreter'),
    'executorch': (load_executorch, 'executorch.runtime'),
}


def profile(network: Loaded) -> list[dict[str, Any]]:
    """Run a network with its runtime's profiler.

    Returns:
        Of each layer, in their order, ``name``, ``type``, mean ``ms``, and the shapes of its
        ``inputs``, weights among them.

    Raises:
        Problem: The runtime has no profiler.
    """
    if network.end_profile is None:
        raise Problem('--profile: only onnxruntime tells the time of each layer')
    for _ in range(PROFILED_LOOPS):
        network.call()
    path = Path(network.end_profile())
    layers: dict[str, dict[str, Any]] = {}
    for event in json.loads(path.read_text(encoding='utf-8')):
        if event.get('cat') == 'Node' and event['name'].endswith('_kernel_time'):
            name, known = event['name'][: -len('_kernel_time')], event['args']
            # Each shape is that of the only key, the type of the numbers.
            shapes = [next(iter(shape.values())) for shape in known.get('input_type_shape', [])]
            layer = dict(name=name, type=known['op_name'], inputs=shapes, ms=[])
            layers.setdefault(name, layer)['ms'].append(event['dur'] / 1e3)
    path.unlink()
    # The first runs, of loading and the gate, are warm-up.
    return [
        dict(layer, ms=sum(layer['ms'][-PROFILED_LOOPS:]) / PROFILED_LOOPS)
        for layer in layers.values()
    ]
