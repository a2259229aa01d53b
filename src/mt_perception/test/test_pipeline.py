"""From image to Perception, against a model whose outputs are known exactly."""

import time

import numpy as np
import onnx
import pytest

import contract_models
from mt_perception.camera import Camera
from mt_perception.errors import CameraError, ImageError, ModelError
from mt_perception.perception import PerceptionPipeline
from mt_perception.types import UNKNOWN_CLASS

TASKS = ('segmentation', 'depth', 'keypoints', 'global_descriptor')


def make(tmp_path, engine='onnxruntime', keypoints=None, input_size=(0, 0), confidence=True, **options):
    """Return a pipeline of the test model; further options are metadata, or what is taken out below."""
    kept = {name: options.pop(name) for name in ('min_score', 'fixed', 'drop') if name in options}
    metadata = contract_models.perception_metadata(**options)
    path = contract_models.write_perception(
        tmp_path / 'model.onnx',
        metadata,
        keypoints,
        kept.pop('fixed', False),
        confidence,
        drop=kept.pop('drop', ()),
    )
    return PerceptionPipeline(path, engine, input_size, **kept)


def picture(width=64, height=32, seed=0):
    return np.random.default_rng(seed).integers(1, 255, (height, width, 3), np.uint8)


def points(*rows):
    """Return (xy [n,2], scores [n]) of (x, y, score) rows."""
    rows = np.array(rows, np.float32)
    return rows[:, :2], rows[:, 2]


def test_every_task_at_the_models_size(tmp_path):
    pipeline = make(tmp_path)
    image = picture()
    out = pipeline.process(image)
    assert pipeline.tasks == TASKS
    np.testing.assert_array_equal(out.segmentation, image[..., 0])
    np.testing.assert_array_equal(out.segmentation_confidence, image[..., 1])
    np.testing.assert_allclose(out.depth, image[..., 2] / 10, rtol=1e-6)
    np.testing.assert_array_equal(out.global_descriptor, contract_models.unit_rows(1, 4, 1)[0])
    xy, scores = contract_models.default_keypoints()
    points = out.keypoints
    np.testing.assert_array_equal(points.xy, xy[:4])  # the last two are padding
    np.testing.assert_array_equal(points.scores, scores[:4])
    np.testing.assert_array_equal(points.descriptors, contract_models.unit_rows(6, 8)[:4])
    assert points.model_id == 'test-net-01234567' and points.image_size == (64, 32) == out.image_size
    assert set(out.timings_ms) == {'preprocess', 'inference', 'postprocess'}
    assert (
        points.xy.dtype == points.scores.dtype == points.descriptors.dtype == points.depth.dtype == np.float32
    )
    assert points.class_id.dtype == np.uint8


@pytest.mark.parametrize('size', [(64, 32), (128, 64), (50, 30), (33, 17), (640, 480), (7, 90), (1, 1)])
def test_keypoints_are_pixels_of_the_original_image(tmp_path, size):
    """Pixel centres: network (0, 0) is the middle of its pixel, not the corner of the image."""
    xy = np.array([[0, 0], [63, 31], [31.5, 15.5], [20.25, 7.75]], np.float32)
    pipeline = make(
        tmp_path, keypoints=(xy, np.array([4, 3, 2, 1], np.float32)), max_keypoints=4, input_size=(64, 32)
    )
    found = pipeline.process(picture(*size)).keypoints.xy
    width, height = size
    expected = np.stack([(xy[:, 0] + 0.5) * width / 64 - 0.5, (xy[:, 1] + 0.5) * height / 32 - 0.5], 1)
    np.testing.assert_allclose(found, expected, atol=1e-4)
    np.testing.assert_allclose(
        found[2], [(width - 1) / 2, (height - 1) / 2], atol=1e-4
    )  # centre stays centre


def test_keypoints_find_what_they_saw(tmp_path):
    """A bright dot in a large image: scaled to the network and back, the pixel is the same."""
    image = np.zeros((64, 128, 3), np.uint8)
    image[40:42, 100:102] = 255
    pipeline = make(tmp_path, keypoints=points((50, 20, 1)), max_keypoints=1, input_size=(64, 32))
    out = pipeline.process(image)
    assert out.segmentation[20, 50] == 255  # the network sees the dot at (50, 20)
    np.testing.assert_allclose(out.keypoints.xy, [[100.5, 40.5]])  # in the image it covers 100–101, 40–41
    assert out.keypoints.class_id == [255]


def test_keypoints_carry_depth_and_class(tmp_path):
    image = picture()
    image[4, 10] = (3, 0, 80)
    image[4, 11] = (4, 0, 84)
    image[20, 30] = (1, 0, 0)  # blue 0: depth is NaN
    image[20, 31] = image[21, 30] = image[21, 31] = (2, 0, 0)
    where = points((10, 4, 0.9), (10.25, 4, 0.8), (30.4, 20.4, 0.7))
    found = make(tmp_path, keypoints=where, max_keypoints=3).process(image).keypoints
    assert found.class_id.tolist() == [3, 3, 1]
    np.testing.assert_allclose(found.depth, [8.0, 8.1, np.nan], rtol=1e-6)


def test_strongest_first_filter_and_truncation(tmp_path):
    where = points((0, 0, 0.9), (1, 1, 0.5), (2, 2, 0.3), (3, 3, 0.1), (4, 4, 0.0))
    pipeline = make(tmp_path, keypoints=where, max_keypoints=5)
    for limit, threshold, expected in (
        (512, 0, 4),
        (2, 0, 2),
        (512, 0.3, 3),
        (512, 0.31, 2),
        (1, 0.3, 1),
        (9, 1, 0),
    ):
        pipeline.max_keypoints, pipeline.min_score = limit, np.float32(threshold)
        found = pipeline.process(picture()).keypoints
        np.testing.assert_array_equal(found.xy[:, 0], np.arange(expected))
        assert len(found.descriptors) == len(found.depth) == len(found.class_id) == expected


def test_no_keypoints(tmp_path):
    nothing = points((0, 0, 0), (0, 0, 0))
    found = make(tmp_path, keypoints=nothing, max_keypoints=2).process(picture()).keypoints
    assert len(found) == 0
    assert found.xy.shape == (0, 2) and found.descriptors.shape == (0, 8) and found.depth.shape == (0,)


def test_depth_follows_the_focal_length(tmp_path):
    """Depth was learnt for 40 network pixels; a camera of 160 pixels has 80 of them at half the size."""
    image = np.full((64, 128, 3), 50, np.uint8)
    pipeline = make(tmp_path, depth_focal=40.0, input_size=(64, 32))
    known = pipeline.process(image, Camera.from_focal(128, 64, 160.0))
    np.testing.assert_allclose(known.depth, 5.0 * 80 / 40)
    np.testing.assert_allclose(known.keypoints.depth, 10.0)
    np.testing.assert_allclose(pipeline.process(image).depth, 5.0)  # nobody knows better


def test_depth_without_focal_length_is_metric_for_any_camera(tmp_path):
    image = np.full((32, 64, 3), 50, np.uint8)
    out = make(tmp_path, depth_focal=None).process(image, Camera.from_focal(64, 32, 160.0))
    np.testing.assert_allclose(out.depth, 5.0)


def test_relative_depth_is_no_depth_of_keypoints(tmp_path):
    out = make(tmp_path, depth_kind='relative').process(picture())
    assert out.depth.shape == (32, 64)
    assert np.isnan(out.keypoints.depth).all()


def test_camera_of_another_size_is_refused(tmp_path):
    with pytest.raises(CameraError, match='calibrated for 128 × 64 images, but the image is 64 × 32'):
        make(tmp_path).process(picture(), Camera.from_focal(128, 64, 100.0))


@pytest.mark.parametrize('task', TASKS)
def test_one_task(tmp_path, task):
    pipeline = make(tmp_path)
    everything, out = pipeline.process(picture()), pipeline.process(picture(), tasks=[task])
    for name in TASKS:
        assert (getattr(out, name) is not None) == (name == task)
    assert (out.segmentation_confidence is not None) == (task == 'segmentation')
    if task == 'keypoints':  # with the same depth and class as ever
        for name in ('xy', 'scores', 'descriptors', 'depth', 'class_id'):
            np.testing.assert_array_equal(getattr(out.keypoints, name), getattr(everything.keypoints, name))
    else:
        np.testing.assert_array_equal(getattr(out, task), getattr(everything, task))


def test_only_what_is_needed_is_computed(tmp_path, monkeypatch):
    pipeline = make(tmp_path)
    asked = []
    run = pipeline.engine.run
    monkeypatch.setattr(
        pipeline.engine, 'run', lambda inputs, names: asked.append(set(names)) or run(inputs, names)
    )
    for tasks in (['depth'], ['segmentation'], ['keypoints'], ['global_descriptor'], []):
        pipeline.process(picture(), tasks=tasks)
    point = {'keypoints', 'scores', 'descriptors', 'segmentation', 'depth'}
    assert asked == [{'depth'}, {'segmentation', 'segmentation_confidence'}, point, {'global_descriptor'}]


def test_segmentation_only_model(tmp_path):
    pipeline = make(
        tmp_path,
        confidence=False,
        tasks=['segmentation'],
        descriptor_dim=0,
        global_descriptor_dim=0,
        max_keypoints=0,
    )
    out = pipeline.process(picture())
    assert pipeline.tasks == ('segmentation',)
    assert out.depth is None and out.keypoints is None and out.global_descriptor is None
    assert out.segmentation is not None and out.segmentation_confidence is None
    with pytest.raises(ModelError, match='has no task depth; it has segmentation'):
        pipeline.process(picture(), tasks=['depth'])


def test_keypoints_only_model(tmp_path):
    found = make(tmp_path, tasks=['keypoints']).process(picture()).keypoints
    assert np.isnan(found.depth).all() and (found.class_id == UNKNOWN_CLASS).all()


def test_automatic_size_follows_each_camera(tmp_path):
    pipeline = make(tmp_path, input_size=(0, 0))
    assert pipeline.process(picture(640, 320)).segmentation.shape == (32, 64)
    assert pipeline.process(picture(320, 640)).segmentation.shape == (64, 32)
    assert pipeline.network_size((640, 640)) == (32, 32)


def test_requested_size(tmp_path):
    assert make(tmp_path, input_size=(96, 64)).process(picture(640, 480)).depth.shape == (64, 96)


def test_fixed_model_squeezes_without_nagging(tmp_path):
    pipeline = make(tmp_path, fixed=True)
    assert pipeline.process(picture(320, 640)).segmentation.shape == (32, 64)
    assert pipeline.warnings == []  # it cannot be built for another size


@pytest.mark.parametrize(
    'image',
    [
        np.zeros((32, 64), np.uint8),
        np.zeros((32, 64, 4), np.uint8),
        np.zeros((32, 64, 3), np.float32),
        np.zeros((0, 64, 3), np.uint8),
    ],
)
def test_no_rgb_image(tmp_path, image):
    with pytest.raises(ImageError, match=r'an RGB image is \[H,W,3\] uint8, not'):
        make(tmp_path).process(image)


def test_views_and_read_only_images(tmp_path):
    pipeline = make(tmp_path)
    large = picture(100, 60)
    view = large[5:37, 10:74]
    view.flags.writeable = False
    np.testing.assert_array_equal(pipeline.process(view).segmentation, large[5:37, 10:74, 0])
    np.testing.assert_array_equal(pipeline.process(large[:32, 63::-1]).segmentation, large[:32, 63::-1, 0])


def test_map_of_another_size_is_refused(tmp_path):
    """The metadata can promise only so much: the first image shows it."""
    path = contract_models.write_perception(tmp_path / 'model.onnx')
    model = onnx.load(str(path))
    for node in model.graph.node:
        if node.output[0] == 'depth':
            node.input[0] = 'small'
    pooled = onnx.helper.make_node('MaxPool', ['depth32'], ['small'], kernel_shape=[2], strides=[2])
    model.graph.node.insert([n.output[0] for n in model.graph.node].index('depth'), pooled)
    onnx.save(model, str(path))
    with pytest.raises(ModelError, match='gives depth of 32 × 32 pixels for an image of 64 × 32'):
        PerceptionPipeline(path, 'onnxruntime').process(picture())


def test_matcher_is_no_perception_model(tmp_path):
    path = contract_models.write_matcher(tmp_path / 'matcher.onnx')
    with pytest.raises(ModelError, match='where a perception model is needed'):
        PerceptionPipeline(path)


def test_warm_up(tmp_path):
    pipeline = make(tmp_path)
    pipeline.warm_up()
    pipeline.warm_up((640, 480), ['depth'])


def test_overhead_beside_the_engine(tmp_path):
    """Resizing a 640 × 480 image and everything after the network, 512 keypoints, take less than 2 ms."""
    rng = np.random.default_rng(0)
    xy = rng.uniform((0, 0), (511, 383), (512, 2)).astype(np.float32)
    where = xy, np.linspace(1, 0.1, 512, dtype=np.float32)
    pipeline = make(
        tmp_path,
        keypoints=where,
        max_keypoints=512,
        input_size=(512, 384),
        depth_focal=500.0,
        descriptor_dim=64,
    )
    image, camera = picture(640, 480), Camera.from_focal(640, 480, 525.0)
    cost = []
    for _ in range(30):
        start = time.thread_time()  # of this thread alone: other processes do not count
        run_cost = pipeline_cost(pipeline, image, camera)
        cost.append(time.thread_time() - start - run_cost)
    assert min(cost) < 2e-3


def pipeline_cost(pipeline, image, camera):
    """Process once; return the CPU seconds the engine took of this thread."""
    spent = []
    run = pipeline.engine.run

    def timed(*arguments):
        start = time.thread_time()
        out = run(*arguments)
        spent.append(time.thread_time() - start)
        return out

    pipeline.engine.run = timed
    pipeline.process(image, camera)
    pipeline.engine.run = run
    return spent[0]
