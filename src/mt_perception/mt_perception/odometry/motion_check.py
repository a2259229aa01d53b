"""
Which points of the map keep still: a check by residuals, for moving things that no class gives away.

A point that is matched again and again but does not lie where the camera's pose puts it moves, or is matched
wrongly all the time; either way it goes. A group of points that moves together can look like the whole scene
for a frame; so a pose is judged by how well the points that agree with it have proved themselves, not by
their number alone.
"""

import numpy as np

MEMORY = 0.8  # of the share of misfits, per frame in which the point is matched
MOVES = 0.6  # misfits above this share: five in a row, or most for a while
PROVED = 5  # frames that find a point give it half the trust it can have


def trust(local_map, ids):
    """Return how much points ``ids`` may say about a pose, [N] in 0–1: new ones and misfits say less."""
    found = local_map.found[ids]
    return (1 - local_map.misfit[ids]) ** 2 * found / (found + PROVED)


def note(local_map, fitting, others):
    """
    Remember which matched points fitted the pose of a frame.

    :param fitting: [N] ids of points that fitted.
    :param others: [M] ids of points that were matched and did not.
    """
    others = np.setdiff1d(others, fitting)
    local_map.misfit[fitting] *= MEMORY
    local_map.misfit[others] = MEMORY * local_map.misfit[others] + (1 - MEMORY)


def moving(local_map, ids):
    """Return which of the points ``ids`` keep not fitting, [N] bool."""
    return local_map.misfit[ids] > MOVES
