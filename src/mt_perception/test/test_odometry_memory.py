"""A robot that drives round all day: odometry keeps its trajectory, and nothing else that grows."""

import gc
import os
from pathlib import Path

import pytest

from mt_perception.matching import NearestMatcher
from mt_perception.odometry import OdometryParameters, OdometryState, VisualOdometry
from synthetic_world import World, drive

LENGTH = 150  # frames from one end of the street to the other
TURNS = 26  # ways along it, 6.5 minutes at 10 Hz
BYTES_PER_FRAME = 1500  # of the trajectory: poses, keyframes without their keypoints, the scale's history


def resident_bytes():
    """Memory of this process that lies in RAM."""
    gc.collect()
    return int(Path('/proc/self/statm').read_text().split()[1]) * os.sysconf('SC_PAGE_SIZE')


@pytest.mark.slow
@pytest.mark.skipif(not Path('/proc/self/statm').exists(), reason='needs /proc')
def test_memory_is_flat_over_a_long_replay():
    """Forth and back along a street; after the first ways only the trajectory takes more."""
    world = World()
    images = [
        world.image(pose, i, depth_noise=0.1, max_keypoints=200) for i, pose in enumerate(drive(LENGTH))
    ]
    order = [*range(LENGTH), *range(LENGTH - 2, 0, -1)]
    vo = VisualOdometry(world.camera, NearestMatcher(), OdometryParameters(map_keyframes=12))
    sizes = {}
    for i in range(TURNS * LENGTH):
        result = vo.track(0.1 * i, images[order[i % len(order)]])
        vo.finish()
        if i % LENGTH == LENGTH - 1:
            sizes[i] = resident_bytes(), len(vo._map.keyframes)
    assert result.state == OdometryState.TRACKING and result.segment == 0
    assert len(vo.trajectory()) == TURNS * LENGTH
    (first, (before, _)), (last, (after, keyframes)) = list(sizes.items())[5], list(sizes.items())[-1]
    assert keyframes <= 12
    assert after - before < BYTES_PER_FRAME * (last - first) + 2e6, sizes
