"""
Place heads: a feature map in, one vector of unit length for the whole image out.

A head has ``dim`` (G), ``forward`` [B,C,h,w] → [B,G] not normalised, and ``initialise``, which starts it from
the features of some images.
"""

import torch
import torch.nn.functional as F
from torch import nn

from mt_training.models.blocks import GeM


def whitened_projection(linear, features):
    """
    Start a linear layer as the whitened principal components of its inputs.

    :param linear: nn.Linear C → G.
    :param features: [N,C].
    """
    with torch.no_grad():
        mean = features.mean(0)
        _, singular, basis = torch.linalg.svd(features - mean, full_matrices=False)
        rank = min(linear.out_features, len(singular))
        # a floor on the singular values keeps noise directions from being blown up
        scale = 1 / (singular[:rank] + 0.1 * singular[0])
        weight = torch.zeros_like(linear.weight)
        weight[:rank] = basis[:rank] * scale[:, None] * singular[0]
        linear.weight.copy_(weight)
        linear.bias.copy_(-weight @ mean)


class GeMPlaces(nn.Module):
    """Generalised mean, then a projection (Radenović et al., 2018)."""

    def __init__(self, channels, dim):
        """``dim`` is G."""
        super().__init__()
        self.dim, self.pool, self.project = dim, GeM(), nn.Linear(channels, dim)

    def pooled(self, x):
        """[B,C,h,w] → [B,C] unit length."""
        return F.normalize(self.pool(F.relu(x)), dim=1)

    def forward(self, x):
        """Describe."""
        return self.project(self.pooled(x))

    def initialise(self, maps):
        """Whiten the pooled features of ``maps``, a list of [1,C,h,w]."""
        whitened_projection(self.project, torch.cat([self.pooled(x) for x in maps]))


class ConvApPlaces(nn.Module):
    """
    A 1×1 convolution, then the averages of 2×2 parts of the image (Ali-bey et al., "GSV-Cities", 2022).

    :param fixed: pool with windows of fixed size, for targets without shape arithmetic.
    """

    PARTS = 2  # along each side

    def __init__(self, channels, dim, fixed=False):
        """``dim`` is G, a multiple of four."""
        super().__init__()
        self.dim, self.fixed = dim, fixed
        self.conv = nn.Conv2d(channels, dim // self.PARTS**2, 1)

    def forward(self, x):
        """Describe; h and w are even."""
        x = self.conv(x)
        height, width = x.shape[-2:]
        if self.fixed:
            return F.avg_pool2d(x, (int(height) // self.PARTS, int(width) // self.PARTS)).flatten(1)
        parts = x.reshape(x.shape[0], x.shape[1], self.PARTS, height // 2, self.PARTS, width // 2)
        return parts.mean(dim=(3, 5)).flatten(1)

    def initialise(self, maps):
        """Keep the random start: there is nothing to derive from features."""


class NetVladPlaces(nn.Module):
    """
    Residuals to cluster centres, softly assigned (Arandjelović et al., "NetVLAD", 2016, eq. 4), projected.

    :param clusters: number of centres.
    :param reduced: channels of the local features that are assigned.
    """

    ALPHA = 20.0  # sharpness of the first assignment

    def __init__(self, channels, dim, clusters=16, reduced=32):
        """``dim`` is G."""
        super().__init__()
        self.dim = dim
        self.reduce = nn.Conv2d(channels, reduced, 1)
        self.assign = nn.Conv2d(reduced, clusters, 1)
        self.centres = nn.Parameter(F.normalize(torch.randn(clusters, reduced), dim=1))
        self.project = nn.Linear(clusters * reduced, dim)

    def local(self, x):
        """[B,C,h,w] → local features [B,R,h,w] of unit length."""
        return F.normalize(self.reduce(x), dim=1)

    def residuals(self, x):
        """Local features [B,R,h,w] → [B,clusters·R]; each cluster's part, then the whole, has unit length."""
        weight = self.assign(x).softmax(dim=1).flatten(2)  # [B,K,N]
        total = weight @ x.flatten(2).transpose(1, 2) - weight.sum(dim=2, keepdim=True) * self.centres
        return F.normalize(F.normalize(total, dim=2).flatten(1), dim=1)

    def forward(self, x):
        """Describe."""
        return self.project(self.residuals(self.local(x)))

    def initialise(self, maps, iterations=10, samples=20_000):
        """Put the centres at the k-means of the local features of ``maps``; whiten the residuals."""
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            points = torch.cat([self.local(x).flatten(2)[0].T for x in maps])
            points = points[torch.randperm(len(points), generator=generator)[:samples]]
            centres = points[: len(self.centres)].clone()
            for _ in range(iterations):
                nearest = torch.cdist(points, centres).argmin(1)
                for index in range(len(centres)):
                    members = points[nearest == index]
                    if len(members):
                        centres[index] = members.mean(0)
            self.centres[: len(centres)] = centres
            self.assign.weight.copy_(2 * self.ALPHA * self.centres[:, :, None, None])
            self.assign.bias.copy_(-self.ALPHA * self.centres.square().sum(1))
            whitened_projection(self.project, torch.cat([self.residuals(self.local(x)) for x in maps]))


HEADS = {'gem': GeMPlaces, 'convap': ConvApPlaces, 'netvlad': NetVladPlaces}
