"""
Keypoints and descriptors on images of a plane.

Repeatability, localization error, homography accuracy and matching score are those of the HPatches evaluation
of SuperPoint (DeTone et al., CVPRW 2018, appendix) as KP2D's public evaluator (Tang et al., ICLR 2020)
computes them; mean matching accuracy is that of D2-Net (Dusmanu et al., CVPR 2019, section 5.1). Points are
pixels of two images of one size, ``homography`` maps the first image to the second.
"""

import numpy as np
from scipy.spatial import cKDTree

from mt_training.metrics.homography import inside, warp_points

CORRECT_PX = 3.0


def shared_points(first, second, homography, size):
    """
    Points that both images show.

    :param first: [N,2] pixels of the first image.
    :param second: [M,2] pixels of the second.
    :param size: (width, height) of both images.
    :return: masks ([N], [M]): the point mapped into the other image is inside it.
    """
    return (
        inside(warp_points(first, homography), size),
        inside(warp_points(second, np.linalg.inv(homography)), size),
    )


def repeatability(first, second, homography, size, threshold=CORRECT_PX):
    """
    How many points are found again, and how far off.

    Of the N1 + N2 points that both images show, the part with a point of the other image within ``threshold``
    pixels, measured in the second image; the localization error is the mean distance of those.

    :return: (repeatability 0–1, localization error in pixels); NaN where nothing can be counted.
    """
    in_first, in_second = shared_points(first, second, homography, size)
    mapped, found = warp_points(first[in_first], homography), np.asarray(second, np.float64)[in_second]
    total = len(mapped) + len(found)
    if total == 0:
        return float('nan'), float('nan')
    if len(mapped) == 0 or len(found) == 0:
        return 0.0, float('nan')
    distance = np.concatenate([cKDTree(found).query(mapped)[0], cKDTree(mapped).query(found)[0]])
    near = distance[distance <= threshold]
    return len(near) / total, float(near.mean()) if len(near) else float('nan')


def reprojection_errors(first, second, homography):
    """Distance [N] in pixels between matched points in the second image; infinite beyond the horizon."""
    return np.linalg.norm(warp_points(first, homography) - second, axis=1)


def matching_accuracy(first, second, homography, thresholds):
    """
    Part of the matches with a reprojection error of at most t pixels, for every t of ``thresholds``.

    :param first: [N,2] matched points, all of them, not only the shared ones.
    :param second: [N,2].
    :return: list of floats; 0 without matches.
    """
    if len(first) == 0:
        return [0.0 for _ in thresholds]
    errors = reprojection_errors(first, second, homography)
    return [float((errors <= t).mean()) for t in thresholds]


def nearest_matching_score(
    first, second, descriptors_first, descriptors_second, homography, size, threshold=CORRECT_PX
):
    """
    Matching score of descriptors: how often the nearest neighbour is the true point.

    Every point is matched to the most similar one of the other image, without a mutual check. Of the matches
    whose partner the point's own image shows, the part within ``threshold`` pixels of the point there; mean
    of both directions.

    :param first: [N,2] pixels.
    :param second: [M,2] pixels.
    :param descriptors_first: [N,D] unit vectors.
    :param descriptors_second: [M,D] unit vectors.
    :param size: (width, height) of both images.
    :return: float 0–1.
    """
    if len(first) == 0 or len(second) == 0:
        return 0.0
    similarity = descriptors_first @ descriptors_second.T
    scores = []
    for points, partners, matrix in (
        (first, second[similarity.argmax(1)], np.linalg.inv(homography)),
        (second, first[similarity.argmax(0)], homography),
    ):
        mapped = warp_points(partners, matrix)
        visible = ((mapped >= 0) & (mapped <= np.array(size) - 1)).all(1)
        correct = visible & (np.linalg.norm(mapped - points, axis=1) < threshold)
        scores.append(correct.sum() / max(visible.sum(), 1))
    return float(np.mean(scores))


def matcher_matching_score(first, second, index, homography, size, threshold=CORRECT_PX):
    """
    Matching score of a matcher that leaves points unmatched.

    Correct matches (reprojection error below ``threshold`` pixels) over the points that both images show,
    mean of both images (the definition of SuperPoint's appendix B: points that are left out count as not
    matched).

    :param first: [N,2] pixels, all points.
    :param second: [M,2] pixels, all points.
    :param index: [K,2] matched pairs.
    :param size: (width, height) of both images.
    :return: float 0–1.
    """
    in_first, in_second = shared_points(first, second, homography, size)
    index = index[in_first[index[:, 0]] & in_second[index[:, 1]]]
    correct = (reprojection_errors(first[index[:, 0]], second[index[:, 1]], homography) < threshold).sum()
    return float(np.mean([correct / max(in_first.sum(), 1), correct / max(in_second.sum(), 1)]))
