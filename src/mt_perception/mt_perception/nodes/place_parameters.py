"""The parameters of the place recognition core as ROS parameters, with their ranges."""

from dataclasses import fields

from mt_perception.nodes.parameters import UNCONFIGURED, Parameter
from mt_perception.place_recognition.parameters import PlaceParameters

# name: (description, least, greatest)
DESCRIPTIONS = {
    'candidates': ('Keyframes most similar to a new one that are verified.', 1, 100),
    'min_similarity': ('Least cosine of two global descriptors.', -1.0, 1.0),
    'exclude_keyframes': ('Newest keyframes that are no candidates: odometry still knows them.', 0, 100000),
    'exclude_s': ('Nor are those of the last seconds.', 0.0, 1e6),
    'min_inliers': ('Keypoint matches that must agree on the motion between two keyframes.', 6, 10000),
    'min_inlier_ratio': ('Least share of the matches with a known position that agree.', 0.0, 1.0),
    'min_cells': ('Of 16 cells of the image, those that must hold an inlier.', 1, 16),
    'keypoint_sigma_px': (
        "Standard deviation of a keypoint's position, pixels of a 640 × 480 image.",
        0.01,
        50.0,
    ),
    'ransac_threshold_px': ('Reprojection error of an inlier, pixels of a 640 × 480 image.', 0.1, 100.0),
    'ransac_iterations': ('RANSAC iterations at most.', 10, 100000),
    'max_scale_ratio': (
        'Largest ratio between the depths that two keyframes give to the same points.',
        1.0,
        100.0,
    ),
    'max_scale_spread': ('Largest robust standard deviation of the logarithm of that ratio.', 0.001, 10.0),
    'min_scale_points': ('Points known to both keyframes that the ratio needs.', 1, 10000),
    'consistent_keyframes': ('Neighbouring keyframes that must agree before a loop counts.', 1, 100),
    'consistency_window': ('Keyframes back in which they are looked for.', 1, 1000),
    'consistency_angle_deg': (
        'Largest angle between two loops carried over to each other, degrees.',
        0.01,
        180.0,
    ),
    'consistency_share': (
        'Largest distance between them, as a share of the way from one to the other.',
        0.0,
        10.0,
    ),
    'consistency_offset': ('The same beside it, as a share of the distance of the scene.', 0.0, 10.0),
    'drift_share': (
        "Standard deviation of odometry's step between keyframes, as a share of it.",
        0.0001,
        1.0,
    ),
    'drift_angle_deg': ("Standard deviation of that step's rotation, degrees.", 0.001, 45.0),
    'drift_scale': (
        "Standard deviation of the scale's logarithm in a step; 0 = it does not drift.",
        0.0,
        1.0,
    ),
    'loop_sigma_factor': ("Standard deviations of a loop over those of its keypoints' noise.", 0.1, 100.0),
    'loop_confidence': ('Confidence of the χ² test that tells right loops from wrong ones.', 0.5, 0.999999),
    'localize_candidates': ('Keyframes that an image to localize is compared with.', 1, 1000),
    'localize_min_inliers': ('Keypoints that must agree on its pose.', 6, 10000),
    'localize_sigma_px': (
        "Standard deviation of a keypoint's position there, pixels of a 640 × 480 image.",
        0.01,
        100.0,
    ),
    'localize_threshold_px': ('Largest error of a keypoint that agrees with its first pose.', 0.1, 100.0),
    'redundant_share': (
        'A keyframe this close to another keeps no keypoints, as a share of the distance of the scene.',
        0.0,
        10.0,
    ),
    'redundant_angle_deg': ('And turned by less than this against it, degrees.', 0.0, 180.0),
}


def place_parameters():
    """Return the :class:`Parameter` table of :class:`PlaceParameters`."""
    return tuple(
        Parameter(field.name, field.default, description, least, greatest, change=UNCONFIGURED)
        for field in fields(PlaceParameters)
        for description, least, greatest in [DESCRIPTIONS[field.name]]
    )


def place_parameters_of(parameters):
    """Return the present values as :class:`PlaceParameters`."""
    return PlaceParameters(
        **{field.name: getattr(parameters, field.name) for field in fields(PlaceParameters)}
    )
