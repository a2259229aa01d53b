"""
The network as it ships: uint8 image in, message-ready arrays out.

Normalisation, arg-max, non-maximum suppression, top-K, sub-pixel refinement and descriptor sampling are
part of the graph, so that every engine gives the same arrays. The tensors are those of the model contract,
:mod:`mt_perception.inference.contract`.
"""

import torch
import torch.nn.functional as F
from torch import nn

from mt_training.models.blocks import upsample
from mt_training.models.mtnet import CELL

NMS_SIZE = 5  # pixels; a keypoint is the maximum of the window of this size around it
BORDER = 4  # pixels along the image's edge without keypoints


class DeployedNet(nn.Module):
    """
    A multi-task network with its post-processing.

    :param net: network with the outputs of :class:`mt_training.models.mtnet.MtNet`.
    :param max_keypoints: K.
    :param tasks: which outputs the graph has.
    """

    def __init__(
        self, net, max_keypoints=1024, tasks=('segmentation', 'depth', 'keypoints', 'global_descriptor')
    ):
        """Wrap ``net`` (switched to evaluation mode)."""
        super().__init__()
        self.net, self.max_keypoints, self.tasks = net, max_keypoints, tuple(tasks)
        self.eval()

    def output_names(self):
        """Return the names of the outputs in the order :meth:`forward` gives them."""
        names = []
        if 'segmentation' in self.tasks:
            names += ['segmentation', 'segmentation_confidence']
        if 'depth' in self.tasks:
            names += ['depth']
        if 'keypoints' in self.tasks:
            names += ['keypoints', 'scores', 'descriptors']
        if 'global_descriptor' in self.tasks:
            names += ['global_descriptor']
        return names

    def forward(self, image):
        """
        Run the network.

        :param image: [1,H,W,3] uint8 RGB; H and W multiples of 32.
        :return: tuple of arrays, see :meth:`output_names`.
        """
        out = self.net(image.float().permute(0, 3, 1, 2), self.tasks)
        result = []
        if 'segmentation' in self.tasks:
            result += self.segmentation(out['segmentation'])
        if 'depth' in self.tasks:
            result.append(upsample(out['log_depth'], CELL).exp()[:, 0])
        if 'keypoints' in self.tasks:
            result += self.keypoints(out['keypoints'], out['descriptors'])
        if 'global_descriptor' in self.tasks:
            result.append(out['global_descriptor'])
        return tuple(result)

    def segmentation(self, logits):
        """Logits [1,C,h,w] → class ids and confidence × 255, both uint8 [1,4h,4w]."""
        confidence = upsample(logits.softmax(dim=1).amax(dim=1, keepdim=True), CELL)
        classes = upsample(logits, CELL).argmax(dim=1)
        return [classes.float().to(torch.uint8), (confidence[:, 0] * 255).round().to(torch.uint8)]

    def keypoints(self, logits, descriptors):
        """
        Cell logits [1,17,h,w] and descriptors [1,D,h,w] → pixels [1,K,2], scores [1,K], descriptors [1,K,D].

        The position is the centre of mass of the 3×3 scores around the maximum.
        """
        scores = F.pixel_shuffle(logits.softmax(dim=1)[:, :-1], CELL)
        height, width = scores.shape[-2], scores.shape[-1]
        peak = F.max_pool2d(scores, NMS_SIZE, 1, NMS_SIZE // 2)
        inner = F.pad(torch.ones_like(scores[..., BORDER:-BORDER, BORDER:-BORDER]), (BORDER,) * 4)
        kept = torch.where(scores == peak, scores, torch.zeros_like(scores)) * inner
        value, index = kept.flatten(1).topk(self.max_keypoints, dim=1, sorted=True)
        index = torch.where(value > 0, index, torch.full_like(index, 1) * (width + 1))
        y, x = index // width, index % width
        around = torch.tensor([[dx, dy] for dy in (-1, 0, 1) for dx in (-1, 0, 1)], device=scores.device)
        neighbours = index[..., None] + around[:, 1] * width + around[:, 0]
        flat = scores.flatten(1)
        patch = torch.gather(flat, 1, neighbours.flatten(1)).reshape(1, self.max_keypoints, 9)
        weight = patch / patch.sum(dim=-1, keepdim=True).clamp(min=1e-9)
        offset = weight @ around.float()
        points = torch.stack([x, y], dim=-1).float() + offset
        size = torch.stack([torch.as_tensor(width), torch.as_tensor(height)]).to(points)
        grid = (points + 0.5) / size * 2 - 1
        sampled = F.grid_sample(descriptors, grid[:, :, None], mode='bilinear', align_corners=False)
        return [points, value, F.normalize(sampled[..., 0].transpose(1, 2), dim=-1)]
