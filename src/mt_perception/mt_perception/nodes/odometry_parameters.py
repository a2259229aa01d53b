"""The parameters of the odometry core as ROS parameters: same names, same defaults, with their ranges."""

from dataclasses import fields

from mt_perception.nodes.parameters import UNCONFIGURED, Parameter
from mt_perception.odometry.metric_scale import SCALE_SOURCES
from mt_perception.odometry.parameters import OdometryParameters

# name: (description, least, greatest), (description, choices), or (description,) of what has no limits
DESCRIPTIONS = {
    'keypoint_sigma_px': (
        "Standard deviation of a keypoint's position, pixels of a 640 × 480 image.",
        0.01,
        50.0,
    ),
    'max_keypoints': ('Keypoints of a frame that are used, the strongest.', 20, 20000),
    'ignore_movable': (
        'Keypoints on things that move by themselves, by their class, do not decide where the camera is.',
    ),
    'movable_classes': ('Names of those classes, as in perception/label_info; others do no harm.',),
    'movable_min_others': ('Other keypoints there must be for that; with fewer all are used.', 0, 20000),
    'movable_depth_tolerance': (
        'Difference of log depth between map and keypoint up to which they help afterwards; 0 = never.',
        0.0,
        10.0,
    ),
    'motion_check': (
        'Find out by residuals what moves though its class does not say so, and what moves together.',
    ),
    'init_min_matches': ('Matches two views need for the start.', 8, 10000),
    'init_min_points': ('Points that must be triangulated at the start.', 8, 10000),
    'init_min_parallax_deg': (
        'Median angle between the two rays of a point at the start, degrees.',
        0.01,
        45.0,
    ),
    'init_max_frames': ('Frames of the start that are located once there is a map, the newest.', 2, 100000),
    'scale_source': (
        "What makes positions metric: depth = the network's at the keypoints, rgbd = a depth camera's on "
        'depth/image, camera_height = the ground by its class, a known height below the camera.',
        SCALE_SOURCES,
    ),
    'scale_min_points': ('Points with a depth that the scale needs.', 1, 10000),
    'scale_drift': (
        "Standard deviation of the change of the map's scale from keyframe to keyframe, relative.",
        1e-5,
        1.0,
    ),
    'scale_rate': ('Most change of the scale in use per second, relative.', 0.0, 100.0),
    'camera_height': ('Metres from the ground to the camera, for scale_source camera_height.', 0.0, 1000.0),
    'ground_classes': ('Names of the classes of the ground, as in perception/label_info.',),
    'initial_median_depth': ('Median depth of the first points when nothing gives the scale.', 1e-3, 1e4),
    'search_radius_px': ('Radius around a projected map point, pixels of a 640 × 480 image.', 0.5, 500.0),
    'nearest_min_inliers': (
        'Inliers with which mutual nearest neighbours suffice; with fewer the matcher is asked.',
        0,
        100000,
    ),
    'search_ratio': ('Largest ratio of the best to the second-best descriptor distance.', 0.1, 1.0),
    'min_inliers': ('With fewer inliers the frame is lost.', 4, 10000),
    'ransac_threshold_px': ('Reprojection error of an inlier, pixels of a 640 × 480 image.', 0.1, 100.0),
    'ransac_iterations': ('RANSAC iterations at most.', 10, 100000),
    'max_gap_s': ('Longest gap between two frames that the motion model bridges, seconds.', 0.0, 3600.0),
    'still_after_s': (
        'Seconds that poses must agree until the camera counts as resting and its pose is held; 0 = never.',
        0.0,
        3600.0,
    ),
    'keyframe_overlap': (
        "New keyframe when less than this share of the reference's points is in view.",
        0.0,
        1.0,
    ),
    'keyframe_parallax_deg': ('New keyframe when the points have moved by this angle, degrees.', 0.0, 180.0),
    'keyframe_min_parallax_deg': ('No keyframe with less movement than this, degrees.', 0.0, 180.0),
    'keyframe_min_overlap': ('Below this overlap there is a keyframe whatever the movement.', 0.0, 1.0),
    'neighbours': ('Keyframes a new one is triangulated against.', 1, 100),
    'triangulation_min_angle_deg': ('Least angle between the rays of a new point, degrees.', 0.0, 45.0),
    'triangulation_weak_angle_deg': ('The same while points are few, degrees.', 0.0, 45.0),
    'target_points': (
        'Map points a frame should have; with fewer, keyframes come sooner and unsure points are made.',
        0,
        10000,
    ),
    'min_observations': ('Keyframes that must have seen a point two keyframes after it was made.', 2, 100),
    'min_found_ratio': (
        'Least share of the frames that find a point among those that should see it.',
        0.0,
        1.0,
    ),
    'map_keyframes': ('Keyframes kept in the local map.', 3, 10000),
    'window': ('Keyframes that local bundle adjustment moves.', 2, 100),
    'fixed_keyframes': ('Keyframes around them that it keeps fixed.', 0, 1000),
    'iterations': ('Iterations of local bundle adjustment.', 1, 1000),
    'relocalize_keyframes': ('Keyframes tried for each lost frame.', 0, 1000),
    'lost_frames': ('Lost frames in a row after which a new map starts.', 1, 100000),
    'max_step_back_s': (
        'A stamp that is older by less than this is dropped, by more starts anew; seconds.',
        0.0,
        1e6,
    ),
    'lost_variance': ('Variance of every axis while the pose is not known, m² and rad².', 1.0, 1e12),
    'trajectory_frames': ('Frames kept for save_trajectory, the newest.', 100, 100000000),
}


def odometry_parameters():
    """Return the :class:`Parameter` table of :class:`OdometryParameters`."""
    table = []
    for field in fields(OdometryParameters):
        description, *limits = DESCRIPTIONS[field.name]
        arguments = {}
        if len(limits) == 1:
            arguments = {'choices': limits[0]}
        elif limits:
            arguments = {'minimum': limits[0], 'maximum': limits[1]}
        default = list(field.default) if isinstance(field.default, tuple) else field.default
        table.append(Parameter(field.name, default, description, change=UNCONFIGURED, **arguments))
    return tuple(table)


def odometry_parameters_of(parameters):
    """Return the present values as :class:`OdometryParameters`."""
    values = {field.name: getattr(parameters, field.name) for field in fields(OdometryParameters)}
    return OdometryParameters(
        **{name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
    )
