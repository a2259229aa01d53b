"""From the networks' maps to the arrays of the model contract."""

import numpy as np
import pytest

torch = pytest.importorskip('torch', reason='needs the training environment: ./mt build --training')
pytest.importorskip('lightning', reason='needs the training environment: ./mt build --training')

from mt_training.deploy import NMS_RADIUS, DeployedNet  # noqa: E402
from mt_training.losses.keypoints import sample_descriptors  # noqa: E402
from mt_training.models import build_network  # noqa: E402

CELL = 8


@pytest.fixture
def deployed():
    return DeployedNet(build_network('kp2dtiny-n', tasks=['keypoints']), max_keypoints=16)


def maps(points, size=(96, 64)):
    """Make scores and offsets with one point per given (x, y, score), all else at nothing."""
    scores = torch.zeros(1, 1, size[1] // CELL, size[0] // CELL)
    offsets = torch.zeros(1, 2, *scores.shape[2:])
    for x, y, score in points:
        row, column = int(y) // CELL, int(x) // CELL
        scores[0, 0, row, column] = score
        offsets[0, :, row, column] = torch.tensor([x - column * CELL - 3.5, y - row * CELL - 3.5])
    return scores, offsets


def test_offsets_place_points_between_pixels(deployed):
    truth = [(41.25, 22.5, 0.9), (60.0, 40.75, 0.8), (12.5, 33.0, 0.3)]
    descriptors = torch.randn(1, 64, 16, 24)
    points, scores, sampled = deployed.cell_keypoints(*maps(truth), descriptors, CELL)
    assert points.shape == (1, 16, 2) and sampled.shape == (1, 16, 64)
    np.testing.assert_allclose(points[0, :3], [t[:2] for t in truth], atol=1e-4)
    np.testing.assert_allclose(scores[0], [0.9, 0.8, 0.3] + [0] * 13, atol=1e-6)
    torch.testing.assert_close(sampled, sample_descriptors(descriptors, points))


def test_the_weaker_of_two_near_points_goes(deployed):
    near = (39.5, 20.0, 0.9), (40.5 + NMS_RADIUS - 2, 20.0, 0.8)
    far = (39.5, 40.0, 0.9), (40.5 + NMS_RADIUS, 40.0, 0.8)
    scores, offsets = maps([*near, *far])
    points, found, _ = deployed.cell_keypoints(scores, offsets, torch.randn(1, 64, 16, 24), CELL)
    kept = {tuple(p.tolist()) for p, s in zip(points[0], found[0], strict=True) if s > 0}
    assert kept == {near[0][:2], far[0][:2], far[1][:2]}


def test_of_equal_points_one_stays(deployed):
    scores, offsets = maps([(39.5, 20.0, 0.5), (40.5, 20.0, 0.5)])
    # and one whose offset brings it here from two cells away
    scores[0, 0, 2, 7] = 0.5
    offsets[0, :, 2, 7] = torch.tensor([40.0 - 7 * CELL - 3.5, 20.0 - 2 * CELL - 3.5])
    _, found, _ = deployed.cell_keypoints(scores, offsets, torch.randn(1, 64, 16, 24), CELL)
    assert (found > 0).sum() == 1


def test_no_points_along_the_border(deployed):
    inner = (4.0, 10.0, 0.5), (91.0, 59.0, 0.5)
    outer = (3.9, 30.0, 0.9), (91.2, 20.0, 0.9), (50.0, 59.2, 0.9), (60.0, 3.0, 0.9)
    points, found, _ = deployed.cell_keypoints(*maps([*inner, *outer]), torch.randn(1, 64, 16, 24), CELL)
    assert sorted(points[0][found[0] > 0].tolist()) == [list(p[:2]) for p in inner]


def test_segmentation_of_any_stride_is_as_large_as_the_image():
    for name in ('fastsegnet', 'mtan-edge'):
        deployed = DeployedNet(build_network(name, classes=5))
        image = torch.randint(0, 256, (1, 64, 96, 3)).to(torch.uint8)
        with torch.no_grad():
            out = dict(zip(deployed.output_names(), deployed(image), strict=True))
        assert all(value.shape == (1, 64, 96) for value in out.values())
        assert out['segmentation'].max() < 5
        assert ('depth' in out) == (name == 'mtan-edge')


def test_a_point_between_cells_is_found_once_and_where_it_is(deployed):
    """One sure pixel gives one point there; two half-sure ones beside a border of cells one between."""
    logits = torch.full((1, 17, 16, 24), -20.0)
    logits[:, 16] = 10.0
    logits[0, :, 5, 6] = -20.0
    logits[0, 9, 5, 6] = 20.0  # pixel (25, 22)
    for cell, pixel, logit in ((10, 11, 0.0), (11, 8, 0.1)):  # pixels (43, 42) and (44, 42)
        logits[0, :, 10, cell] = -20.0
        logits[0, [16, pixel], 10, cell] = torch.tensor([0.0, logit])
    points, scores, _ = deployed.keypoints(logits, torch.randn(1, 64, 16, 24))
    found = points[0][scores[0] > 0.1]
    np.testing.assert_allclose(sorted(found.tolist()), [[25, 22], [43.5, 42]], atol=0.02)
    assert scores.max() <= 1
