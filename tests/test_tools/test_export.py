"""The command lines of exporting, run as a user runs them."""

import json
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from mmshuffle.deploy import FORMATS
from mmshuffle.engine.network import load_model, load_model_config
from tests.conftest import REPO
from tests.test_classification.tiny import write_config as write_classifier
from tests.test_tools.conftest import assert_refused
from tests.test_tools.test_train_and_test import run
from tests.tiny import write_coco, write_config

for package in ('onnxruntime', 'onnxscript', 'ncnn', 'pnnx'):
    pytest.importorskip(package)


@pytest.fixture
def detector(tmp_path) -> Path:
    folder = tmp_path / 'detector'
    return write_config(folder, write_coco(folder / 'data'))


@pytest.fixture
def classifier(tmp_path) -> Path:
    folder = tmp_path / 'classifier'
    folder.mkdir()
    return write_classifier(folder, folder / 'data')


def test_a_detector_is_written_checked_and_evaluated(detector, tmp_path):
    image = detector.parent / 'data/images/0.jpg'
    out, figures = tmp_path / 'out/net.onnx', tmp_path / 'figures.json'
    done = run(
        *('tools/export.py', detector, 'none', '--shape', 64, 96, '--image', image),
        *('--shuffle', 'free', '--evaluate', '--out', out, '--json', figures),
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert [path.name for path in out.parent.iterdir()] == ['net.onnx']
    assert 'NonMaxSuppression 2' in done.stdout and f'written  {out}' in done.stdout
    content = json.loads(figures.read_text())
    assert content['nodes']['RoiAlign'] == 4 and content['difference'] < 1e-4
    runtime, pytorch = content['figures']['ONNX Runtime'], content['figures']['PyTorch']
    assert runtime == pytest.approx(pytorch, abs=2e-3)
    # The file takes what OpenCV loads.
    boxes, scores, labels = FORMATS['onnx'].load([out])(
        cv2.imread(str(image)).transpose(2, 0, 1)[None].astype(np.float32)
    )
    assert boxes.shape == (100, 4) and scores[0] > 0.05 and labels[0] in (0, 1)


def test_a_classifier_is_written_for_ncnn_with_its_checkpoint(classifier, tmp_path):
    model = load_model(load_model_config(str(classifier)))
    checkpoint = tmp_path / 'weights.pth'
    torch.save(dict(state_dict=model.state_dict()), checkpoint)
    arguments = ('--format', 'ncnn', '--shape', 48, 48, '--no-normalise')
    done = run('tools/export.py', classifier, checkpoint, *arguments, '--out', tmp_path / 'net')
    assert done.returncode == 0, done.stderr[-3000:]
    assert f'written  {tmp_path / "net.bin"}' in done.stdout
    times = dict(re.findall(r'([\w-]+) ([\d.]+) ms', done.stdout))
    assert set(times) == {'native', 'gather', 'free', 'free-4'}
    chosen = re.search(r'shuffle ([\w-]+)', done.stdout)[1]
    assert chosen in times
    image = torch.randn(1, 3, 48, 48)
    found = FORMATS['ncnn'].load([tmp_path / 'net.param', tmp_path / 'net.bin'])(image.numpy())
    with torch.no_grad():
        assert np.abs(found[0] - model(image).numpy()).max() < 1e-4


def test_slips_are_one_line(call, detector, classifier, tmp_path):
    shape, out = ('--shape', 64, 96), ('--out', tmp_path / 'net.onnx')
    no_data = ('--cfg-options', 'test_dataloader.dataset.data_root=nowhere')
    slips = [
        ((detector, 'none'), 'give --shape H W'),
        ((detector, 'none', *shape, '--format', 'ncnn'), 'ncnn has no NMS', '--part neck'),
        ((detector, 'none', *shape, '--dynamic-batch'), 'one image'),
        ((detector, 'none', *shape, '--image', tmp_path / 'no.jpg'), 'is missing'),
        ((detector, 'none', '--shape', 64, 8), 'at least 32'),
        (
            (detector, 'none', *shape, '--evaluate', *no_data),
            'test_dataloader.dataset.data_root: folder nowhere does not exist',
        ),
        ((classifier, 'none', '--evaluate'), '--evaluate is for a whole'),
        ((classifier, 'none', '--align', 8), '--align 8', '--shuffle free'),
        ((classifier, tmp_path / 'no.pth'), 'no.pth does not exist'),
    ]
    for arguments, *parts in slips:
        assert_refused(call('export', *arguments, *out), *parts)
    assert not (tmp_path / 'net.onnx').exists()
    # A path that cannot be written to is refused before any form is exported.
    done = call('export', classifier, 'none', '--out', tmp_path / 'net.bin')
    assert_refused(done, 'net.bin is to be of format onnx')
    assert 'export the forms' not in done[2]


def test_a_network_without_shuffles_has_the_native_form_only(call, tmp_path):
    config = REPO / 'configs/imagenet/mobilenet_v1/mobilenetv1-x0.25_300k_imagenet.py'
    out = ('--format', 'torchscript', '--shape', 64, 64, '--out', tmp_path / 'net')
    assert_refused(call('export', config, 'none', '--shuffle', 'free', *out), 'no channel shuffle')
    code, printed, _ = call('export', config, 'none', *out)
    assert code == 0 and f'written  {tmp_path / "net.pt"}' in printed
    assert 'shuffle native\n' in printed and ' ms' not in printed


def test_the_benchmark_measures_every_form(call, tmp_path):
    out = tmp_path / 'figures.json'
    arguments = ('--widths', 0.5, '--shapes', '64x64', '--seconds', 0, '--json', out)
    threads = torch.get_num_threads()
    code, printed, err = call('benchmark_export', *arguments, '--runtimes', 'ncnn', 'pytorch')
    torch.set_num_threads(threads)
    assert code == 0, err
    content = json.loads(out.read_text())
    # ONNX's packages need not be there.
    assert content['machine']['versions'].keys() == {'torch', 'ncnn', 'pnnx'}
    for result in content['results']:
        forms = {'textbook', 'native', 'free'}
        if result['runtime'] == 'ncnn':
            forms |= {'free-4', 'free-8'}
        assert set(result['median_ms']) == forms and result['fastest'] in forms
        ratios = result['ratios']['textbook/free']
        assert ratios['low'] <= ratios['median'] <= ratios['high']
    assert '## ncnn' in printed and 'Fastest form: 0.5x at 64x64: ' in printed
    assert_refused(call('benchmark_export', '--widths', 0.7), 'widen_factor=0.7')
    assert_refused(call('benchmark_export', '--shapes', '224'), 'write HxW')
    assert_refused(call('benchmark_export', '--threads', 0), '--threads 0')
