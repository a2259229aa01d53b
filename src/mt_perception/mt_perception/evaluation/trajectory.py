"""
Trajectory metrics: time association, Umeyama alignment, ATE, RPE and KITTI's relative errors.

Pure numpy. Poses are [N,4,4] camera-to-world. The definitions are the field's own: ATE and RPE as in
evo and the TUM benchmark (Sturm et al. 2012), relative errors as in the KITTI odometry devkit.
"""

from dataclasses import dataclass

import numpy as np

from mt_perception.errors import EvaluationError

KITTI_LENGTHS_M = (100, 200, 300, 400, 500, 600, 700, 800)
KITTI_STEP_FRAMES = 10
HARDLY_MOVED = 0.1  # of the median motion: below it a ratio of motions says nothing
STANDING_S = 2.0
STILL_M, STILL_RAD = 1e-6, 1e-6  # between two frames


def associate(stamps, other_stamps, max_difference=0.01):
    """
    Pair two lists of stamps by nearest time, each stamp at most once.

    :param stamps: [N] seconds, increasing.
    :param other_stamps: [M] seconds, increasing.
    :param max_difference: largest accepted distance in seconds (evo's default).
    :return: [K,2] int64 indices into the first and the second list, in time order.
    """
    stamps, other = np.asarray(stamps, np.float64), np.asarray(other_stamps, np.float64)
    if len(stamps) == 0 or len(other) == 0:
        return np.zeros((0, 2), np.int64)
    if len(stamps) > len(other):
        return associate(other, stamps, max_difference)[:, ::-1]
    right = np.clip(np.searchsorted(other, stamps), 1, max(len(other) - 1, 1))
    left = right - 1
    right = np.minimum(right, len(other) - 1)
    nearest = np.where(np.abs(other[left] - stamps) <= np.abs(other[right] - stamps), left, right)
    difference = np.abs(other[nearest] - stamps)
    best = {}
    for i in np.flatnonzero(difference <= max_difference):
        j = nearest[i]
        if j not in best or difference[i] < difference[best[j]]:
            best[j] = i
    return np.array(sorted((i, j) for j, i in best.items()), np.int64).reshape(-1, 2)


def umeyama(source, target, with_scale):
    """
    Least-squares similarity that maps ``source`` onto ``target`` (Umeyama 1991, eq. 38–42).

    :param source: [N,3] points.
    :param target: [N,3] points.
    :param with_scale: estimate the scale too (Sim(3)); otherwise it is 1 (SE(3)).
    :return: (rotation [3,3], translation [3], scale): ``target ≈ scale · rotation · source + translation``.
    :raises EvaluationError: fewer than three points, or points that do not fix the rotation
        (all in one place or on one line).
    """
    source, target = np.asarray(source, np.float64), np.asarray(target, np.float64)
    if len(source) < 3:
        raise EvaluationError(
            f'{len(source)} poses are too few to align two trajectories; at least 3 are needed'
        )
    source_mean, target_mean = source.mean(0), target.mean(0)
    deviation = source - source_mean
    covariance = (target - target_mean).T @ deviation / len(source)
    u, singular, vt = np.linalg.svd(covariance)
    if singular[1] <= 1e-12 * singular[0]:
        raise EvaluationError(
            'the trajectories cannot be aligned: their positions lie in one place or on one straight line'
        )
    sign = np.ones(3)
    if np.linalg.det(u) * np.linalg.det(vt) < 0:
        sign[2] = -1
    rotation = (u * sign) @ vt
    scale = float((singular * sign).sum() / (deviation**2).sum(1).mean()) if with_scale else 1.0
    return rotation, target_mean - scale * rotation @ source_mean, scale


def transform(poses, rotation, translation, scale=1.0):
    """Apply a similarity to poses [N,4,4]: positions are scaled, rotated and moved, attitudes rotated."""
    poses = np.array(poses, np.float64)
    poses[:, :3, 3] = scale * poses[:, :3, 3] @ rotation.T + translation
    poses[:, :3, :3] = rotation @ poses[:, :3, :3]
    return poses


def inverse(poses):
    """Invert rigid transforms [N,4,4]."""
    out = np.zeros_like(poses)
    rotation = np.swapaxes(poses[:, :3, :3], 1, 2)
    out[:, :3, :3] = rotation
    out[:, :3, 3] = -np.einsum('nij,nj->ni', rotation, poses[:, :3, 3])
    out[:, 3, 3] = 1
    return out


def path_length(poses):
    """Length of the path through all positions in metres."""
    return float(np.linalg.norm(np.diff(np.asarray(poses)[:, :3, 3], axis=0), axis=1).sum())


def position_errors(reference, estimate):
    """Distance of corresponding positions, [N] metres (evo APE, translation part)."""
    return np.linalg.norm(np.asarray(reference)[:, :3, 3] - np.asarray(estimate)[:, :3, 3], axis=1)


def rmse(errors):
    """Root of the mean square."""
    return float(np.sqrt(np.mean(np.square(errors))))


def rotation_angles(rotations):
    """Angle of each rotation [N,3,3] in radians; exact near 0 and π, where arccos of the trace is not."""
    skew = rotations - np.swapaxes(rotations, 1, 2)
    sine = np.linalg.norm(np.stack([skew[:, 2, 1], skew[:, 0, 2], skew[:, 1, 0]], 1), axis=1)
    return np.arctan2(sine, np.trace(rotations, axis1=1, axis2=2) - 1)


def relative_errors(reference, estimate, delta=1):
    """
    Relative pose error over ``delta`` frames, all pairs (i, i + delta).

    :return: (translation [N-delta] metres, rotation [N-delta] radians).
    """
    reference, estimate = np.asarray(reference, np.float64), np.asarray(estimate, np.float64)
    true = inverse(reference[:-delta]) @ reference[delta:]
    seen = inverse(estimate[:-delta]) @ estimate[delta:]
    error = inverse(true) @ seen
    return np.linalg.norm(error[:, :3, 3], axis=1), rotation_angles(error[:, :3, :3])


@dataclass(frozen=True)
class Segments:
    """
    Relative errors of K sub-paths.

    :param first: [K] index of the frame at which a sub-path starts.
    :param last: [K] and ends.
    :param length: [K] nominal length in metres.
    :param translation: [K] error of the end's position over the length (0.01 = 1 %).
    :param rotation: [K] error of its attitude in radians per metre.
    """

    first: np.ndarray
    last: np.ndarray
    length: np.ndarray
    translation: np.ndarray
    rotation: np.ndarray

    def __len__(self):
        """Return the number of sub-paths."""
        return len(self.first)


def travelled(poses):
    """Distance along the path up to each pose, [N] metres."""
    steps = np.linalg.norm(np.diff(np.asarray(poses, np.float64)[:, :3, 3], axis=0), axis=1)
    return np.concatenate([[0.0], np.cumsum(steps)])


def kitti_segments(reference, estimate, lengths=KITTI_LENGTHS_M, step=KITTI_STEP_FRAMES):
    """
    KITTI odometry's relative errors of all sub-paths of the given lengths.

    A sub-path starts at every ``step``-th frame and ends at the first frame whose travelled distance along
    the reference is larger by the length; starts without such an end do not count.

    :param reference: [N,4,4] ground truth.
    :param estimate: [N,4,4] poses of the same frames, in the same scale.
    :param lengths: metres; those of the benchmark, or shorter ones for a short drive.
    :return: :class:`Segments`, in order of their start.
    """
    reference, estimate = np.asarray(reference, np.float64), np.asarray(estimate, np.float64)
    distance = travelled(reference)
    pairs = []
    for first in range(0, len(reference), step):
        for length in lengths:
            last = int(np.searchsorted(distance, distance[first] + length, side='right'))
            if last < len(reference):
                pairs.append((first, last, length))
    first, last, length = np.array(pairs, np.float64).reshape(-1, 3).T
    first, last = first.astype(int), last.astype(int)
    true = inverse(reference[first]) @ reference[last]
    seen = inverse(estimate[first]) @ estimate[last]
    error = inverse(seen) @ true
    translation = np.linalg.norm(error[:, :3, 3], axis=1) / length
    return Segments(first, last, length, translation, rotation_angles(error[:, :3, :3]) / length)


def kitti_errors(reference, estimate, lengths=KITTI_LENGTHS_M, step=KITTI_STEP_FRAMES):
    """
    Average :func:`kitti_segments` over all sub-paths.

    :return: (t_rel in percent, r_rel in degrees per 100 m), or (None, None) when the sequence is too short
        for any sub-path.
    """
    segments = kitti_segments(reference, estimate, lengths, step)
    if len(segments) == 0:
        return None, None
    return float(segments.translation.mean() * 100), float(np.degrees(segments.rotation.mean()) * 100)


def short_lengths(path_m):
    """Return lengths of sub-paths for a path of any length: KITTI's where they fit, else eighths of it."""
    if path_m > KITTI_LENGTHS_M[0]:
        return KITTI_LENGTHS_M
    return tuple(float(f'{path_m * i / 8:.2g}') for i in range(1, 8)) if path_m > 0 else ()


def local_scale(reference, estimate, window):
    """
    Size of the estimated motion over that of the true one, around every frame.

    :param reference: [N,4,4] ground truth.
    :param estimate: [N,4,4] poses of the same frames.
    :param window: frames over which the motion is taken.
    :return: [N], NaN where there is hardly any true motion.
    """
    truth, seen = np.asarray(reference)[:, :3, 3], np.asarray(estimate)[:, :3, 3]
    index = np.arange(len(truth))
    before = np.maximum(index - window // 2, 0)
    after = np.minimum(index + window - window // 2, len(truth) - 1)
    true = np.linalg.norm(truth[after] - truth[before], axis=1)
    moved = true > HARDLY_MOVED * max(np.median(true), 1e-9) if len(true) else np.zeros(0, bool)
    scale = np.full(len(truth), np.nan)
    scale[moved] = np.linalg.norm(seen[after] - seen[before], axis=1)[moved] / true[moved]
    return scale


def standing_spans(stamps, reference, least_s=STANDING_S):
    """
    Find where the camera stands still according to the ground truth.

    :return: list of (first, last) frame, inclusive, that are at least ``least_s`` seconds apart.
    """
    translation, rotation = relative_errors(np.tile(np.eye(4), (len(reference), 1, 1)), reference)
    still = (translation < STILL_M) & (rotation < STILL_RAD)
    edges = np.flatnonzero(np.diff(np.r_[0, still.astype(int), 0]))
    spans = [(int(a), int(b)) for a, b in edges.reshape(-1, 2)]
    return [(a, b) for a, b in spans if stamps[b] - stamps[a] >= least_s]


def standing_drift(stamps, reference, estimate):
    """
    How far the estimate moves while the camera stands.

    :param stamps: [N] seconds.
    :param estimate: [N,4,4] in metres.
    :return: (metres, degrees), the largest distance from the pose at which it came to stand; (None, None)
        when it never stands for two seconds.
    """
    spans = standing_spans(stamps, reference)
    if not spans:
        return None, None
    metres, radians = [], []
    for first, last in spans:
        moved = inverse(estimate[first : first + 1]) @ estimate[first : last + 1]
        metres.append(np.linalg.norm(moved[:, :3, 3], axis=1).max())
        radians.append(rotation_angles(moved[:, :3, :3]).max())
    return float(max(metres)), float(np.degrees(max(radians)))


def evaluate(reference, estimate, lengths=KITTI_LENGTHS_M):
    """
    Compute every metric of one trajectory under the keys of ``metrics.json``.

    ``ate_rmse_m`` is after SE(3), ``ate_rmse_sim3_m`` after Sim(3) alignment. ``scale_ratio`` is the size
    of the estimated path over that of the true one (the inverse of the scale that maps the estimate onto the
    truth): 0.5 means the estimate is half as large as reality. ``t_rel_percent``, ``r_rel_deg_per_100m`` and
    ``rpe_*`` are computed after the estimate is scaled by 1 / ``scale_ratio``, so they are drift without
    the scale error, which ``scale_ratio`` states by itself. RPE is the RMSE over consecutive frames.

    :param reference: [N,4,4] ground truth.
    :param estimate: [N,4,4] estimated poses of the same frames.
    :param lengths: of KITTI's sub-paths in metres.
    :return: (dict of metrics, the estimate after Sim(3) alignment [N,4,4]).
    :raises EvaluationError: the trajectories cannot be aligned.
    """
    reference, estimate = np.asarray(reference, np.float64), np.asarray(estimate, np.float64)
    positions, truth = estimate[:, :3, 3], reference[:, :3, 3]
    rigid = transform(estimate, *umeyama(positions, truth, with_scale=False))
    similarity = umeyama(positions, truth, with_scale=True)
    aligned = transform(estimate, *similarity)
    translation, rotation = relative_errors(reference, aligned)
    t_rel, r_rel = kitti_errors(reference, aligned, lengths)
    metrics = {
        'path_length_m': path_length(reference),
        'ate_rmse_m': rmse(position_errors(reference, rigid)),
        'ate_rmse_sim3_m': rmse(position_errors(reference, aligned)),
        'ate_max_sim3_m': float(position_errors(reference, aligned).max()),
        'scale_ratio': 1 / similarity[2] if similarity[2] > 0 else None,
        't_rel_percent': t_rel,
        'r_rel_deg_per_100m': r_rel,
        'rpe_trans_m': rmse(translation),
        'rpe_rot_deg': float(np.degrees(rmse(rotation))),
    }
    return metrics, aligned
