"""``evaluate all``, ``--debug`` and the curves of a training, on data whose results are known."""

import json

import cv2
import numpy as np
import pytest

from mt_training import curves
from mt_training.data.readers.camvid import CLASS_NAMES
from mt_training.evaluation.cli import main
from tiny_model import write_tiny_model


@pytest.fixture
def data(tmp_path):
    """Write two labelled images (the second half wrong), and two places seen twice."""
    labels = np.zeros((32, 64), np.uint8)
    labels[:, 32:] = 3
    for folder in ('images', 'labels'):
        (tmp_path / 'camvid/val' / folder).mkdir(parents=True)
    for name, wrong in (('a', 0), ('b', 16)):
        image = np.zeros((32, 64, 3), np.uint8)
        image[..., 2], image[..., 0] = labels, 50
        image[:, :wrong, 2] = 3
        cv2.imwrite(str(tmp_path / f'camvid/val/images/{name}.png'), image)
        cv2.imwrite(str(tmp_path / f'camvid/val/labels/{name}.png'), labels)
    for side in ('query', 'ref'):
        (tmp_path / 'places' / side).mkdir(parents=True)
        for name, color in (('0', (200, 0, 0)), ('1', (0, 200, 0))):
            cv2.imwrite(str(tmp_path / f'places/{side}/{name}.png'), np.full((32, 64, 3), color, np.uint8))
    return tmp_path


def evaluate(*words):
    """Run the command; return its exit status."""
    return main([str(word) for word in words])


def read(path):
    """Read metrics, which hold no NaN."""
    return json.loads(path.read_text(), parse_constant=pytest.fail)


def test_all_of_datasets_yaml(data, tmp_path, capsys):
    model = write_tiny_model(tmp_path / 'm.onnx', CLASS_NAMES)
    (data / 'sets.yaml').write_text('camvid: camvid\nmine: {dataset: pairs, root: places}\nhpatches: gone\n')
    words = (
        'all',
        '--datasets',
        data / 'sets.yaml',
        '--model',
        model,
        '--input-size',
        '64x32',
        '--threads',
        '1',
    )
    words += ('--output', tmp_path / 'out', '--debug', '2')
    assert evaluate(*words) == 1, 'one of the sets is not there'
    assert 'keypoints_hpatches' in capsys.readouterr().err.splitlines()[-1]
    whole = read(tmp_path / 'out/metrics.json')
    parts = {p.parent.name: read(p) for p in (tmp_path / 'out').glob('*/metrics.json')}
    assert set(parts) == set(whole['evaluations']) == {'segmentation_camvid', 'vpr_mine'}
    assert whole['evaluations']['segmentation_camvid']['miou'] == parts['segmentation_camvid']['miou']
    assert whole['evaluations']['vpr_mine']['recall.1'] == 1 and set(whole['failed']) == {
        'keypoints_hpatches'
    }
    pictures = {p.name for p in (tmp_path / 'out/segmentation_camvid/debug').iterdir()}
    assert {'000000_segmentation.png', '000001_depth.png', '000000_keypoints.png'} <= pictures
    # again: what is there is kept, what failed is tried
    before = (tmp_path / 'out/vpr_mine/metrics.json').stat().st_mtime_ns
    (data / 'sets.yaml').write_text('camvid: camvid\nmine: {dataset: pairs, root: places}\n')
    assert evaluate(*words) == 0
    assert (tmp_path / 'out/vpr_mine/metrics.json').stat().st_mtime_ns == before
    assert read(tmp_path / 'out/metrics.json')['failed'] == {}


def test_named_sets(data, tmp_path):
    model = write_tiny_model(tmp_path / 'm.onnx', CLASS_NAMES)
    words = (
        'all',
        '--segmentation',
        f'camvid={data / "camvid"}',
        '--vpr',
        '--model',
        model,
        '--threads',
        '1',
    )
    assert evaluate(*words, '--output', tmp_path / 'out') == 0
    assert list(read(tmp_path / 'out/metrics.json')['evaluations']) == ['segmentation_camvid']


@pytest.mark.parametrize(
    ('words', 'sentence'),
    [
        ((), 'nothing to evaluate'),
        (('--depth', 'rgbd=x'), 'no task depth'),
        (('--model', 'nowhere.onnx'), 'nowhere.onnx'),
    ],
)
def test_mistakes_are_one_sentence(words, sentence, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv('MT_DATASETS', raising=False)
    write_tiny_model(tmp_path / 'm.onnx', CLASS_NAMES, tasks=['segmentation'])
    assert evaluate('all', *(() if '--model' in words else ('--model', 'm.onnx')), *words) == 1
    message = capsys.readouterr().err
    assert message.startswith('evaluate all: ') and sentence in message and message.count('\n') == 1


def test_curves_of_a_run_that_was_stopped(tmp_path, capsys):
    texts = {
        0: 'epoch,step,loss,val/miou\n0,0,4.0,\n0,1,3.0,\n0,1,,0.2\n1,2,9.0,\n',
        1: 'epoch,step,loss,kitti/depth,val/miou\n1,2,2.0,0.5,\n1,3,1.0,,\n1,3,,,0.4\n',
    }
    for version, text in texts.items():
        folder = tmp_path / f'run/logs/version_{version}'
        folder.mkdir(parents=True)
        (folder / 'metrics.csv').write_text(text)
    found = curves.read_logs(tmp_path / 'run')
    assert found['loss'] == {0: 4.0, 1: 3.0, 2: 2.0, 3: 1.0}, 'step 2 counts as it was done last'
    assert found['val/miou'] == {1: 0.2, 3: 0.4}
    figure = curves.draw(found)
    assert [axis.get_ylabel() for axis in figure.axes] == ['losses', 'sets', 'validation']
    assert figure.axes[0].get_yscale() == 'log' and figure.axes[2].get_yscale() == 'linear'
    assert curves.main([str(tmp_path / 'run')]) == 0
    assert cv2.imread(str(tmp_path / 'run/curves.png')) is not None
    assert curves.main([str(tmp_path)]) == 1 and 'no figures' in capsys.readouterr().err
