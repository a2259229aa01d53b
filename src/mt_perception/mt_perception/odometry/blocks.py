"""
Many symmetric, positive definite 3 × 3 systems at once, by the formulas of their Cholesky factors.

One row per coefficient, so that each formula is a few operations on long arrays.
"""

import numpy as np

LOWER = ((0, 0), (1, 0), (1, 1), (2, 0), (2, 1), (2, 2))  # coefficients of a lower triangle, row by row


def cholesky(blocks, floor=0.0):
    """
    Factorise V = L Lᵀ.

    :param blocks: [6,N] lower triangles of V, in the order of ``LOWER``.
    :param floor: smallest square on the diagonal of L, where rounding would make it negative.
    :return: [6,N] L in the same order.
    """
    a, b, d, c, e, f = blocks
    l11 = np.sqrt(np.maximum(a, floor))
    l21, l31 = b / l11, c / l11
    l22 = np.sqrt(np.maximum(d - l21 * l21, floor))
    l32 = (e - l31 * l21) / l22
    l33 = np.sqrt(np.maximum(f - l31 * l31 - l32 * l32, floor))
    return np.stack([l11, l21, l22, l31, l32, l33])


def forward(factor, right):
    """Solve L x = right: factor [6,N], right [3,…,N]."""
    l11, l21, l22, l31, l32, l33 = factor
    x = right[0] / l11
    y = (right[1] - l21 * x) / l22
    return np.stack([x, y, (right[2] - l31 * x - l32 * y) / l33])


def backward(factor, right):
    """Solve Lᵀ x = right: factor [6,N], right [3,…,N]."""
    l11, l21, l22, l31, l32, l33 = factor
    z = right[2] / l33
    y = (right[1] - l32 * z) / l22
    return np.stack([(right[0] - l21 * y - l31 * z) / l11, y, z])
