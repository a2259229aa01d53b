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
from mt_training.models.network import TASKS

AROUND = (0.8, 1.0, 0.8)  # along x and y; a pixel counts more than its neighbours, so that maxima are single
REACH = 2  # pixels around a keypoint whose scores say where exactly it is
NMS_SIZE = 5  # pixels; a keypoint is the maximum of the window of this size around it
NMS_RADIUS = 4.0  # pixels; of two points of different cells closer than this, the weaker goes
NMS_CELLS = 2  # cells; how far a cell looks for stronger points: offsets may leave the cell
BORDER = 4  # pixels along the image's edge without keypoints


def exponentials(logits):
    """
    Return exp(logits − largest logit) over the channels: [B,C,h,w].

    Divided by its sum it is the softmax, whose own operator rearranges the whole map, on the CPU at several
    times the cost.
    """
    return (logits - logits.amax(dim=1, keepdim=True)).exp()


class DeployedNet(nn.Module):
    """
    A multi-task network with its post-processing.

    :param net: network, see :mod:`mt_training.models`.
    :param max_keypoints: K.
    :param tasks: which outputs the graph has, as far as the network does these tasks.
    """

    def __init__(self, net, max_keypoints=1024, tasks=TASKS):
        """Wrap ``net`` (switched to evaluation mode)."""
        super().__init__()
        self.net, self.max_keypoints = net, max_keypoints
        self.tasks = tuple(task for task in tasks if task in net.tasks)
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
            result += self.segmentation(out['segmentation'], self.stride(image, out['segmentation']))
        if 'depth' in self.tasks:
            depth = out['log_depth']
            result.append(upsample(depth, self.stride(image, depth)).exp()[:, 0])
        if 'keypoints' in out:
            result += self.keypoints(out['keypoints'], out['descriptors'])
        elif 'keypoints' in self.tasks:
            scores, offsets = out['keypoint_scores'], out['keypoint_offsets']
            result += self.cell_keypoints(scores, offsets, out['descriptors'], self.stride(image, scores))
        if 'global_descriptor' in self.tasks:
            result.append(out['global_descriptor'])
        return tuple(result)

    @staticmethod
    def stride(image, values):
        """Return the stride of a map [1,C,h,w] of an image [1,H,W,3]: a number, not part of the graph."""
        return int(image.shape[2]) // int(values.shape[3])

    @staticmethod
    def segmentation(logits, stride=CELL):
        """Logits [1,C,h,w] → class ids and confidence × 255, both uint8 [1,stride·h,stride·w]."""
        confidence = upsample(exponentials(logits).sum(dim=1, keepdim=True).reciprocal(), stride)
        classes = upsample(logits, stride).argmax(dim=1)
        return [classes.float().to(torch.uint8), (confidence[:, 0] * 255).round().to(torch.uint8)]

    def keypoints(self, logits, descriptors):
        """
        Cell logits [1,17,h,w] and descriptors [1,D,h,w] → pixels [1,K,2], scores [1,K], descriptors [1,K,D].

        A cell is sooner sure that there is a point than where, and two cells may share one. So the score is
        a sum over 3×3 pixels with the weights ``AROUND``, about the probability of a point within a pixel of
        here; its maxima are found again more often than those of single pixels. The position is the centre
        of mass of the 5×5 single-pixel scores around the maximum.
        """
        weights = exponentials(logits)
        single = F.pixel_shuffle((weights / weights.sum(dim=1, keepdim=True))[:, :-1], CELL)
        weight = single.new_tensor(AROUND)
        scores = F.conv2d(single, (weight[:, None] * weight)[None, None], padding=1)
        height, width = scores.shape[-2], scores.shape[-1]
        peak = F.max_pool2d(scores, NMS_SIZE, 1, NMS_SIZE // 2)
        inner = F.pad(torch.ones_like(scores[..., BORDER:-BORDER, BORDER:-BORDER]), (BORDER,) * 4)
        kept = torch.where(scores == peak, scores, torch.zeros_like(scores)) * inner
        value, index = kept.flatten(1).topk(self.max_keypoints, dim=1, sorted=True)
        index = torch.where(value > 0, index, torch.full_like(index, REACH) * (width + 1))
        y, x = index // width, index % width
        steps = range(-REACH, REACH + 1)
        around = torch.tensor([[dx, dy] for dy in steps for dx in steps], device=scores.device)
        neighbours = index[..., None] + around[:, 1] * width + around[:, 0]
        patch = torch.gather(single.flatten(1), 1, neighbours.flatten(1))
        patch = patch.reshape(1, self.max_keypoints, len(around))
        weight = patch / patch.sum(dim=-1, keepdim=True).clamp(min=1e-9)
        offset = weight @ around.float()
        points = torch.stack([x, y], dim=-1).float() + offset
        return [points, value.clamp(max=1), self.sample(descriptors, points, width, height)]

    @staticmethod
    def sample(descriptors, points, width, height):
        """Sample [1,D,h,w] at pixels [1,K,2] of an image of width × height: [1,K,D] unit length."""
        size = torch.stack([torch.as_tensor(width), torch.as_tensor(height)]).to(points)
        grid = (points + 0.5) / size * 2 - 1
        sampled = F.grid_sample(descriptors, grid[:, :, None], mode='bilinear', align_corners=False)
        return F.normalize(sampled[..., 0].transpose(1, 2), dim=-1)

    def cell_keypoints(self, scores, offsets, descriptors, cell):
        """
        One point per cell [1,1,h,w] with offsets [1,2,h,w] → as :meth:`keypoints`.

        :param cell: pixels per cell.
        """
        height, width = scores.shape[-2], scores.shape[-1]
        x = torch.arange(width, device=scores.device).to(scores) * torch.ones_like(scores)
        y = torch.arange(height, device=scores.device).to(scores)[:, None] * torch.ones_like(scores)
        points = torch.cat([x, y], dim=1) * cell + (cell - 1) / 2 + offsets
        limit = torch.stack([torch.as_tensor(width), torch.as_tensor(height)]).to(points) * cell - 1 - BORDER
        inner = ((points >= BORDER) & (points <= limit[None, :, None, None])).all(dim=1, keepdim=True)
        kept = torch.where(inner & ~self.suppressed(scores, points), scores, torch.zeros_like(scores))
        # as many zeros as K, so that there are K to take however small the image
        value, index = F.pad(kept.flatten(1), (0, self.max_keypoints)).topk(self.max_keypoints, dim=1)
        index = torch.where(value > 0, index, torch.zeros_like(index))
        points = points.flatten(2).transpose(1, 2)
        points = torch.gather(points, 1, index[..., None].expand(-1, -1, 2))
        return [points, value, self.sample(descriptors, points, width * cell, height * cell)]

    @staticmethod
    def suppressed(scores, points):
        """Non-maximum suppression: which cells [1,1,h,w] have a stronger point within ``NMS_RADIUS``."""
        reach, size = NMS_CELLS, 2 * NMS_CELLS + 1
        around = F.pad(torch.cat([scores, points], dim=1), (reach,) * 4, value=-1e4)
        weaker = torch.zeros_like(scores, dtype=torch.bool)
        for shift in range(size * size):
            dy, dx = divmod(shift, size)
            if dy == dx == reach:
                continue
            # the end counts from the back: the graph does not depend on the size
            other = around[:, :, dy : dy - size + 1 or None, dx : dx - size + 1 or None]
            near = (other[:, 1:] - points).square().sum(dim=1, keepdim=True) < NMS_RADIUS**2
            # of equal ones the first stays
            stronger = other[:, :1] >= scores if shift < size * size // 2 else other[:, :1] > scores
            weaker = weaker | (near & stronger)
        return weaker
