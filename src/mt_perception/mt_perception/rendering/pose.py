"""Camera poses from a place and a direction."""

import numpy as np


def look(position, heading, elevation=0.0, roll=0.0):
    """
    Return the pose [4,4] of a camera.

    :param heading: radians in the ground plane, counter-clockwise from world x.
    :param elevation: radians above the horizon.
    :param roll: radians clockwise about the viewing direction.
    """
    ch, sh, ce, se = np.cos(heading), np.sin(heading), np.cos(elevation), np.sin(elevation)
    forward = np.array([ch * ce, sh * ce, se])
    right = np.array([sh, -ch, 0.0])
    down = np.cross(forward, right)
    cr, sr = np.cos(roll), np.sin(roll)
    pose = np.eye(4)
    pose[:3, :3] = np.c_[cr * right + sr * down, -sr * right + cr * down, forward]
    pose[:3, 3] = position
    return pose
