"""
The HPatches protocol on one pair of images and over many: what ``evaluate keypoints`` counts.

Both images of a pair have one size. Homography accuracy and repeatability use the points whose true place is
inside the other image; matching accuracy (MMA) uses all. RANSAC is a lottery on hard pairs: on 20 pairs its
result moves by ±0.05 when only the order of the matches changes. So the accuracy is the mean of several
draws, each with the matches in another fixed order; the first is the order of the keypoints, the only draw of
the public evaluators.
"""

from time import perf_counter

import numpy as np

from mt_training.metrics import keypoints as metrics
from mt_training.metrics.homography import corner_error, estimate_homography, view_change

ACCURACY_PX = (1, 3, 5)
MMA_PX = tuple(range(1, 11))
WIDE_ROTATION_DEG = 30.0
WIDE_SCALE = 1.5


def evaluate_pair(first, second, homography, matcher, runs):
    """
    Compare the keypoints of two images of one size.

    :param first: :class:`mt_perception.types.Keypoints`.
    :param second: the same.
    :param homography: [3,3] first to second image, ground truth.
    :param matcher: :class:`mt_perception.matching.base.Matcher`.
    :param runs: number of RANSAC draws.
    :return: (dict of numbers; :class:`Matches` of all points).
    """
    size = first.image_size
    in_first, in_second = metrics.shared_points(first.xy, second.xy, homography, size)
    repeated, localization = metrics.repeatability(first.xy, second.xy, homography, size)
    start = perf_counter()
    matches = matcher.match(first, second)
    milliseconds = (perf_counter() - start) * 1e3
    a, b = matches.index.T
    if matcher.name == 'nearest':
        score = metrics.nearest_matching_score(
            first.xy, second.xy, first.descriptors, second.descriptors, homography, size
        )
    else:
        score = metrics.matcher_matching_score(first.xy, second.xy, matches.index, homography, size)

    shared_first, shared_second = first.select(in_first), second.select(in_second)
    c, d = matcher.match(shared_first, shared_second).index.T
    errors, inliers = homography_errors(shared_first.xy[c], shared_second.xy[d], homography, size, runs)
    rotation, scale = view_change(homography, size)
    return {
        'keypoints_first': len(first),
        'keypoints_second': len(second),
        'shared_first': len(shared_first),
        'shared_second': len(shared_second),
        'repeatability': repeated,
        'localization_error_px': localization,
        'matching_score': score,
        'mma': metrics.matching_accuracy(first.xy[a], second.xy[b], homography, MMA_PX),
        'matches': len(matches),
        'shared_matches': len(c),
        'inliers': inliers,
        'corner_error_px': errors,
        'rotation_deg': rotation,
        'scale': scale,
        'match_ms': milliseconds,
    }, matches


def homography_errors(first, second, homography, size, runs):
    """
    Corner error of the homography that RANSAC finds, in each of ``runs`` draws.

    :param first: [N,2] matched pixels.
    :param second: [N,2].
    :return: (list of ``runs`` pixels, infinite where it failed; number of inliers of the first draw).
    """
    errors, inliers = [], 0
    for run in range(runs):
        order = np.random.default_rng(run).permutation(len(first)) if run else None
        estimated, mask = estimate_homography(first, second, order=order)
        errors.append(corner_error(estimated, homography, size))
        inliers = inliers if run else int(mask.sum())
    return errors, inliers


def summarise(pairs):
    """
    Mean over pairs under the keys of ``metrics.json``.

    :param pairs: list of dicts of :func:`evaluate_pair`, not empty.
    """
    accuracy = homography_accuracy(pairs)
    mma = np.mean([pair['mma'] for pair in pairs], axis=0)
    return {
        'repeatability': _mean(pairs, 'repeatability'),
        'localization_error_px': _mean(pairs, 'localization_error_px'),
        'homography_accuracy': {str(t): float(a.mean()) for t, a in accuracy.items()},
        'homography_accuracy_std': {str(t): float(a.std()) for t, a in accuracy.items()},
        'homography_accuracy_first_draw': {str(t): float(a[0]) for t, a in accuracy.items()},
        'matching_score': _mean(pairs, 'matching_score'),
        'mma': {str(t): float(mma[MMA_PX.index(t)]) for t in ACCURACY_PX},
        'mma_curve': {str(t): float(v) for t, v in zip(MMA_PX, mma)},
        'pairs': len(pairs),
        'keypoints_per_image': float(
            np.mean([(p['keypoints_first'] + p['keypoints_second']) / 2 for p in pairs])
        ),
        'matches_per_pair': _mean(pairs, 'matches'),
        'match_ms': float(np.median([pair['match_ms'] for pair in pairs])),
    }


def homography_accuracy(pairs):
    """Part of the pairs with a mean corner error of at most t pixels: {t: [runs] float64, one per draw}."""
    errors = np.array([pair['corner_error_px'] for pair in pairs])
    return {t: (errors <= t).mean(0) for t in ACCURACY_PX}


def groups(pairs):
    """
    Split pairs by what makes them hard.

    :return: {name: list of pairs}: ``wide`` (more than 30° or 1.5×) and ``narrow``, for HPatches also
        ``illumination`` and ``viewpoint``; only groups that have pairs.
    """
    wide = [p['rotation_deg'] > WIDE_ROTATION_DEG or p['scale'] > WIDE_SCALE for p in pairs]
    out = {
        'wide': [p for p, is_wide in zip(pairs, wide) if is_wide],
        'narrow': [p for p, is_wide in zip(pairs, wide) if not is_wide],
        'illumination': [p for p in pairs if p['scene'].startswith('i_')],
        'viewpoint': [p for p in pairs if p['scene'].startswith('v_')],
    }
    return {name: members for name, members in out.items() if members}


def _mean(pairs, key):
    """Mean over the pairs where there is a number."""
    values = np.array([pair[key] for pair in pairs], np.float64)
    values = values[np.isfinite(values)]
    return float(values.mean()) if len(values) else float('nan')
