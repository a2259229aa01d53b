"""The parameters of visual odometry, with their units and defaults."""

from dataclasses import dataclass


@dataclass(frozen=True)
class OdometryParameters:
    """
    Everything that can be tuned; ``config/visual_odometry.yaml`` has the same names.

    Lengths named ``_px`` are pixels of an image of 640 × 480; they are scaled to the camera's own size with
    the square root of the number of pixels, so that one set of values serves every camera.
    """

    # keypoints
    keypoint_sigma_px: float = 1.0  # standard deviation of a keypoint's position
    max_keypoints: int = 1000  # keep the strongest

    # things that move by themselves
    ignore_movable: bool = True  # keypoints on the classes below do not decide where the camera is
    movable_classes: tuple = (
        'car',
        'van',
        'truck',
        'bus',
        'train',
        'tram',
        'caravan',
        'trailer',
        'vehicle',
        'motorcycle',
        'motorbike',
        'bicycle',
        'bicyclist',
        'cyclist',
        'rider',
        'pedestrian',
        'person',
        'animal',
        'dog',
        'cat',
    )
    movable_min_others: int = 100  # other keypoints there must be for that; with fewer all are used
    # difference of log depth, between the map and the keypoint, up to which they help afterwards; 0: never
    movable_depth_tolerance: float = 0.3
    motion_check: bool = True  # find out by residuals what moves though its class does not say so

    # start-up from two views
    init_min_matches: int = 60  # with fewer matches the older view is replaced
    init_min_points: int = 40  # triangulated points that pass all tests
    init_min_parallax_deg: float = 2.0  # median angle between the two rays of a point
    init_max_frames: int = 60  # frames since the first view that are located once there is a map

    # scale
    # 'depth': the network's metric depth at the keypoints; 'rgbd': a depth camera's; 'camera_height': the
    # ground by its class, a known height below the camera; 'none'
    scale_source: str = 'depth'
    scale_min_points: int = 20  # points with a depth that the scale needs
    scale_drift: float = 0.01  # standard deviation of the log scale's change from keyframe to keyframe
    scale_rate: float = 0.05  # most change of the log scale in use per second
    camera_height: float = 0.0  # metres above the ground, for scale_source 'camera_height'
    # not the pavement: it lies a kerb higher
    ground_classes: tuple = ('road', 'street', 'lane_marking', 'road_marking', 'ground', 'floor')
    initial_median_depth: float = 1.0  # of the first points, when nothing gives the scale

    # tracking
    search_radius_px: float = 8.0  # around a projected map point, once the pose is known roughly
    nearest_min_inliers: int = 60  # of mutual nearest neighbours; with fewer the matcher is asked
    search_ratio: float = 0.9  # best over second-best descriptor distance
    min_inliers: int = 20  # fewer: lost
    ransac_threshold_px: float = 3.0
    ransac_iterations: int = 300
    max_gap_s: float = 1.0  # no motion model over a longer gap between stamps
    still_after_s: float = 0.5  # poses agree for so long: the camera rests, and its pose is held; 0: never

    # keyframes
    keyframe_overlap: float = 0.8  # new keyframe when less of the reference's points is in view …
    keyframe_parallax_deg: float = 3.0  # … or when the points have moved by this much …
    keyframe_min_parallax_deg: float = 0.3  # never with less, unless the overlap is nearly gone
    keyframe_min_overlap: float = 0.4

    # mapping
    neighbours: int = 5  # keyframes a new one is triangulated against
    triangulation_min_angle_deg: float = 0.6  # between the two rays of a new point
    triangulation_weak_angle_deg: float = 0.15  # the same, while points are few
    target_points: int = (
        150  # map points a frame should have; with fewer, keyframes and unsure points are made
    )
    min_observations: int = 3  # of a point two keyframes after it was made
    min_found_ratio: float = 0.25  # of the frames in which a point should be seen
    map_keyframes: int = 30  # keyframes kept in the local map

    # local bundle adjustment
    window: int = 16  # keyframes that move
    fixed_keyframes: int = 16  # keyframes that see the same points and do not move
    iterations: int = 8

    # loss and recovery
    relocalize_keyframes: int = 2  # keyframes tried per lost frame
    lost_frames: int = 5  # then a new map segment starts; the old one is still tried
    max_step_back_s: float = 1.0  # older stamps are dropped; time that jumps back further starts anew
    lost_variance: float = 1e6  # m² and rad², of every axis of a pose that is not known
    trajectory_frames: int = 200000  # kept to be saved, the newest
