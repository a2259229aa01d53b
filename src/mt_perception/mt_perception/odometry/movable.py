"""
Keypoints on things that move by themselves: not believed unless depth says that they stand still.

A car that keeps its speed looks like a still one at another distance: from its image alone, nothing tells it
from the scene. The depth at the keypoint does. So points of movable classes never decide where the camera is;
those whose place in the map agrees with the depth that the network (or a depth camera) gives them may help
afterwards: parked cars, and whatever a network calls a car where it has never been trained.
"""

import numpy as np

FEWEST = 10  # points the ratio between given depth and depth in the map is taken from


def depth_offset(depth, local_depth):
    """
    Return the median of log(depth / depth in the map), NaN when too few are known.

    :param depth: [N] metres at keypoints, NaN where unknown.
    :param local_depth: [N] of the points they show, map units.
    """
    with np.errstate(invalid='ignore', divide='ignore'):
        logs = np.log(depth / local_depth)
    logs = logs[np.isfinite(logs)]
    return float(np.median(logs)) if len(logs) >= FEWEST else np.nan


def stand_still(depth, local_depth, offset, tolerance):
    """Return which points lie in the map where their depth says, [N] bool; False where that is not known."""
    with np.errstate(invalid='ignore', divide='ignore'):
        return np.abs(np.log(depth / local_depth) - offset) < tolerance
