"""Matching with the geometry's help: map points near their projection, keypoints near an epipolar line."""

import numpy as np

NEIGHBOURS = 8  # nearest keypoints looked at around a projection


def best_per_keypoint(point_rows, keypoint_rows, similarity):
    """Keep for each keypoint the most similar point only; ties go to the first."""
    order = np.argsort(-similarity, kind='stable')
    _, first = np.unique(keypoint_rows[order], return_index=True)
    chosen = np.sort(order[first])
    return point_rows[chosen], keypoint_rows[chosen], similarity[chosen]


def search_projected(projected, point_descriptors, tree, descriptors, radius, ratio, min_similarity):
    """
    Find for each projected map point the keypoint with the most similar descriptor near it.

    :param projected: [P,2] rays of the points; NaN rows match nothing.
    :param point_descriptors: [P,D].
    :param tree: ``scipy.spatial.cKDTree`` of the keypoints' rays [N,2].
    :param descriptors: [N,D] of the keypoints.
    :param radius: search radius in normalised units: scalar or [P].
    :param ratio: best over second-best descriptor distance must be smaller.
    :param min_similarity: smallest accepted dot product.
    :return: (rows of points [M], rows of keypoints [M], similarity [M]); no keypoint twice.
    """
    empty = np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0)
    rows = np.flatnonzero(np.isfinite(projected).all(1))
    n = len(descriptors)
    if len(rows) == 0 or n == 0:
        return empty
    k = min(NEIGHBOURS, n)
    bound = float(np.max(radius))
    distance, index = tree.query(projected[rows], k=k, distance_upper_bound=bound)
    distance, index = distance.reshape(len(rows), k), index.reshape(len(rows), k)
    limit = np.broadcast_to(np.asarray(radius, np.float64), len(projected))[rows]
    near = distance <= limit[:, None]
    found = near.any(1)
    rows, index, near = rows[found], index[found], near[found]
    if len(rows) == 0:
        return empty
    candidates = descriptors[np.where(near, index, 0)]
    similarity = np.einsum('pkd,pd->pk', candidates, point_descriptors[rows])
    similarity = np.where(near, similarity, -2.0)
    best = similarity.argmax(1)
    here = np.arange(len(rows))
    top = similarity[here, best]
    similarity[here, best] = -2.0
    second = similarity.max(1)
    # distances of unit vectors: d² = 2 − 2 s
    distinct = (1 - top) <= ratio**2 * (1 - second) + 1e-12
    ok = (top >= min_similarity) & (distinct | (second < -1.5))
    return best_per_keypoint(rows[ok], index[here, best][ok], top[ok])


def search_epipolar(first, second, relative, sigma, ratio, min_similarity):
    """
    Match keypoints of two views whose relative pose is known, along epipolar lines.

    :param first: (rays [N,2], descriptors [N,D]).
    :param second: (rays [M,2], descriptors [M,D]).
    :param relative: [4,4] second camera from first camera.
    :param sigma: standard deviation of a ray coordinate.
    :param ratio: best over second-best descriptor distance along the line.
    :param min_similarity: smallest accepted dot product.
    :return: index pairs [K,2], mutual best.
    """
    rays_a, descriptors_a = first
    rays_b, descriptors_b = second
    if len(rays_a) == 0 or len(rays_b) == 0:
        return np.zeros((0, 2), np.int64)
    rotation, translation = relative[:3, :3], relative[:3, 3]
    homogeneous_a = np.concatenate([rays_a, np.ones((len(rays_a), 1))], 1)
    homogeneous_b = np.concatenate([rays_b, np.ones((len(rays_b), 1))], 1)
    lines = np.cross(translation, homogeneous_a @ rotation.T)
    lines /= np.maximum(np.linalg.norm(lines[:, :2], axis=1, keepdims=True), 1e-12)
    distance = lines.astype(np.float32) @ homogeneous_b.astype(np.float32).T
    similarity = descriptors_a @ descriptors_b.T
    np.copyto(similarity, -2.0, where=np.abs(distance, out=distance) >= 2.45 * sigma)
    best_b, best_a = similarity.argmax(1), similarity.argmax(0)
    rows = np.flatnonzero(best_a[best_b] == np.arange(len(rays_a)))
    columns = best_b[rows]
    top = similarity[rows, columns]
    rest = similarity[rows]
    rest[np.arange(len(rows)), columns] = -2.0
    second_best = rest.max(1)
    distinct = ((1 - top) <= ratio**2 * (1 - second_best) + 1e-12) | (second_best < -1.5)
    ok = (top >= min_similarity) & distinct
    return np.stack([rows[ok], columns[ok]], 1)
