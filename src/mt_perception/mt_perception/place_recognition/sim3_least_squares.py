"""
Weighted least squares over similarities: Levenberg–Marquardt on a sparse graph.

The error of an edge i → j that says Z is E = Z⁻¹ X_i⁻¹ X_j, as its rotation vector, translation and logarithm
of the scale. Poses are perturbed on the right, X exp(x); the Jacobians are exact: of the rotation vector the
inverse right Jacobian (Solà, Deray, Atchuthan: A micro Lie theory, eq. 144), of the translation the linear
part of E, and −J Ad(X_j⁻¹ X_i) for the pose i. All edges are worked on at once.
"""

from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_matrix, diags
from scipy.sparse.linalg import splu

SIZE = 7  # unknowns of a pose


@dataclass
class Edges:
    """
    Edges as arrays.

    :param first: [E] numbers of poses.
    :param second: [E] numbers of poses.
    :param inverse: [E,4,4] inverses of what the edges say.
    :param whitening: [E,7,7] W with Wᵀ W = inverse covariance.
    """

    first: np.ndarray
    second: np.ndarray
    inverse: np.ndarray
    whitening: np.ndarray

    @classmethod
    def of(cls, edges):
        """Collect a list of :class:`mt_perception.place_recognition.pose_graph.Edge`."""
        covariance = np.array([edge.covariance for edge in edges]).reshape(-1, SIZE, SIZE)
        transform = np.array([edge.transform for edge in edges]).reshape(-1, 4, 4)
        lower = np.linalg.cholesky((covariance + covariance.transpose(0, 2, 1)) / 2)
        return cls(
            np.array([edge.first for edge in edges], np.int64),
            np.array([edge.second for edge in edges], np.int64),
            invert_all(transform),
            np.linalg.inv(lower),
        )

    def __len__(self):
        """Return the number of edges."""
        return len(self.first)


def scales(transforms):
    """Scales [N] of similarities [N,4,4]."""
    return np.cbrt(np.linalg.det(transforms[:, :3, :3]))


def invert_all(transforms):
    """Invert similarities [N,4,4]."""
    turn = transforms[:, :3, :3].transpose(0, 2, 1) / scales(transforms)[:, None, None] ** 2
    out = np.zeros_like(transforms)
    out[:, :3, :3] = turn
    out[:, :3, 3] = -np.einsum('nij,nj->ni', turn, transforms[:, :3, 3])
    out[:, 3, 3] = 1
    return out


def skews(v):
    """Cross-product matrices [N,3,3] of vectors [N,3]."""
    out = np.zeros((len(v), 3, 3))
    out[:, 0, 1], out[:, 0, 2], out[:, 1, 2] = -v[:, 2], v[:, 1], -v[:, 0]
    return out - out.transpose(0, 2, 1)


def rotation_vectors(rotations):
    """Axis times angle [N,3] of rotations [N,3,3]; at a half turn the axis is that of the symmetric part."""
    twice_sine = np.stack(
        [
            rotations[:, 2, 1] - rotations[:, 1, 2],
            rotations[:, 0, 2] - rotations[:, 2, 0],
            rotations[:, 1, 0] - rotations[:, 0, 1],
        ],
        1,
    )
    sine = np.linalg.norm(twice_sine, axis=1) / 2
    angle = np.arctan2(sine, (np.trace(rotations, axis1=1, axis2=2) - 1) / 2)
    factor = np.where(sine > 1e-9, angle / np.maximum(2 * sine, 1e-18), 0.5)
    out = twice_sine * factor[:, None]
    for k in np.flatnonzero((sine < 1e-6) & (angle > 1)):
        symmetric = (rotations[k] + np.eye(3)) / 2
        column = int(np.argmax(np.diag(symmetric)))
        out[k] = angle[k] * symmetric[:, column] / np.linalg.norm(symmetric[:, column])
    return out


def rotations_of(vectors):
    """Rotations [N,3,3] of rotation vectors [N,3] (Rodrigues)."""
    angle = np.linalg.norm(vectors, axis=1)
    k = skews(vectors)
    small = angle < 1e-6
    safe = np.where(small, 1, angle)
    a = np.where(small, 1 - angle**2 / 6, np.sin(safe) / safe)
    b = np.where(small, 0.5 - angle**2 / 24, (1 - np.cos(safe)) / safe**2)
    return np.eye(3) + a[:, None, None] * k + b[:, None, None] * (k @ k)


def inverse_right_jacobians(vectors):
    """Derivatives [N,3,3] of the rotation vector by a perturbation of its rotation on the right."""
    angle = np.linalg.norm(vectors, axis=1)
    k = skews(vectors)
    small = angle < 1e-4
    safe = np.where(small, 1, np.minimum(angle, np.pi - 1e-6))
    c = np.where(small, 1 / 12, (1 - safe / 2 / np.tan(safe / 2)) / safe**2)
    return np.eye(3) + 0.5 * k + c[:, None, None] * (k @ k)


def errors(poses, edges):
    """Return (whitened errors [E,7], E [E,4,4], X_j⁻¹ X_i [E,4,4])."""
    backward = invert_all(poses[edges.second]) @ poses[edges.first]
    rest = edges.inverse @ invert_all(backward)
    scale = scales(rest)
    raw = np.concatenate(
        [
            rotation_vectors(rest[:, :3, :3] / scale[:, None, None]),
            rest[:, :3, 3],
            np.log(scale)[:, None],
        ],
        1,
    )
    return np.einsum('eij,ej->ei', edges.whitening, raw), rest, backward


def jacobians(rest, backward, whitening):
    """Return the derivatives of whitened errors by the poses i and j, each [E,7,7]."""
    n = len(rest)
    scale = scales(rest)
    second = np.zeros((n, SIZE, SIZE))
    second[:, :3, :3] = inverse_right_jacobians(rotation_vectors(rest[:, :3, :3] / scale[:, None, None]))
    second[:, 3:6, 3:6] = rest[:, :3, :3]
    second[:, 6, 6] = 1
    second = whitening @ second
    scale = scales(backward)
    rotation, t = backward[:, :3, :3] / scale[:, None, None], backward[:, :3, 3]
    move = np.zeros((n, SIZE, SIZE))
    move[:, :3, :3] = rotation
    move[:, 3:6, :3] = skews(t) @ rotation
    move[:, 3:6, 3:6] = backward[:, :3, :3]
    move[:, 3:6, 6] = -t
    move[:, 6, 6] = 1
    return -second @ move, second


def normal_equations(error, by_first, by_second, edges, weights, column, unknowns):
    """
    Return the sparse matrix [7U,7U] and the right side [7U] of the Gauss–Newton step.

    :param column: [N] place of each pose among the unknowns, −1 where fixed.
    :param unknowns: U.
    """
    right = np.zeros((unknowns, SIZE))
    rows, columns, blocks = [], [], []
    sides = ((edges.first, by_first), (edges.second, by_second))
    for place_a, a in sides:
        at_a = column[place_a]
        weighted = a * weights[:, None, None]
        free = at_a >= 0
        np.add.at(right, at_a[free], -np.einsum('eki,ek->ei', weighted[free], error[free]))
        for place_b, b in sides:
            at_b = column[place_b]
            both = free & (at_b >= 0)
            blocks.append(np.einsum('eki,ekj->eij', weighted[both], b[both]))
            rows.append(at_a[both])
            columns.append(at_b[both])
    rows, columns, blocks = np.concatenate(rows), np.concatenate(columns), np.concatenate(blocks)
    inner = np.arange(SIZE)
    i = np.broadcast_to((rows[:, None, None] * SIZE + inner[None, :, None]), blocks.shape)
    j = np.broadcast_to((columns[:, None, None] * SIZE + inner[None, None, :]), blocks.shape)
    size = unknowns * SIZE
    matrix = coo_matrix((blocks.ravel(), (i.ravel(), j.ravel())), (size, size)).tocsc()
    return matrix, right.ravel()


def minimize(poses, fixed, edges, weights, iterations=20, tolerance=1e-5):
    """
    Minimise the weighted sum of squared errors.

    :param poses: [N,4,4] similarities to start from.
    :param fixed: [N] bool, which do not move.
    :param edges: :class:`Edges`.
    :param weights: [E].
    :param iterations: upper bound.
    :param tolerance: end when the cost falls by a smaller share.
    :return: (poses [N,4,4], squared errors [E]).
    """
    poses = poses.copy()
    free = np.flatnonzero(~fixed)
    column = np.full(len(poses), -1, np.int64)
    column[free] = np.arange(len(free))
    error, rest, backward = errors(poses, edges)
    cost = (weights * (error**2).sum(1)).sum()
    damping = 1e-6
    for _ in range(iterations if len(free) else 0):
        matrix, right = normal_equations(
            error, *jacobians(rest, backward, edges.whitening), edges, weights, column, len(free)
        )
        diagonal = matrix.diagonal()
        gain = 0.0
        while damping < 1e6:
            damped = matrix + diags(damping * diagonal + 1e-12, format='csc')
            step = splu(damped, permc_spec='MMD_AT_PLUS_A', options={'SymmetricMode': True}).solve(right)
            candidate = poses.copy()
            candidate[free] = poses[free] @ perturbations(step.reshape(-1, SIZE))
            state = errors(candidate, edges)
            new_cost = (weights * (state[0] ** 2).sum(1)).sum()
            if new_cost < cost:
                gain = (cost - new_cost) / cost
                poses, (error, rest, backward), cost = candidate, state, new_cost
                damping = max(damping / 10, 1e-9)
                break
            damping *= 10
        if gain < tolerance:
            break
        damping = min(damping, 1e3)
    return poses, (error**2).sum(1)


def perturbations(steps):
    """Similarities [N,4,4] close to the identity from steps [N,7], to first order their exponentials."""
    out = np.zeros((len(steps), 4, 4))
    out[:, :3, :3] = np.exp(steps[:, 6])[:, None, None] * rotations_of(steps[:, :3])
    out[:, :3, 3] = steps[:, 3:6]
    out[:, 3, 3] = 1
    return out
