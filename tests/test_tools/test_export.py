"""The command lines of exporting, run as a user runs them."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmdet.structures import DetDataSample
from torch import nn

from mmshuffle.deploy import FORMATS, board, export
from mmshuffle.deploy.formats import Unsupported
from mmshuffle.deploy.forms import ShuffleForm
from mmshuffle.deploy.part import Part
from mmshuffle.engine.network import load_model, load_model_config
from mmshuffle.errors import UserError
from mmshuffle.latency.plan import Plan, from_config, read_accuracies, setting
from tests.conftest import refused
from tests.test_deploy.test_xnnpack import BOTH, SLOW
from tests.test_tools.conftest import assert_done, assert_refused, exit_code, load_tool, run
from tests.tiny import CLASSES, write_classifier, write_coco, write_config, write_folders

NETWORK = 'shufflenetv2-x0.5'
# As few of its layers as have every form.
FEW = ('--cfg-options', 'model.backbone.out_indices=[1]', 'model.head.in_channels=48')
BOXES_AND_DISCS = {
    'ann_file': 'annotations.json',
    'data_prefix.img': 'images/',
    'metainfo.classes': CLASSES,
}
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
    given = ('--shape', 64, 96, '--image', image, '--shuffle', 'free', '--evaluate')
    arguments = (detector, 'none', *given, '--out', out, '--json', figures)
    printed, _ = assert_done(run('tools/export.py', *arguments))
    assert {path.name for path in out.parent.iterdir()} == {'net.onnx', 'net.json'}
    assert 'NonMaxSuppression 2' in printed and f'written  {out}' in printed
    content = json.loads(figures.read_text())
    assert content['nodes']['RoiAlign'] == 4 and content['difference'] < 1e-4
    runtime, pytorch = content['figures']['net.onnx'], content['figures']['PyTorch']
    assert runtime == pytest.approx(pytorch, abs=2e-3)
    # The file takes what OpenCV loads.
    boxes, scores, labels = FORMATS['onnx'].load([out])(
        cv2.imread(str(image)).transpose(2, 0, 1)[None].astype(np.float32)
    )
    assert boxes.shape == (100, 4) and scores[0] > 0.05 and labels[0] in (0, 1)


@pytest.mark.parametrize('format', ['onnx', 'ncnn', *BOTH])
def test_a_detector_of_one_stage_runs_on_a_board_with_one_file(call, tmp_path, format):
    """Pictures of 64x96 and 80x70 into 64x112: some of the image is filled."""
    data = write_coco(tmp_path / 'data')
    path = data / 'images/0.jpg'
    given = {f'test_dataloader.dataset.{key}': value for key, value in BOXES_AND_DISCS.items()}
    given |= {'test_dataloader.dataset.data_root': f'{data}/', 'model.bbox_head.num_classes': 2}
    given['test_evaluator.ann_file'] = f'{data}/annotations.json'
    options = ('--cfg-options', *(f'{key}={value}' for key, value in given.items()))
    out = tmp_path / 'board' / f'net{FORMATS[format].suffixes[0]}'
    arguments = ('--shape', 64, 112, '--format', format, '--evaluate', '--out', out)
    code, printed, err = call('export', 'bccd-gfl', 'none', *arguments, *options)
    assert code == 0 and f'written  {out.with_suffix(".json")}' in printed, err
    script = Path(shutil.copy(board.__file__, out.parent))
    cfg = load_model_config('bccd-gfl', {'model.bbox_head.num_classes': 2})
    model = load_model(cfg, None, 'detector', (64, 112))
    for picture in (cv2.imread(str(path)), cv2.resize(cv2.imread(str(path)), (70, 80))):
        cv2.imwrite(str(out.parent / 'a.bmp'), picture)
        command = [sys.executable, script.name, 'net.json', 'a.bmp', '--json', 'found.json']
        done = subprocess.run(command, cwd=out.parent, capture_output=True, text=True, env={})
        assert done.returncode == 0 and 'a.bmp ' in done.stdout, done.stderr
        found = json.loads((out.parent / 'found.json').read_text())['a.bmp']
        detector = board.Detector(out.with_suffix('.json'))
        assert [part.tolist() for part in detector(picture)] == list(found.values())
        image, size = board.prepare(picture, detector.facts)
        # The graph cuts boxes off at the image, the board where the picture ends in it.
        border = (64, 112) if format == 'onnx' else size
        meta = dict(img_id=0, img_shape=border, ori_shape=border, scale_factor=(1.0, 1.0))
        batch = dict(inputs=[torch.from_numpy(image[0])])
        batch['data_samples'] = [DetDataSample(metainfo=meta)]
        with torch.no_grad():
            truth = model.test_step(batch)[0].pred_instances
        limits = np.array((*size[::-1], *size[::-1]))
        boxes = (
            np.minimum(truth.bboxes.numpy(), limits) / limits * np.array(picture.shape[1::-1] * 2)
        )
        np.testing.assert_allclose(found['scores'], truth.scores, atol=1e-4)
        np.testing.assert_allclose(found['boxes'], boxes, atol=1e-2)
    out.unlink()
    done = subprocess.run(command, cwd=out.parent, capture_output=True, text=True, env={})
    assert done.returncode == 2 and done.stderr == f'board.py: {out.name} is missing: copy it too\n'


def test_a_classifier_is_written_for_ncnn_with_its_checkpoint(classifier, tmp_path):
    model = load_model(load_model_config(str(classifier)))
    checkpoint = tmp_path / 'weights.pth'
    torch.save(dict(state_dict=model.state_dict()), checkpoint)
    arguments = ('--format', 'ncnn', '--shape', 48, 48, '--no-normalise')
    out = ('--out', tmp_path / 'net')
    printed, _ = assert_done(run('tools/export.py', classifier, checkpoint, *arguments, *out))
    assert f'written  {tmp_path / "net.bin"}' in printed
    assert ', ncnn, shuffle interleaved-8\n' in printed
    image = torch.randn(1, 3, 48, 48)
    found = FORMATS['ncnn'].load([tmp_path / 'net.param', tmp_path / 'net.bin'])(image.numpy())
    with torch.no_grad():
        assert np.abs(found[0] - model(image).numpy()).max() < 1e-4


@pytest.mark.parametrize(
    ('options', 'form'),
    [
        (('--format', 'torchscript'), 'free'),
        (('--format', 'onnx', '--shuffle', 'native'), 'native'),
        (('--format', 'torchscript', '--shuffle', 'free-2'), 'free-2'),
        (('--format', 'onnx'), 'free-4'),
        (('--format', 'onnx', '--device', 'x86'), 'free-16'),
        (('--format', 'ncnn', '--device', 'x86'), 'free-4'),
        (('--format', 'ncnn', '--precision', 'fp32'), 'free-4'),
        (('--format', 'ncnn', '--shuffle', 'interleaved-4'), 'interleaved-4'),
    ],
)
def test_the_form_is_named_or_follows_the_rule(call, tmp_path, monkeypatch, options, form):
    monkeypatch.chdir(tmp_path)
    figures = ('--json', 'a.json', '--shape', 64, 64)
    printed, _ = assert_done(call('export', NETWORK, 'none', *options, *figures, *FEW))
    # In the work dir of the config's training.
    (written,) = {path.stem for path in Path('work_dirs').glob(f'{NETWORK}_*_imagenet/*')}
    assert written == f'classifier_{form}_64x64' and f'shuffle {form}\n' in printed
    content = json.loads(Path('a.json').read_text())
    assert str(ShuffleForm(content['shuffle'], content['align'])) == form


def test_the_fastest_form_is_kept_and_others_leave_nothing(capsys, monkeypatch, tmp_path):
    tool = load_tool('export')
    monkeypatch.setitem(tool.TRIAL, 'seconds', 0.0)
    out = ('--format', 'ncnn', '--shape', 64, 64, '--out', tmp_path / 'new/net')
    assert exit_code(tool, NETWORK, 'none', '--shuffle', 'fastest', *out, *FEW) == 0
    printed = capsys.readouterr().out
    times = dict(re.findall(r'([\w-]+) ([\d.]+) ms', printed))
    assert set(times) == {'native', *FORMATS['ncnn'].forms}
    assert re.search(r'shuffle ([\w-]+)\n', printed)[1] in times
    assert sorted(p.name for p in (tmp_path / 'new').iterdir()) == ['net.bin', 'net.param']


@pytest.mark.parametrize('error', [UserError('differs from PyTorch by 3'), Unsupported('no layer')])
def test_a_form_that_is_wrong_is_an_error_and_one_that_is_not_there_is_told(
    tmp_path, capsys, monkeypatch, error
):
    tool = load_tool('export')
    monkeypatch.setitem(tool.TRIAL, 'seconds', 0.0)
    module = nn.Conv2d(3, 4, 1).eval()

    def write(form, path):
        if form.align == 16:
            raise error
        return Part(module, '', '', {}), export(module, path, 'onnx', (1, 3, 8, 8))

    def fastest():
        return tool.export_fastest(write, FORMATS['onnx'], lambda form: tmp_path / 'new/net')

    if isinstance(error, Unsupported):
        assert str(fastest()[0]) in ('native', 'free', 'free-4', 'free-8')
        assert 'left out: free-16: no layer' in capsys.readouterr().err
    else:
        with refused('differs from PyTorch by 3'):
            fastest()
        assert list(tmp_path.iterdir()) == []


def test_a_network_without_the_form_of_the_rule_is_written_as_it_is(call, tmp_path):
    norm = [f'model.backbone.norm_cfg.{part}' for part in ('type=GN', 'num_groups=2')]
    for network, told, refusal in (
        ((NETWORK, '--cfg-options', *norm), 'native instead of free: GroupNorm', 'be folded'),
        (('mobilenetv1-x0.25',), '', 'no channel shuffle'),
    ):
        out = ('--format', 'torchscript', '--shape', 64, 64, '--out', tmp_path / 'net')
        arguments = ('export', network[0], 'none', *out, *network[1:])
        assert_refused(call(*arguments, '--shuffle', 'free'), refusal)
        printed, err = assert_done(call(*arguments))
        assert told in err and 'shuffle native\n' in printed and ' ms' not in printed


def test_slips_are_one_line(call, detector, classifier, tmp_path):
    shape, out = ('--shape', 64, 96), ('--out', tmp_path / 'net.onnx')
    no_data = ('--cfg-options', 'test_dataloader.dataset.data_root=nowhere')
    slips = [
        ((detector, 'none'), 'give --shape H W'),
        ((detector, 'none', *shape, '--format', 'ncnn'), 'ncnn has no NMS', '--part neck'),
        ((detector, 'none', *shape, '--dynamic-batch'), 'one image'),
        ((detector, 'none', *shape, '--image', tmp_path / 'no.jpg'), 'is missing'),
        ((detector, 'none', '--shape', 64, 8), 'at least 32'),
        ((detector, 'none', *shape, '--evaluate', *no_data), 'data_root: folder nowhere does not'),
        ((classifier, 'none', '--evaluate'), '--evaluate is for a whole'),
        ((classifier, 'none', '--shuffle', 'free-0'), '--shuffle free-0', 'such as free-8'),
        ((classifier, 'none', '--shuffle', 'free', '--device', 'x86'), 'leave --shuffle out'),
        ((classifier, 'none', '--precision', 'fp16'), 'onnx files compute in fp32'),
        ((classifier, tmp_path / 'no.pth'), 'no.pth does not exist'),
    ]
    for arguments, *parts in slips:
        assert_refused(call('export', *arguments, *out), *parts)
    assert not (tmp_path / 'net.onnx').exists()
    (tmp_path / 'file').touch()
    for form in ('free', 'fastest'):
        out = ('--shuffle', form, '--out', tmp_path / 'file/new/net.onnx')
        code, _, err = call('export', NETWORK, 'none', '--shape', 64, 64, *out, *FEW)
        assert code == 2 and 'net.onnx cannot be written: ' in err.splitlines()[-1]
    # A path that cannot be written to is refused before any form is exported.
    done = call('export', classifier, 'none', '--out', tmp_path / 'net.bin')
    assert_refused(done, 'net.bin is to be of format onnx')
    assert 'export the forms' not in done[2]


@pytest.fixture(scope='module')
def accurate(tmp_path_factory) -> tuple[Path, Path]:
    """A classifier that tells its colours apart, with one dead channel of huge weights a layer."""
    folder = tmp_path_factory.mktemp('accurate')
    backbone = "dict(_delete_=True, type='MobileNetV1', widen_factor=0.25, out_indices=(1,))"
    text = f'model = dict(backbone={backbone}, head=dict(in_channels=64))\n'
    config = write_classifier(folder, write_folders(folder / 'data', images=6), text)
    model = load_model(load_model_config(str(config)))
    with torch.no_grad():
        for part in model.backbone.modules():
            if isinstance(part, nn.BatchNorm2d):
                part.weight[0], part.bias[0] = 500, -1e4
        pictures = [cv2.imread(str(p)) for p in sorted(folder.glob('data/train/*/0.jpg'))]
        images = torch.stack([torch.from_numpy(p).permute(2, 0, 1) for p in pictures])
        prepared = model.data_preprocessor(dict(inputs=images))['inputs']
        means = model.backbone(prepared)[-1].mean((2, 3))
        model.head.fc.weight.copy_(means)
        model.head.fc.bias.copy_(-means.square().sum(1) / 2)
    torch.save(dict(state_dict=model.state_dict()), folder / 'weights.pth')
    return config, folder / 'weights.pth'


@pytest.mark.parametrize('format', ['onnx', 'ncnn', *SLOW])
def test_int8_is_kept_where_accuracy_stays_and_refused_where_it_falls(
    call, accurate, tmp_path, format
):
    given = ('--format', format, '--shape', 48, 48, '--int8', '--calibrate', accurate[0])
    out = ('--out', tmp_path / 'new/net', '--json', tmp_path / 'net.json')
    code, _, err = call('export', *accurate, *given, *out, '--per-tensor')
    last = err.splitlines()[-1]
    assert code == 2 and 'top-1 100.0 in fp32' in last and 'leave --per-tensor out' in last
    assert 'depthwise.conv' in last and not list(tmp_path.iterdir())
    more = ('--keep-fp32', 'first', '--layer-errors')
    printed, _ = assert_done(call('export', *accurate, *given, *out, *more))
    assert 'accuracy top-1 100.0 in fp32, 100.0 in int8' in printed
    assert 'the worst layers' in printed
    content = json.loads((tmp_path / 'net.json').read_text())['int8']
    assert 'backbone.stages.0.0.conv' not in content['layers'] and 'head.fc' in content['layers']
    # With what was measured of it, the latency tool times the same layers in int8.
    plan = Plan(tmp_path, read_accuracies([str(tmp_path / 'net.json')]))
    int8 = setting('onnxruntime' if format == 'onnx' else format, precision='int8')
    list(plan.add(from_config(*map(str, accurate)), [(48, 48)], [int8]))
    assert plan.cases[0].accuracy['int8'] == 100 and plan.cases[0].accuracy['name'] == 'top-1'


@pytest.mark.parametrize('part', ['detector', 'neck', 'backbone'])
def test_int8_of_detectors_is_evaluated_with_what_pytorch_computes(call, detector, tmp_path, part):
    given = ('--shape', 64, 96, '--part', part, '--out', tmp_path / 'net')
    given += ('--format', 'onnx' if part == 'detector' else 'ncnn')
    pictures = write_folders(tmp_path / 'pictures') / 'train'
    int8 = ('--int8', '--calibrate', pictures, '--test-images', 2, '--max-drop', 'inf')
    printed, _ = assert_done(call('export', detector, 'none', *given, *int8))
    assert re.search(r'accuracy AP [\d.]+ in fp32, [\d.]+ in int8', printed)


def test_slips_of_int8_are_one_line(call, accurate, tmp_path):
    data = accurate[0].parent / 'data'
    (tmp_path / 'empty').mkdir()
    good = ('--int8', '--calibrate', data / 'train')
    slips = [
        (('--int8',), 'add --calibrate'),
        (('--per-tensor',), '--per-tensor: add --int8'),
        (('--test-images', 0), '--test-images: add --int8'),
        (('--int8', '--calibrate', tmp_path / 'empty'), 'there is no picture'),
        (('--int8', '--calibrate', data / 'val'), 'of its pictures are of the test set'),
        ((*good, '--keep-fp32', 'stem'), '--keep-fp32 stem: no layer is called so'),
        ((*good, '--format', 'torchscript'), 'torchscript has no int8 here'),
        ((*good, '--max-drop', '-1'), '--max-drop: -1: give a number of at least 0'),
        ((*good, '--shuffle', 'fastest'), 'with --int8, name a form'),
    ]
    for arguments, *parts in slips:
        done = call('export', *accurate, '--shape', 48, 48, *arguments, '--out', tmp_path / 'net')
        assert done[0] == 2 and all(part in done[2].splitlines()[-1] for part in parts), done
    assert [path.name for path in tmp_path.iterdir()] == ['empty']
