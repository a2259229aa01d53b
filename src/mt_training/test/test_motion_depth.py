"""Depth from the motion of a drive, against rendered depth that is exact."""

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip('torch', reason='needs the training environment: ./mt build --training')

from mt_perception.sequences import open_sequence
from mt_training.data.motion_depth import WithMotionDepth, depth_from_motion, triangulate_flow


@pytest.fixture(scope='module')
def drive():
    sequence = open_sequence('rendered:street:105', frames='40:53')
    return sequence, list(sequence)


def test_a_standing_street_is_measured(drive):
    """A fifth of the pixels or more are known, nine of ten of them to a tenth."""
    sequence, frames = drive
    found = WithMotionDepth(sequence)[6]
    truth = frames[6].depth
    known = np.isfinite(found.depth) & np.isfinite(truth)
    error = np.abs(found.depth - truth)[known] / truth[known]
    assert found.depth.dtype == np.float32 and found.depth.shape == truth.shape
    assert np.isfinite(found.depth).mean() > 0.2
    assert np.median(error) < 0.02 and (error < 0.1).mean() > 0.9


def test_without_motion_there_is_no_depth(drive):
    """A camera that stands, or that has one neighbour only, says nothing."""
    _, frames = drive
    images, poses = [frames[0].image] * 5, [frames[0].pose] * 5
    assert np.isnan(depth_from_motion(images, frames[0].camera, poses, 2, (-1, 1))).all()
    images, poses = [f.image for f in frames[:2]], [f.pose for f in frames[:2]]
    assert np.isnan(depth_from_motion(images, frames[0].camera, poses, 0, (-1, 1))).all()


def test_a_frame_without_pose_stays_without_depth(drive):
    sequence, frames = drive

    class Unposed:
        poses = [None] * len(frames)

        def __len__(self):
            return len(frames)

        def __getitem__(self, index):
            return replace(frames[index], pose=None, depth=None)

    assert WithMotionDepth(Unposed())[3].depth is None


def test_triangulation_of_exact_flow(drive):
    """A plane 8 m ahead, seen again from half a metre to the right: exact depth, no epipolar distance."""
    camera = drive[1][0].camera
    relative = np.eye(4)
    relative[0, 3] = -0.5
    flow = np.zeros((camera.height, camera.width, 2))
    flow[..., 0] = -0.5 * camera.fx / 8
    depth, sigma, distance = triangulate_flow(flow, camera, relative)
    np.testing.assert_allclose(depth, 8.0, rtol=1e-6)
    np.testing.assert_allclose(sigma, 0.5 * 8.0**2 / (0.5 * camera.fx), rtol=0.05)
    assert distance.max() < 1e-6
    _, _, distance = triangulate_flow(flow + [0, 3], camera, relative)
    np.testing.assert_allclose(distance, 3.0, rtol=0.05)
