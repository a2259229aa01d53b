"""The evaluate command from files to metrics.json, on data and a model whose results are known."""

import json
import subprocess
import sys

import cv2
import numpy as np
import pytest

from miniature_sets import planar_scene
from mt_perception.camera import Camera
from mt_perception.features import create_features
from mt_perception.matching import NearestMatcher
from mt_perception.perception import PerceptionPipeline
from mt_perception.sequences.base import SequenceFrame
from mt_training.data.readers import oxford_affine
from mt_training.data.readers.camvid import CLASS_NAMES
from mt_training.evaluation import depth, keypoints
from mt_training.evaluation.cli import main
from mt_training.evaluation.planar_protocol import summarise
from mt_training.evaluation.segmentation import class_lookup, enlarge_nearest
from tiny_model import KEYPOINTS, write_tiny_matcher, write_tiny_model

SIZE = (64, 32)


def evaluate(*arguments):
    """Run the command; return its exit status."""
    return main([str(a) for a in arguments])


def metrics_of(output):
    """Read metrics.json, which holds no NaN."""
    return json.loads((output / 'metrics.json').read_text(), parse_constant=pytest.fail)


def pictures_of(output):
    """Names of the pictures, every one of which is an image; nothing half-written lies beside them."""
    assert not list(output.glob('.*'))
    assert all(cv2.imread(str(p)) is not None for p in output.glob('*.png'))
    return {p.name for p in output.glob('*.png')}


@pytest.fixture
def camvid(tmp_path):
    """Three images whose red channel is the label: the first all right, of the others a part wrong."""
    for folder in ('images', 'labels'):
        (tmp_path / 'camvid/val' / folder).mkdir(parents=True)
    labels = np.zeros((32, 64), np.uint8)
    labels[:, 32:] = 3
    labels[:4] = 11
    for name, wrong in (('a', 0), ('b', 8), ('c', 16)):
        image = np.zeros((32, 64, 3), np.uint8)
        image[..., 2] = labels  # red in OpenCV's order
        image[:, :wrong, 2] = 3
        cv2.imwrite(str(tmp_path / f'camvid/val/images/{name}.png'), image)
        cv2.imwrite(str(tmp_path / f'camvid/val/labels/{name}.png'), labels)
    return tmp_path / 'camvid'


def test_segmentation(camvid, tmp_path, capsys):
    """IoU of the two classes from the number of wrong columns; unlabelled rows count nowhere."""
    model = write_tiny_model(tmp_path / 'm.onnx', CLASS_NAMES)
    output = tmp_path / 'out'
    status = evaluate(
        'segmentation', '--dataset', 'camvid', '--root', camvid, '--split', 'val', '--model', model,
        '--input-size', '64x32', '--output', output,
    )  # fmt: skip
    assert status == 0
    metrics = metrics_of(output)
    wrong, each = 8 + 16, 3 * 32  # columns
    assert metrics['iou']['sky'] == pytest.approx((each - wrong) / each)
    assert metrics['iou']['road'] == pytest.approx(each / (each + wrong))
    assert metrics['iou']['car'] is None
    assert metrics['miou'] == pytest.approx(((each - wrong) / each + each / (each + wrong)) / 2)
    assert metrics['pixel_accuracy'] == pytest.approx(1 - wrong / (2 * each))
    assert metrics['images'] == 3 and metrics['classes_averaged'] == ['sky', 'road']
    assert metrics['weights']['model_id'] == 'tiny-00000000' and metrics['weights']['input_size'] == [64, 32]
    assert pictures_of(output) == {
        'best.png',
        'typical.png',
        'worst.png',
        'confusion_matrix.png',
        'iou_per_class.png',
    }
    assert f'mIoU {100 * metrics["miou"]:.2f} %' in capsys.readouterr().out


def test_segmentation_by_class_name(camvid, tmp_path):
    """A model with other ids and names is compared by name; its class 3 must be called road."""
    model = write_tiny_model(tmp_path / 'm.onnx', ('sky', 'nothing', 'person', 'street'))
    arguments = (
        'segmentation',
        '--dataset',
        'camvid',
        '--root',
        camvid,
        '--model',
        model,
        '--input-size',
        '64x32',
    )
    (tmp_path / 'map.yaml').write_text('street: road\nperson: pedestrian\n')
    assert evaluate(*arguments, '--class-map', tmp_path / 'map.yaml', '--output', tmp_path / 'mapped') == 0
    assert metrics_of(tmp_path / 'mapped')['iou']['road'] > 0.7
    assert 'building' in metrics_of(tmp_path / 'mapped')['classes_not_in_model']


def test_class_lookup_refuses_strangers():
    """Without a common name, or with a map that names what is not there, nothing is counted."""
    with pytest.raises(Exception, match='--class-map'):
        class_lookup(['cat'], ['sky'])
    with pytest.raises(Exception, match="no class 'dog'"):
        class_lookup(['sky'], ['sky'], {'dog': 'sky'})


def test_class_ids_are_enlarged_without_a_shift():
    """Nearest enlargement keeps areas: twice the size repeats, a flip commutes."""
    ids = np.random.default_rng(0).integers(0, 9, (5, 7)).astype(np.uint8)
    np.testing.assert_array_equal(enlarge_nearest(ids, (10, 14)), ids.repeat(2, 0).repeat(2, 1))
    np.testing.assert_array_equal(
        enlarge_nearest(ids[::-1, ::-1], (13, 20)), enlarge_nearest(ids, (13, 20))[::-1, ::-1]
    )


class Frames:
    """Three frames of a wall 4 m away that the model (blue / 10) sees at 2, 4 and 5 m."""

    def __init__(self, camera=None):
        self.camera = camera

    def __len__(self):
        return 3

    def __getitem__(self, index):
        truth = np.full((64, 128), 4.0, np.float32)
        truth[:10] = np.nan
        if index == 2:
            truth[20:] = 50.0  # beyond the limit
        image = np.zeros((64, 128, 3), np.uint8)
        image[..., 2] = (20, 40, 50)[index]
        return SequenceFrame(index, float(index), image, self.camera, depth=truth)


def test_depth_errors_and_scales(tmp_path):
    """Mean over images of what each is off, without and with its median scale."""
    with PerceptionPipeline(write_tiny_model(tmp_path / 'm.onnx')).engine as engine:
        pipeline = PerceptionPipeline(engine.model.path)
        rows, size, calibrated = depth.evaluate(Frames(), pipeline, (0.1, 10.0))
    summary = depth.summarise(rows)
    assert size == (128, 64) and not calibrated and rows[2]['pixels'] == 10 * 128
    assert summary['abs_rel'] == pytest.approx((0.5 + 0 + 0.25) / 3, abs=1e-5)
    assert summary['rmse_m'] == pytest.approx((2 + 0 + 1) / 3, abs=1e-5)
    assert summary['delta_1'] == pytest.approx(1 / 3)
    assert summary['abs_rel_median_scaled'] == pytest.approx(0, abs=1e-6)
    assert summary['delta_1_median_scaled'] == 1
    ratios = np.array([2, 1, 0.8])
    assert summary['median_ratio'] == pytest.approx({'mean': ratios.mean(), 'std': ratios.std()})


def test_depth_follows_the_focal_length(tmp_path):
    """A camera with twice the focal length the model was made for sees everything twice as far."""
    pipeline = PerceptionPipeline(write_tiny_model(tmp_path / 'm.onnx', depth_focal=50.0), input_size=SIZE)
    camera = Camera.from_focal(128, 64, 200.0)  # 100 pixels at network size
    rows, _, calibrated = depth.evaluate(Frames(camera), pipeline, (0.1, 10.0))
    pipeline.close()
    assert calibrated
    assert [row['median_ratio'] for row in rows] == pytest.approx([1, 0.5, 0.4])


def test_depth_command(tmp_path):
    """The command on a rendered sequence: all keys, twins with median scaling, pictures."""
    output = tmp_path / 'out'
    model = write_tiny_model(tmp_path / 'm.onnx')
    arguments = (
        'depth',
        '--dataset',
        'sequence',
        '--root',
        'rendered:room:3',
        '--frames',
        '0:4',
        '--model',
        model,
    )
    assert evaluate(*arguments, '--max-depth', '20', '--output', output) == 0
    metrics = metrics_of(output)
    assert metrics['images'] == 4 and metrics['limits_m'] == [0.001, 20.0] and metrics['camera_known']
    for key in ('abs_rel', 'rmse_m', 'delta_1', 'delta_2', 'delta_3'):
        assert np.isfinite(metrics[key]) and np.isfinite(metrics[f'{key}_median_scaled'])
    assert metrics['abs_rel'] > 0
    assert pictures_of(output) == {'images.png', 'errors.png'}


ROTATED = np.array([[0.9, -0.2, 60.0], [0.2, 0.9, -20.0], [1e-4, 0, 1]])


def test_keypoints_of_several_features(tmp_path, capsys):
    """SIFT and ORB find the homography of a warped texture; their results lie under their names."""
    planar_scene(tmp_path / 'oxford/wall', [np.eye(3), ROTATED])
    planar_scene(tmp_path / 'oxford/turned', [np.array([[0, -1, 350.0], [1, 0, -50], [0, 0, 1]])])
    output = tmp_path / 'out'
    status = evaluate(
        'keypoints', '--dataset', 'oxford_affine', '--root', tmp_path / 'oxford', '--features', 'sift', 'orb',
        '--size', '400x300', '--keypoints', '500', '--draws', '3', '--output', output,
    )  # fmt: skip
    assert status == 0
    metrics = metrics_of(output)
    assert metrics['features'] == ['sift', 'orb'] and metrics['protocol']['keypoints'] == 500
    for name in ('sift', 'orb'):
        r = metrics[name]
        assert r['pairs'] == 3 and set(r['scenes']) == {'wall', 'turned'}
        assert r['homography_accuracy']['3'] == 1 and r['homography_accuracy']['5'] == 1
        assert 0.4 < r['repeatability'] <= 1 and 0 < r['localization_error_px'] < 1.5
        assert r['mma']['1'] <= r['mma']['3'] <= r['mma']['5'] and r['mma']['3'] > 0.5
        assert 0.2 < r['matching_score'] <= 1
        assert r['groups']['wide']['pairs'] == 1 and r['groups']['narrow']['pairs'] == 2
        assert r['keypoints_per_image'] <= 500 and r['extract_ms'] > 0
    assert {'comparison.png', 'sift_wall.png', 'orb_turned.png'} <= pictures_of(output)
    assert len((output / 'pairs.csv').read_text().splitlines()) == 1 + 6
    assert 'sift' in capsys.readouterr().out
    again = tmp_path / 'again'
    status = evaluate(
        'keypoints', '--dataset', 'oxford_affine', '--root', tmp_path / 'oxford', '--features', 'orb',
        '--size', '400x300', '--keypoints', '500', '--draws', '3', '--output', again,
    )  # fmt: skip
    assert status == 0
    for key in ('homography_accuracy', 'repeatability', 'mma', 'matching_score'):
        assert metrics_of(again)[key] == metrics['orb'][key]


@pytest.mark.parametrize(
    'options, size',
    [((), [96, 64]), (('--input-size', '640x480'), [640, 480])],
    ids=['own size', 'all pixels'],
)
def test_keypoints_of_the_model(options, size, tmp_path):
    """Constant keypoints on an unmoved image are perfect, and one set of features has its keys at the top."""
    planar_scene(tmp_path / 'wall', [np.eye(3)])
    model = write_tiny_model(tmp_path / 'm.onnx')
    output = tmp_path / 'out'
    status = evaluate(
        'keypoints',
        '--dataset',
        'oxford_affine',
        '--root',
        tmp_path / 'wall',
        '--model',
        model,
        '--output',
        output,
        *options,
    )
    assert status == 0
    metrics = metrics_of(output)
    assert metrics['repeatability'] == 1 and metrics['localization_error_px'] == pytest.approx(0, abs=1e-4)
    assert metrics['homography_accuracy'] == {'1': 1, '3': 1, '5': 1}
    assert metrics['matching_score'] == 1 and metrics['mma']['1'] == 1 and metrics['pairs'] == 1
    assert metrics['weights']['model']['input_size'] == size and metrics['keypoints_per_image'] == KEYPOINTS
    assert pictures_of(output) == {'comparison.png', 'model_wall.png'}


def test_keypoints_with_both_matchers(tmp_path, capsys):
    """The matcher model gets the same points as nearest neighbours; each has its results and its weights."""
    planar_scene(tmp_path / 'wall', [np.eye(3)])
    model = write_tiny_model(tmp_path / 'm.onnx')
    arguments = ('keypoints', '--dataset', 'oxford_affine', '--root', tmp_path / 'wall', '--model', model)
    arguments += ('--draws', '1', '--matcher', 'nearest', 'lightglue', '--matcher-model', tmp_path / 'l.onnx')
    write_tiny_matcher(tmp_path / 'l.onnx')
    assert evaluate(*arguments, '--output', tmp_path / 'out') == 0
    metrics = metrics_of(tmp_path / 'out')
    assert metrics['features'] == ['model', 'model+lightglue']
    for name in metrics['features']:
        assert metrics[name]['homography_accuracy']['1'] == 1 and metrics[name]['matching_score'] == 1
        assert metrics[name]['extract_ms'] == metrics['model']['extract_ms'] > 0
    assert metrics['weights']['lightglue']['model_id'] == 'tiny-matcher-00000000'
    write_tiny_matcher(tmp_path / 'l.onnx', 'another-model')
    assert evaluate(*arguments, '--output', tmp_path / 'again') == 1
    assert 'another-model' in capsys.readouterr().err


@pytest.mark.parametrize('truth', [False, True])
def test_vpr(tmp_path, truth):
    """Places told apart by colour: with two queries swapped, two of five are wrong at 1."""
    colors = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0), (0, 255, 255)]
    shown = [0, 1, 2, 4, 3]
    for folder, order in (('query', shown), ('ref', range(5))):
        (tmp_path / 'data' / folder).mkdir(parents=True)
        for place, index in enumerate(order):
            cv2.imwrite(
                str(tmp_path / f'data/{folder}/{place}.png'), np.full((32, 64, 3), colors[index], np.uint8)
            )
    if truth:  # query 3 shows what it should, query 4 has no true reference
        (tmp_path / 'data/ground_truth.csv').write_text('0,0\n1,1\n2,2\n3,4\n')
    output = tmp_path / 'out'
    status = evaluate(
        'vpr', '--dataset', 'pairs', '--root', tmp_path / 'data', '--tolerance', '0',
        '--features', 'model', 'pixels', '--model', write_tiny_model(tmp_path / 'm.onnx'), '--output', output,
    )  # fmt: skip
    assert status == 0
    metrics = metrics_of(output)
    assert metrics['queries'] == metrics['references'] == 5
    assert metrics['queries_without_reference'] == (1 if truth else 0)
    assert metrics['weights']['model_id'] == 'tiny-00000000'
    assert metrics['features'] == ['model', 'pixels'] and metrics['pixels']['descriptor_dim'] == 2048
    expected = {'1': 0.8, '5': 0.8, '10': 0.8} if truth else {'1': 0.6, '5': 1, '10': 1}
    assert metrics['model']['recall'] == pytest.approx(expected)
    assert metrics['model']['descriptor_dim'] == 3 and metrics['model']['extract_ms'] > 0
    assert {'recall.png', 'model_similarity.png', 'model_examples.png', 'pixels_examples.png'} <= pictures_of(
        output
    )


@pytest.mark.parametrize(
    'arguments, sentence',
    [
        (('segmentation', '--dataset', 'camvid', '--root', 'nowhere'), 'nowhere'),
        (
            ('keypoints', '--dataset', 'hpatches', '--root', '{root}', '--features', 'sift'),
            'no HPatches scene',
        ),
        (
            ('keypoints', '--dataset', 'oxford_affine', '--root', '{root}/wall', '--features', 'aliked'),
            '--aliked-weights',
        ),
        (
            ('keypoints', '--dataset', 'oxford_affine', '--root', '{root}/wall', '--features', 'aliked')
            + ('--aliked-weights', 'nowhere.pth'),
            'nowhere.pth',
        ),
        (
            (
                'keypoints',
                '--dataset',
                'oxford_affine',
                '--root',
                '{root}/wall',
                '--model',
                '{root}/wall/img1.png',
            ),
            'img1.png',
        ),
        (('vpr', '--dataset', 'corridor', '--root', '{root}'), 'ground_truth.csv'),
        (('vpr', '--dataset', 'pairs', '--root', '{root}', '--query', 'spring'), 'nordland'),
        (
            (
                'keypoints',
                '--dataset',
                'oxford_affine',
                '--root',
                '{root}/wall',
                '--model',
                '{root}/no_points.onnx',
            ),
            'no task keypoints',
        ),
        (
            ('depth', '--dataset', 'rgbd', '--root', 'rendered:room', '--min-depth', '5', '--max-depth', '2'),
            '--min-depth 5',
        ),
    ],
)
def test_mistakes_are_one_sentence(tmp_path, capsys, monkeypatch, arguments, sentence):
    """What is wrong goes to stderr in one line, the status is 1, and no metrics are written."""
    monkeypatch.chdir(tmp_path)
    planar_scene(tmp_path / 'wall', [np.eye(3)])
    write_tiny_model(tmp_path / 'no_points.onnx', tasks=['segmentation'])
    output = tmp_path / 'out'
    assert evaluate(*(a.format(root=tmp_path) for a in arguments), '--output', output) == 1
    error = capsys.readouterr().err
    assert error.startswith(f'evaluate {arguments[0]}: ') and sentence in error
    assert len(error.strip().splitlines()) == 1 and 'Traceback' not in error
    assert not (output / 'metrics.json').exists()


def test_output_that_is_a_file(tmp_path, capsys):
    """A file in the place of the output folder is named."""
    planar_scene(tmp_path / 'wall', [np.eye(3)])
    (tmp_path / 'out').write_text('mine')
    arguments = ('keypoints', '--dataset', 'oxford_affine', '--root', tmp_path / 'wall', '--features', 'orb')
    assert evaluate(*arguments, '--output', tmp_path / 'out') == 1
    assert 'out' in capsys.readouterr().err and (tmp_path / 'out').read_text() == 'mine'


def test_evaluation_needs_no_torch():
    """The command starts where torch cannot be imported, and says so only for ALIKED."""
    code = (
        'import sys\n'
        'sys.modules.update(dict.fromkeys(("torch", "kornia", "torchvision", "lightning")))\n'
        'from mt_perception.errors import EvaluationError\n'
        'from mt_training.evaluation import cli\n'
        'from mt_training.evaluation.aliked import AlikedFeatures\n'
        'try:\n'
        '    AlikedFeatures(sys.executable, 10)\n'
        'except EvaluationError as error:\n'
        '    print(error)\n'
    )
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert 'needs torch and kornia' in done.stdout


def test_aliked_follows_the_call_of_the_other_features(shared):
    """The strongest k keypoints with unit descriptors, in pixels of the image."""
    pytest.importorskip('torch')
    pytest.importorskip('kornia')
    from mt_training.evaluation.aliked import AlikedFeatures

    weights = shared / 'pretrained/aliked-n16rot.pth'
    if not weights.is_file():
        pytest.skip(f'needs {weights}')
    image = cv2.resize(cv2.imread(str(shared / 'data/oxford_affine/graf/img1.png')), (160, 120))
    points = AlikedFeatures(weights, 50).process(np.ascontiguousarray(image[..., ::-1])).keypoints
    assert len(points) == 50 and points.image_size == (160, 120)
    assert (np.diff(points.scores) <= 0).all()
    np.testing.assert_allclose(np.linalg.norm(points.descriptors, axis=1), 1, atol=1e-4)
    assert (points.xy >= 0).all() and (points.xy < (160, 120)).all()


def test_reference_points_on_oxford(shared):
    """
    SIFT and ORB on the 20 pairs of Oxford affine come out as in plain code.

    Repeatability 0.53 and 0.76 has no chance in it; homography accuracy of 0.80 and 0.60 at 3 px were single
    RANSAC draws, whose deviation is about 0.05.
    """
    scenes = oxford_affine.read_scenes(shared / 'data/oxford_affine')
    extractors = {name: create_features(name, 1000) for name in ('sift', 'orb')}
    matchers = {name: (name, NearestMatcher(-1.0)) for name in extractors}
    pairs, _, _ = keypoints.evaluate(scenes, extractors, matchers, (640, 480), draws=3)
    sift, orb = summarise(pairs['sift']), summarise(pairs['orb'])
    assert sift['pairs'] == orb['pairs'] == 20
    assert sift['repeatability'] == pytest.approx(0.53, abs=0.01)
    assert orb['repeatability'] == pytest.approx(0.76, abs=0.01)
    assert sift['homography_accuracy']['3'] == pytest.approx(0.80, abs=0.08)
    assert orb['homography_accuracy']['3'] == pytest.approx(0.60, abs=0.12)


def test_reference_point_on_corridor(shared, tmp_path):
    """Patch-normalised pixels reach recall@1 of 0.40 on the corridor."""
    output = tmp_path / 'out'
    arguments = (
        'vpr',
        '--dataset',
        'corridor',
        '--root',
        shared / 'data/vpr_corridor',
        '--features',
        'pixels',
    )
    assert evaluate(*arguments, '--output', output) == 0
    metrics = metrics_of(output)
    assert metrics['recall']['1'] == pytest.approx(0.405, abs=0.01)
    assert metrics['queries'] == metrics['references'] == 111
