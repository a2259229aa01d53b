"""The parameters of the visual odometry node."""

from mt_perception.nodes.camera_mount import MOUNT_PARAMETERS
from mt_perception.nodes.matcher_parameters import MATCHER_PARAMETERS
from mt_perception.nodes.odometry_parameters import odometry_parameters
from mt_perception.nodes.parameters import UNCONFIGURED, Parameter
from mt_perception.nodes.qos import RELIABILITY

PARAMETERS = (
    *MATCHER_PARAMETERS,
    Parameter('odom_frame', 'odom', 'Frame the robot moves in (REP 105).', change=UNCONFIGURED),
    Parameter('base_frame', 'base_link', 'Frame of the robot (REP 105).', change=UNCONFIGURED),
    Parameter('publish_tf', True, 'Publish the transform odom_frame → base_frame.'),
    *MOUNT_PARAMETERS,
    Parameter(
        'label_info_timeout',
        1.0,
        'Seconds the first frame waits for perception/label_info when somebody publishes it.',
        0.0,
        60.0,
        change=UNCONFIGURED,
    ),
    Parameter(
        'depth_tolerance',
        0.02,
        'Largest difference in seconds of the stamps of a frame and its depth/image (scale_source rgbd).',
        0.0,
        10.0,
        change=UNCONFIGURED,
    ),
    Parameter(
        'depth_timeout',
        0.1,
        'Seconds a frame waits for its depth/image (scale_source rgbd).',
        0.0,
        10.0,
        change=UNCONFIGURED,
    ),
    Parameter(
        'use_global_descriptor',
        False,
        'Listen to perception/global_descriptor: it finds the keyframes to look at when lost.',
        change=UNCONFIGURED,
    ),
    Parameter(
        'global_descriptor_timeout',
        0.1,
        'Seconds a frame waits for its perception/global_descriptor.',
        0.0,
        10.0,
        change=UNCONFIGURED,
    ),
    Parameter(
        'rectified',
        False,
        'The images are rectified already (image_rect): use P of camera_info and no distortion.',
        change=UNCONFIGURED,
    ),
    Parameter(
        'input_reliability',
        'reliable',
        'QoS of the keypoints subscription.',
        choices=tuple(RELIABILITY),
        change=UNCONFIGURED,
    ),
    Parameter(
        'queue_size',
        5,
        'Frames that may wait while one is worked on; then the oldest is dropped.',
        1,
        1000,
        change=UNCONFIGURED,
    ),
    Parameter(
        'path_length',
        5000,
        'Poses on visual_odometry/path at most, the newest.',
        1,
        1000000,
        change=UNCONFIGURED,
    ),
    Parameter('path_period', 0.5, 'Seconds between two messages on visual_odometry/path.', 0.0, 60.0),
    Parameter('map_period', 1.0, 'Seconds between two messages on visual_odometry/map_points.', 0.0, 60.0),
    *odometry_parameters(),
)
