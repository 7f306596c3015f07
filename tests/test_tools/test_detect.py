"""Pictures, folders and videos through ``tools/detect.py``."""

import json
import pickle
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from mmshuffle.deploy.detector import Detector
from mmshuffle.engine.network import load_model, load_model_config
from tests.test_tools.conftest import assert_refused, assert_user_error, load_tool
from tests.tiny import CLASSES, write_coco, write_config

HEIGHT, WIDTH = 64, 96


@pytest.fixture(scope='module')
def tiny(tmp_path_factory) -> tuple[Path, Path, Path]:
    """Config of a detector, a checkpoint of it, and its data."""
    folder = tmp_path_factory.mktemp('detect')
    # Of another size than the network's images, so that boxes are scaled back.
    data = write_coco(folder / 'data', images=3, size=(144, 96))
    config = write_config(folder, data)
    checkpoint = folder / 'tiny.pth'
    model = load_model(load_model_config(str(config)), shape=(HEIGHT, WIDTH))
    meta = dict(dataset_meta=dict(classes=CLASSES))
    torch.save(dict(state_dict=model.state_dict(), meta=meta), checkpoint)
    return config, checkpoint, data


def test_a_folder_has_the_detections_of_a_test(tiny, call, tmp_path):
    config, checkpoint, data = tiny
    options = ('--out', tmp_path / 'a.pkl', '--work-dir', tmp_path)
    assert call('test', config, checkpoint, *options)[0] == 0
    with open(tmp_path / 'a.pkl', 'rb') as file:
        expected = {sample['img_id']: sample['pred_instances'] for sample in pickle.load(file)}
    ids = ('--ann-file', data / 'annotations.json')
    code, out, err = call(
        'detect', config, checkpoint, data / 'images', '--out', tmp_path, *ids, '--score-thr', 0
    )
    assert code == 0, err
    found = json.loads((tmp_path / 'results.bbox.json').read_text())
    assert f'{len(found)} detections on 3 images' in out and len(found) > 10
    for number, instances in expected.items():
        boxes, scores, labels = (instances[k] for k in ('bboxes', 'scores', 'labels'))
        mine = [entry for entry in found if entry['image_id'] == number]
        corners = np.array([entry['bbox'] for entry in mine])
        corners[:, 2:] += corners[:, :2]
        np.testing.assert_allclose(corners, boxes.numpy(), atol=2e-3)
        np.testing.assert_allclose([entry['score'] for entry in mine], scores, atol=1e-5)
        assert [entry['category_id'] - 1 for entry in mine] == labels.tolist()
        before, after = (
            cv2.imread(str(f / f'{number - 1}.jpg')) for f in (data / 'images', tmp_path)
        )
        assert before.shape == after.shape and np.abs(after.astype(int) - before).max() > 100


def test_an_exported_detector_finds_the_same_in_a_video(tiny, call, tmp_path):
    pytest.importorskip('onnxruntime', reason='needs onnxruntime: pip install onnxruntime')
    pytest.importorskip('onnxscript', reason='needs onnxscript: pip install onnxscript')
    config, checkpoint, data = tiny
    video, graph = tmp_path / 'a b.avi', tmp_path / 'tiny.onnx'
    writer = cv2.VideoWriter(str(video), cv2.VideoWriter_fourcc(*'MJPG'), 5, (144, 96))
    for path in sorted((data / 'images').iterdir()):
        writer.write(cv2.imread(str(path)))
    writer.release()
    shape = ('--shape', HEIGHT, WIDTH)
    assert call('export', config, checkpoint, *shape, '--out', graph)[0] == 0
    results = []
    for name in (checkpoint, graph):
        code, _, err = call('detect', config, name, video, '--out', tmp_path / name.suffix)
        assert code == 0, err
        results.append(json.loads((tmp_path / name.suffix / 'results.bbox.json').read_text()))
    assert len(results[0]) == len(results[1]) > 10
    for one, other in zip(*results, strict=True):
        assert (one['image_id'], one['category_id']) == (other['image_id'], other['category_id'])
        assert one['score'] == pytest.approx(other['score'], abs=1e-4)
        assert one['bbox'] == pytest.approx(other['bbox'], abs=0.02)
    (lone := tmp_path / 'lone.onnx').write_bytes(graph.read_bytes())
    done = call('detect', config, lone, video, '--out', tmp_path / 'lone')
    assert_refused(done, 'lone.json is no .json file of an exported detector')
    drawn = cv2.VideoCapture(str(tmp_path / '.onnx' / 'a b.mp4'))
    assert (drawn.get(cv2.CAP_PROP_FRAME_COUNT), drawn.get(cv2.CAP_PROP_FPS)) == (3, 5)
    assert not list((tmp_path / '.onnx').glob('.*'))
    video.rename(drawn := tmp_path / 'clip.mp4')
    done = call('detect', config, checkpoint, drawn, '--out', tmp_path)
    assert_user_error(done, 'would be overwritten')
    content = json.loads((data / 'annotations.json').read_text())
    for names in ([], ['clip.mp4'], ['000000', '000001', '000002']):
        images = [dict(content['images'][0], id=i, file_name=n) for i, n in enumerate(names, 1)]
        (ids := tmp_path / 'ids.json').write_text(json.dumps({**content, 'images': images}))
        line = (config, checkpoint, drawn, '--out', tmp_path / 'ids', '--ann-file', ids)
        assert_user_error(call('detect', *line), 'ids.json has ids of pictures, not of frames')


def test_an_image_that_does_not_decode_loses_no_other(tiny, call, tmp_path):
    config, checkpoint, data = tiny
    for name in ('0.jpg', '1.jpg', 'deeper/2.jfif'):
        path = tmp_path / 'in' / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes((data / 'images' / f'{path.stem}.jpg').read_bytes())
    (tmp_path / 'in/1.jpg').write_bytes(b'no picture')
    code, _, err = call('detect', config, checkpoint, tmp_path / 'in', '--out', tmp_path / 'out')
    assert code == 2 and '1.jpg cannot be read' in err and '1 pictures could not' in err
    written = json.loads((tmp_path / 'out/images.json').read_text())
    assert [image['file_name'] for image in written['images']] == ['0.jpg', 'deeper/2.jfif']
    assert cv2.imread(str(tmp_path / 'out/deeper/2.jfif')).shape == (96, 144, 3)


def test_what_cannot_be_detected_on_is_refused(tiny, call, tmp_path):
    config, checkpoint, data = tiny
    picture = data / 'images' / '0.jpg'
    other = tmp_path / 'other.pth'
    torch.save({**torch.load(checkpoint), 'meta': dict(dataset_meta=dict(CLASSES=('cat',)))}, other)
    (tmp_path / 'empty').mkdir()
    (tmp_path / 'no.jpg').write_bytes(b'')
    (tmp_path / 'no.mp4').write_bytes(b'no video')
    (tmp_path / 'no.gif').write_bytes(b'')
    content = json.loads((data / 'annotations.json').read_text())
    few, unknown = tmp_path / 'few.json', tmp_path / 'unknown.json'
    few.write_text(json.dumps({**content, 'categories': content['categories'][:1]}))
    unknown.write_text(json.dumps({**content, 'images': []}))
    nameless = tmp_path / 'nameless.json'
    nameless.write_text(json.dumps({**content, 'images': [dict(id=1, width=144, height=96)]}))
    for line, *parts in (
        ((config, other, picture), 'trained on the classes (cat)', '(box, disc)'),
        ((config, checkpoint, tmp_path / 'empty'), 'has no picture'),
        ((config, checkpoint, tmp_path / 'gone.jpg'), 'gone.jpg does not exist'),
        ((config, checkpoint, tmp_path / 'no.jpg'), 'no.jpg cannot be read'),
        ((config, checkpoint, tmp_path / 'no.mp4'), 'no.mp4 cannot be read', 'no video'),
        ((config, checkpoint, 'camera:77'), 'camera:77 cannot be read'),
        ((config, tmp_path / 'gone.pth', picture), 'gone.pth does not exist'),
        (('shufflenetv2-x0.5', checkpoint, picture), 'classifier'),
        ((config, checkpoint, picture, '--score-thr', 2), '--score-thr'),
        ((config, checkpoint, picture, '--device', 'nonsense'), '--device nonsense: '),
        ((config, checkpoint, picture, '--device', 'cuda:99'), '--device cuda:99: '),
        ((config, checkpoint, tmp_path / 'no.gif', '--ann-file', unknown), 'no.gif cannot be read'),
        ((config, checkpoint, picture, '--ann-file', nameless), 'nameless.json', 'no file_name'),
        ((config, checkpoint, picture, '--ann-file', picture), 'no valid JSON'),
        ((config, checkpoint, picture, '--ann-file', few), 'lacks the classes disc'),
        ((config, checkpoint, picture, '--ann-file', unknown), 'has no image 0.jpg'),
    ):
        assert_user_error(call('detect', *line, '--out', tmp_path / 'out'), *parts)
    assert not (tmp_path / 'out').exists()
    folder, kept = data / 'images', picture.read_bytes()
    for given, out in ((picture, folder), (folder, folder), (folder, data / 'x' / '..' / 'images')):
        done = call('detect', config, checkpoint, given, '--out', out)
        assert_user_error(done, '0.jpg would be overwritten')
    assert picture.read_bytes() == kept and len(list(folder.iterdir())) == 3
    done = call('detect', config, checkpoint, picture, '--out', few)
    assert_user_error(done, f'error: --out {few} is a file: give a folder\n')


def test_a_stream_that_is_interrupted_is_kept(tiny, tmp_path, monkeypatch):
    config, checkpoint, data = tiny
    tool, calls = load_tool('detect'), []

    class Interrupted(Detector):
        def __call__(self, picture):
            calls.append(picture)
            if len(calls) == 3:
                raise KeyboardInterrupt
            return super().__call__(picture)

    monkeypatch.setattr(tool, 'Detector', Interrupted)
    args = [str(config), str(checkpoint), str(data / 'images'), '--out', str(tmp_path)]
    assert tool.main(args) == 130
    assert len(json.loads((tmp_path / 'images.json').read_text())['images']) == 2
