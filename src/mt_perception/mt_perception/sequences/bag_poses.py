"""Ground truth in bags: Odometry, PoseStamped and TF, turned into poses of the camera."""

import re

import numpy as np

from mt_perception.errors import SequenceError
from mt_perception.sequences.trajectory_io import interpolate_poses, poses_from_parts

ODOMETRY, POSE = 'nav_msgs/msg/Odometry', 'geometry_msgs/msg/PoseStamped'
TRANSFORM = 'geometry_msgs/msg/TransformStamped'
TF_MESSAGE = 'tf2_msgs/msg/TFMessage'
TRUE_NAME = re.compile(r'ground_?truth|(^|/)gt(/|_|$)|vicon|mocap|optitrack|leica', re.IGNORECASE)
OWN_RESULT = re.compile(r'visual_odometry/|place_recognition/')  # an estimate of this project is no truth
MAX_GAP = 0.2  # seconds between two entries that are interpolated


def ground_truth(reader, stamps, camera_frame, topic=None):
    """
    Return the camera's true poses at ``stamps``, where the bag says them without ambiguity.

    In this order: the topic asked for; the only topic of Odometry, PoseStamped or TransformStamped named
    like ground truth (ground_truth, gt, vicon, mocap, …); the only such topic at all; a chain of TF to the
    camera's frame with exactly one moving link. Odometry and TransformStamped are poses of their child
    frame, which static TF carries to the camera's optical frame. A PoseStamped does not name what it is
    the pose of: it is taken as that of the camera's optical frame.

    :param reader: an open rosbags AnyReader.
    :param stamps: [N] seconds.
    :param camera_frame: frame id of the images.
    :return: list of N [4,4] poses (an entry may be None), or None.
    :raises SequenceError: the topic asked for is not there.
    """
    candidates = {
        c.topic: c
        for c in reader.connections
        if c.msgtype in (ODOMETRY, POSE, TRANSFORM) and not OWN_RESULT.search(c.topic)
    }
    if topic is not None:
        if topic not in candidates:
            known = ', '.join(candidates) or 'none'
            raise SequenceError(f"the bag has no pose topic '{topic}'; it has: {known}")
        chosen = candidates[topic]
    else:
        named = [t for t in candidates if TRUE_NAME.search(t)]
        pick = named if named else list(candidates)
        if len(pick) > 1:
            return None
        chosen = candidates[pick[0]] if pick else None
    links = _transforms(reader)
    if chosen is None:
        return _from_tf(links, stamps, camera_frame)
    times, parts, child = [], [], None
    for connection, _, data in reader.messages(connections=[chosen]):
        message = reader.deserialize(data, connection.msgtype)
        times.append(_seconds(message.header.stamp))
        if connection.msgtype == TRANSFORM:
            parts.append(_parts(message.transform.translation, message.transform.rotation))
        else:
            pose = message.pose.pose if connection.msgtype == ODOMETRY else message.pose
            parts.append(_parts(pose.position, pose.orientation))
        child = getattr(message, 'child_frame_id', None)
    if not times:
        return None
    to_camera = np.eye(4)
    if child:
        to_camera = _static_chain(links, child, camera_frame)
        if to_camera is None:
            return None
    poses = _interpolate(stamps, times, parts)
    return [None if pose is None else pose @ to_camera for pose in poses]


def _seconds(stamp):
    return stamp.sec + stamp.nanosec * 1e-9


def _parts(position, orientation):
    return (position.x, position.y, position.z, orientation.x, orientation.y, orientation.z, orientation.w)


def _interpolate(stamps, times, parts):
    """Interpolate a list of (position, quaternion) at ``stamps``."""
    times, table = np.array(times), np.array(parts)
    valid = np.isfinite(table).all(1) & (np.linalg.norm(table[:, 3:], axis=1) > 1e-6)
    times, table = times[valid], table[valid]
    times, first = np.unique(times, return_index=True)
    return interpolate_poses(stamps, times, table[first, :3], table[first, 3:], MAX_GAP)


def _transforms(reader):
    """Return {child: (parent, static, times, parts)} of /tf and /tf_static."""
    links = {}
    for static, name in ((False, 'tf'), (True, 'tf_static')):
        connections = [
            c for c in reader.connections if c.msgtype == TF_MESSAGE and c.topic.rsplit('/', 1)[-1] == name
        ]
        if not connections:
            continue
        for connection, _, data in reader.messages(connections=connections):
            for entry in reader.deserialize(data, connection.msgtype).transforms:
                child, parent = entry.child_frame_id.strip('/'), entry.header.frame_id.strip('/')
                link = links.setdefault(child, (parent, static, [], []))
                link[2].append(_seconds(entry.header.stamp))
                link[3].append(_parts(entry.transform.translation, entry.transform.rotation))
    return links


def _to_root(links, frame):
    """Return the chain of child frames from ``frame`` up to its root."""
    chain = []
    while frame in links and frame not in chain:
        chain.append(frame)
        frame = links[frame][0]
    return chain, frame


def _static_pose(links, child):
    """Return the pose [4,4] of a static frame in its parent."""
    part = np.array(links[child][3][-1:])
    return poses_from_parts(part[:, :3], part[:, 3:])[0]


def _static_chain(links, ancestor, frame):
    """Return the pose [4,4] of ``frame`` in ``ancestor`` over static links alone, or None."""
    ancestor, frame = ancestor.strip('/'), frame.strip('/')
    pose = np.eye(4)
    seen = set()
    while frame != ancestor:
        if frame not in links or not links[frame][1] or frame in seen:
            return None
        seen.add(frame)
        pose = _static_pose(links, frame) @ pose
        frame = links[frame][0]
    return pose


def _from_tf(links, stamps, camera_frame):
    """Return poses of the camera in the root of its TF tree when exactly one link on the way moves."""
    chain, _ = _to_root(links, camera_frame.strip('/'))
    if sum(not links[frame][1] for frame in chain) != 1:
        return None
    poses = [np.eye(4) for _ in stamps]
    for frame in chain:  # from the camera up
        _, static, times, parts = links[frame]
        if static:
            link = [_static_pose(links, frame)] * len(stamps)
        else:
            link = _interpolate(stamps, times, parts)
        poses = [None if a is None or b is None else a @ b for a, b in zip(link, poses)]
    return poses
