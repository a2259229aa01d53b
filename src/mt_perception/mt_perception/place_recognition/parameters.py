"""The parameters of place recognition, with their units and defaults."""

from dataclasses import dataclass


@dataclass(frozen=True)
class PlaceParameters:
    """
    Everything that can be tuned; ``config/place_recognition.yaml`` has the same names.

    Lengths named ``_px`` are pixels of an image of 640 × 480, as in
    :class:`mt_perception.odometry.OdometryParameters`.
    """

    # candidates
    candidates: int = 3  # keyframes most similar to a new one that are verified
    min_similarity: float = 0.5  # cosine of two global descriptors
    exclude_keyframes: int = 20  # the newest keyframes, which odometry itself still knows
    exclude_s: float = 5.0  # and those of the last seconds

    # verification of two views
    min_inliers: int = 30
    min_inlier_ratio: float = 0.3  # of the matches whose position is known
    min_cells: int = 6  # of 16 cells of the image that must hold an inlier
    keypoint_sigma_px: float = 1.0  # standard deviation of a keypoint's position
    ransac_threshold_px: float = 4.0
    ransac_iterations: int = 500
    max_scale_ratio: float = 2.0  # between the depths that two views give to the same points, at most
    max_scale_spread: float = 0.3  # robust standard deviation of the logarithm of that ratio
    min_scale_points: int = 10  # points that the ratio needs

    # sequence consistency
    consistent_keyframes: int = 3  # neighbouring keyframes that must agree before a loop counts
    consistency_window: int = 8  # keyframes back in which they are looked for
    consistency_angle_deg: float = 4.0  # largest angle between two loops carried over to each other
    consistency_share: float = 0.1  # largest distance between them, of the way from one to the other
    consistency_offset: float = 0.05  # and of the distance of the scene

    # pose graph
    drift_share: float = 0.02  # standard deviation of a step between keyframes, of its length …
    drift_angle_deg: float = 0.2  # … of its rotation, degrees …
    drift_scale: float = 0.01  # … and of the scale, its logarithm; 0 = the scale does not drift
    loop_sigma_factor: float = 3.0  # a loop's standard deviations over those of its keypoints
    loop_confidence: float = 0.99  # of the χ² test that tells right loops from wrong ones

    # localisation
    localize_candidates: int = 5  # keyframes an image is compared with
    localize_min_inliers: int = 25
    # wider than for loops: seen from far aside, errors of the points' depths show
    localize_sigma_px: float = 2.0
    localize_threshold_px: float = 8.0

    # memory: the keypoints of a keyframe that was taken as close as this to one in the map are not kept
    redundant_share: float = 0.1  # distance between the two, as a share of the distance of the scene
    redundant_angle_deg: float = 10.0
