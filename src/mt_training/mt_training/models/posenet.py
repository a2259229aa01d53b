"""
PoseNet: the motion of the camera between two images, learnt together with depth.

Zhou et al., "Unsupervised Learning of Depth and Ego-Motion from Video", 2017; the rays of the pixels are
inputs too (Facil et al., "CAM-Convs", 2019), so that views may be cropped, scaled and rolled as training
does.
"""

import torch
from kornia.geometry.conversions import axis_angle_to_rotation_matrix
from torch import nn

SMALL = 0.01  # first motions are near none, so that the first warps are near right


class PoseNet(nn.Module):
    """
    Two images with their rays → the motion between their cameras.

    :param width: channels of the first layer; seven halvings of the resolution, up to 16 × as many channels.
    """

    def __init__(self, width=16):
        """Make the network with random weights."""
        super().__init__()
        inputs, layers = 10, []
        for factor in (1, 2, 4, 8, 16, 16, 16):
            kernel = {1: 7, 2: 5}.get(factor, 3)
            layers += [
                nn.Conv2d(inputs, width * factor, kernel, stride=2, padding=kernel // 2),
                nn.ReLU(inplace=True),
            ]
            inputs = width * factor
        self.features = nn.Sequential(*layers)
        self.motion = nn.Conv2d(inputs, 6, 1)

    def forward(self, first, second, first_rays, second_rays):
        """
        Estimate the motion.

        :param first: [B,3,H,W] RGB in 0–1, :param second: the same.
        :param first_rays: [B,2,H,W] normalised camera coordinates of the pixels, :param second_rays: the
            same.
        :return: [B,4,4] first camera → second camera; the scale is that of the depth it is trained with.
        """
        x = torch.cat([first - 0.5, second - 0.5, first_rays, second_rays], dim=1)
        values = SMALL * self.motion(self.features(x)).mean(dim=(2, 3)).float()
        out = torch.eye(4, device=values.device).repeat(len(values), 1, 1)
        out[:, :3, :3] = axis_angle_to_rotation_matrix(values[:, :3])
        out[:, :3, 3] = values[:, 3:]
        return out
