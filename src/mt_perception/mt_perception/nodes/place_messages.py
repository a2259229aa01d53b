"""What place recognition works with, to messages and back."""

import numpy as np
from geometry_msgs.msg import Point, PoseStamped
from nav_msgs.msg import Path
from std_msgs.msg import ColorRGBA, Header
from visualization_msgs.msg import Marker, MarkerArray

from mt_msgs.msg import LoopClosure
from mt_perception.nodes.conversions import pose_to_message, stamp_from_seconds
from mt_perception.odometry.geometry import inverse, skew
from mt_perception.place_recognition.similarity import rigid, scale_of

POINT_SIZE, LINE_WIDTH = 0.1, 0.04  # of markers, in units of the map
COLORS = {'keyframes': (1.0, 0.67, 0.24), 'saved_keyframes': (0.6, 0.6, 0.65), 'loops': (0.9, 0.2, 0.2)}


def camera_pose(base_pose, mount):
    """
    Return the pose of the camera [4,4] where the robot's base is.

    :param base_pose: [4,4] base to world.
    :param mount: [4,4] optical frame to base.
    """
    return base_pose @ mount


def lever_covariance(covariance, base_pose, mount, back=False):
    """
    Turn the covariance of the base's pose into that of the camera's, or ``back``.

    :param covariance: [6,6] of (x, y, z, rotation about X, Y, Z) along the world's axes.
    :param base_pose: [4,4] base to world.
    :param mount: [4,4] optical frame to base.
    :return: [6,6] along the same axes.
    """
    lever = np.eye(6)
    lever[:3, 3:] = skew(base_pose[:3, :3] @ mount[:3, 3]) * (1 if back else -1)
    return lever @ covariance @ lever.T


def base_in_map(correction, camera_in_odom, mount):
    """
    Return the pose of the base [4,4] in the frame map.

    :param correction: [4,4] similarity, odom to map, at the camera.
    :param camera_in_odom: [4,4].
    :param mount: [4,4] optical frame to base.
    """
    return rigid(correction @ camera_in_odom) @ inverse(mount)


def path_message(stamps, poses, mount, header):
    """
    Return the path of the base as nav_msgs/Path.

    :param stamps: [N] seconds.
    :param poses: [N,4,4] camera to the header's frame.
    :param mount: [4,4] optical frame to base.
    """
    out = Path(header=header)
    to_camera = inverse(mount)
    for stamp, pose in zip(stamps, poses):
        own = Header(stamp=stamp_from_seconds(stamp), frame_id=header.frame_id)
        out.poses.append(PoseStamped(header=own, pose=pose_to_message(pose @ to_camera)))
    return out


def graph_markers(graph, mount, header):
    """
    Return the map as visualization_msgs/MarkerArray: where the base was at each keyframe, and the loops.

    The namespaces are ``keyframes`` of this run, ``saved_keyframes`` of a loaded map, and ``loops``, a line
    between the two keyframes of each loop that counts.

    :param graph: :class:`mt_perception.place_recognition.map_graph.MapGraph`.
    :param mount: [4,4] optical frame to base.
    :param header: in the frame map.
    """
    to_camera = inverse(mount)
    places = [Point(**dict(zip('xyz', (rigid(pose) @ to_camera)[:3, 3].tolist()))) for pose in graph.poses]
    shown = {'keyframes': [], 'saved_keyframes': [], 'loops': []}
    for keyframe, place in zip(graph.keyframes, places):
        shown['saved_keyframes' if keyframe.fixed else 'keyframes'].append(place)
    for loop, right in zip(graph.loops, graph.right):
        if right:
            shown['loops'] += [places[loop.earlier], places[loop.later]]
    return MarkerArray(markers=[marker(name, points, header) for name, points in shown.items()])


def marker(name, points, header):
    """Return points, or lines between each two of them, as visualization_msgs/Marker; none deletes it."""
    lines = name == 'loops'
    out = Marker(header=header, ns=name, type=Marker.LINE_LIST if lines else Marker.POINTS, points=points)
    out.action = Marker.ADD if points else Marker.DELETE
    out.scale.x = out.scale.y = LINE_WIDTH if lines else POINT_SIZE
    out.pose.orientation.w = 1.0
    out.color = ColorRGBA(**dict(zip('rgb', COLORS[name])), a=1.0)
    return out


def loop_message(loop, earlier, later):
    """
    Return a loop as mt_msgs/LoopClosure.

    :param loop: :class:`mt_perception.place_recognition.loops.Loop`.
    :param earlier: its earlier :class:`Keyframe`.
    :param later: its later one.
    """
    relation = loop.relation
    message = LoopClosure(matches=relation.matches, inliers=relation.inliers, score=float(loop.score))
    message.from_stamp = stamp_from_seconds(earlier.stamp)
    message.to_stamp = stamp_from_seconds(later.stamp)
    message.from_frame_id, message.to_frame_id = earlier.frame_id, later.frame_id
    message.header.stamp, message.header.frame_id = message.to_stamp, message.to_frame_id
    message.relative_pose.pose = pose_to_message(rigid(relation.transform))
    message.relative_pose.covariance = from_frame_covariance(relation).ravel()
    message.is_metric = bool(earlier.metric and relation.has_length)
    return message


def from_frame_covariance(relation):
    """
    Covariance [6,6] of (x, y, z, rotation about X, Y, Z) along the axes of the earlier camera, in its unit.

    The relation's is of (rotation, translation) along the axes of the later camera, in the later one's unit.
    """
    rotation, scale = rigid(relation.transform)[:3, :3], scale_of(relation.transform)
    turn = np.zeros((6, 6))
    turn[:3, 3:] = scale * rotation
    turn[3:, :3] = rotation
    return turn @ relation.covariance[:6, :6] @ turn.T
