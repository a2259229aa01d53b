"""
The matcher: kornia's LightGlue in a small configuration, with padding.

Lindenberger et al., "LightGlue: Local Feature Matching at Light Speed", 2023. kornia holds the layers; this
file runs them over padded sets without early exit, so that the graph has no data-dependent control flow.
"""

import torch
import torch.nn.functional as F
from kornia.feature import LightGlue
from torch import nn

NEGATIVE = -1e4  # stands for minus infinity where a softmax must stay finite


def normalize_keypoints(keypoints, size):
    """Pixels [B,N,2] of images of ``size`` [B,2] → centred on the image, longer side from -1 to 1."""
    return (keypoints - size[:, None] / 2) / (size.amax(dim=1)[:, None, None] / 2)


class MatcherNet(nn.Module):
    """
    LightGlue over padded keypoint sets.

    :param descriptor_dim: D of the keypoints.
    :param width: channels inside.
    :param layers: number of layers.
    :param heads: attention heads.
    """

    def __init__(self, descriptor_dim=64, width=64, layers=4, heads=2):
        """Make the network with random weights."""
        super().__init__()
        self.glue = LightGlue(
            None, input_dim=descriptor_dim, descriptor_dim=width, n_layers=layers, num_heads=heads,
            flash=False, depth_confidence=-1, width_confidence=-1,
        )  # fmt: skip

    def assignment(self, layer, x0, x1, valid0, valid1):
        """
        Log assignment after a layer (LightGlue, eq. 6–8), padded columns excluded.

        :return: (log P [B,N,M], log probability of having no partner [B,N], the same [B,M]).
        """
        head = self.glue.log_assignment[layer]
        scale = x0.shape[-1] ** 0.25
        similarity = (head.final_proj(x0) / scale) @ (head.final_proj(x1) / scale).transpose(1, 2)
        keep0, keep1 = valid0[:, :, None], valid1[:, None]
        rows = F.log_softmax(torch.where(keep1, similarity, torch.full_like(similarity, NEGATIVE)), dim=2)
        columns = F.log_softmax(torch.where(keep0, similarity, torch.full_like(similarity, NEGATIVE)), dim=1)
        z0, z1 = head.matchability(x0), head.matchability(x1)
        scores = rows + columns + F.logsigmoid(z0) + F.logsigmoid(z1).transpose(1, 2)
        return scores, F.logsigmoid(-z0[..., 0]), F.logsigmoid(-z1[..., 0])

    def forward(
        self, keypoints0, descriptors0, valid0, size0, keypoints1, descriptors1, valid1, size1, every=True
    ):
        """
        Match.

        :param keypoints0: [B,N,2] pixels of an image of ``size0`` [B,2] (width, height).
        :param descriptors0: [B,N,D].
        :param valid0: [B,N] bool, False = padding.
        :param every: return the assignment after every layer, not only the last.
        :return: list of :meth:`assignment` results.
        """
        x0, x1 = self.glue.input_proj(descriptors0), self.glue.input_proj(descriptors1)
        e0 = self.glue.posenc(normalize_keypoints(keypoints0, size0))
        e1 = self.glue.posenc(normalize_keypoints(keypoints1, size1))
        mask0, mask1 = valid0[:, None, :, None], valid1[:, None, :, None]
        out = []
        last = len(self.glue.transformers) - 1
        for index, layer in enumerate(self.glue.transformers):
            x0, x1 = layer(x0, x1, e0, e1, mask0, mask1)
            if every or index == last:
                out.append(self.assignment(index, x0, x1, valid0, valid1))
        return out


class DeployedMatcher(nn.Module):
    """The matcher as it ships; tensors of the matcher contract."""

    inputs = (
        'keypoints0',
        'descriptors0',
        'scores0',
        'size0',
        'keypoints1',
        'descriptors1',
        'scores1',
        'size1',
    )
    outputs = ('matches0', 'matching_scores0')

    def __init__(self, net, threshold=0.1):
        """Wrap ``net``; pairs below ``threshold`` are not matches."""
        super().__init__()
        self.net, self.threshold = net, threshold
        self.eval()

    def forward(self, keypoints0, descriptors0, scores0, size0, keypoints1, descriptors1, scores1, size1):
        """Return (matches0 int32 [1,N], matching_scores0 float32 [1,N])."""
        valid0, valid1 = scores0 > 0, scores1 > 0
        log_p, _, _ = self.net(
            keypoints0, descriptors0, valid0, size0, keypoints1, descriptors1, valid1, size1, every=False
        )[-1]
        log_p = torch.where(valid0[:, :, None] & valid1[:, None], log_p, torch.full_like(log_p, NEGATIVE))
        best, index = log_p.max(dim=2)
        back = log_p.max(dim=1).indices
        mutual = torch.gather(back, 1, index) == torch.arange(log_p.shape[1], device=log_p.device)[None]
        score = best.exp()
        kept = mutual & (score > self.threshold) & valid0
        matches = torch.where(kept, index, torch.full_like(index, -1)).to(torch.int32)
        return matches, torch.where(kept, score, torch.zeros_like(score))
