"""
Distillation: a head of the student learns what a teacher says about the same views.

The student's outputs are those of ``models``; a teacher's (``losses.teachers``) are either of the same
form or those of an exported model: class ids, depth, a list of keypoints.
"""

import torch
import torch.nn.functional as F

from mt_training.losses.keypoints import sample_descriptors

CELL = 4  # pixels
NONE = CELL * CELL  # class of a cell without keypoint


def soft_segmentation(logits, teacher, temperature=2.0):
    """
    KL divergence of softened class probabilities × T², mean over the places of the finer map.

    Hinton et al., "Distilling the Knowledge in a Neural Network", 2015, section 2.

    :param logits: [B,C,h,w], :param teacher: [B,C,H,W] logits of any size.
    :param temperature: T.
    """
    size = max(logits.shape[-2:], teacher.shape[-2:])
    logits, teacher = (
        x if x.shape[-2:] == size else F.interpolate(x, size=size, mode='bilinear', align_corners=False)
        for x in (logits, teacher)
    )
    student, target = ((x / temperature).log_softmax(1) for x in (logits, teacher))
    return F.kl_div(student, target, log_target=True, reduction='none').sum(1).mean() * temperature**2


def hard_segmentation(logits, ids, confidence=None, ignore_index=255):
    """
    Cross entropy with a teacher's class ids, each pixel counting as much as the teacher is sure.

    :param logits: [B,C,h,w]. :param ids: [B,H,W]. :param confidence: [B,H,W] in 0–1, or None for 1.
    """
    logits = F.interpolate(logits, size=ids.shape[-2:], mode='bilinear', align_corners=False)
    weight = (ids != ignore_index).to(logits.dtype)
    if confidence is not None:
        weight = weight * confidence
    loss = F.cross_entropy(logits, ids.long(), ignore_index=ignore_index, reduction='none')
    return (loss * weight).sum() / weight.sum().clamp(min=1e-6)


def log_depth_l1(log_depth, teacher, confidence=None, relative=False):
    """
    Mean absolute difference of log depth, weighted by the teacher's confidence.

    :param log_depth: [B,1,h,w]. :param teacher: [B,1,H,W] log metres, NaN = unknown.
    :param confidence: [B,1,H,W] in 0–1, or None for 1.
    :param relative: the teacher knows depth up to a scale: each image's median difference does not count.
    """
    known = torch.isfinite(teacher)
    weight = known.to(log_depth.dtype) if confidence is None else known * confidence
    size = log_depth.shape[-2:]
    if teacher.shape[-2:] != size:
        target = F.interpolate(teacher.nan_to_num() * known, size=size, mode='area')
        share = F.interpolate(known.to(log_depth.dtype), size=size, mode='area')
        target = torch.where(share > 0, target / share.clamp(min=1e-6), torch.nan)
        weight = F.interpolate(weight, size=size, mode='area')
        known = share > 0
    else:
        target = teacher
    if not bool(known.any()):
        return log_depth.sum() * 0
    error = log_depth - torch.where(known, target, torch.zeros_like(target))
    if relative:
        hidden = torch.where(known, error.detach(), torch.nan)
        error = error - hidden.flatten(1).nanmedian(1).values.nan_to_num()[:, None, None, None]
    return (error.abs() * weight * known).sum() / (weight * known).sum().clamp(min=1e-6)


def keypoint_logits(logits, teacher, temperature=1.0):
    """KL divergence between the cell distributions [B,17,h,w] of student and teacher, × T²."""
    student, target = ((x / temperature).log_softmax(1) for x in (logits, teacher))
    return F.kl_div(student, target, log_target=True, reduction='none').sum(1).mean() * temperature**2


def keypoint_scores(scores, teacher):
    """
    Binary cross entropy of score maps [B,1,h,w] in 0–1 with a teacher's.

    A teacher's map of finer stride is pooled by its maximum first: its best point within the student's cell.
    """
    if teacher.shape[-2:] != scores.shape[-2:]:
        teacher = F.adaptive_max_pool2d(teacher, scores.shape[-2:])
    scores = scores.float().clamp(1e-6, 1 - 1e-6)
    return F.binary_cross_entropy(scores, teacher.float().clamp(0, 1))


def points_to_cells(points, scores, size):
    """
    Turn a teacher's keypoints into cell classes, the strongest of a cell winning.

    :param points: [B,K,2] pixels. :param scores: [B,K], 0 = padding.
    :param size: (height, width) of the image, multiples of 4.
    :return: [B,H/4,W/4] int64, row-major pixel of the cell, 16 = none.
    """
    height, width = size
    pixel = (points + 0.5).floor().long()
    inside = (pixel >= 0).all(2) & (pixel[..., 0] < width) & (pixel[..., 1] < height) & (scores > 0)
    cells = torch.full((len(points), height // CELL, width // CELL), NONE, device=points.device)
    for b in range(len(points)):
        order = scores[b][inside[b]].argsort(stable=True)
        x, y = pixel[b][inside[b]][order].T
        # one assignment per cell: of repeated indices the last must win on every device
        flat, value = (y // CELL) * (width // CELL) + x // CELL, (y % CELL) * CELL + x % CELL
        last = torch.zeros(cells[b].numel(), dtype=torch.long, device=points.device) - 1
        last.scatter_reduce_(0, flat, torch.arange(len(flat), device=points.device), 'amax')
        taken = last >= 0
        cells[b].view(-1)[taken] = value[last[taken]]
    return cells


def keypoint_cells(logits, points, scores, size):
    """Cross entropy of cell logits [B,17,h,w] with a teacher's list of keypoints; see points_to_cells."""
    return F.cross_entropy(logits, points_to_cells(points, scores, size))


def relation(student, teacher, valid=None):
    """
    Mean squared difference of the cosine similarities among items: dimensions may differ.

    Park et al., "Relational Knowledge Distillation", 2019, with similarities as in Tung and Mori, 2019.

    :param student: [B,N,D]. :param teacher: [B,N,E]. :param valid: [B,N] bool or None.
    :return: scalar, over pairs of different items.
    """
    student, teacher = F.normalize(student, dim=-1), F.normalize(teacher, dim=-1)
    error = (student @ student.transpose(1, 2) - teacher @ teacher.transpose(1, 2)).square()
    pairs = ~torch.eye(student.shape[1], dtype=torch.bool, device=student.device)[None]
    if valid is not None:
        pairs = pairs & valid[:, :, None] & valid[:, None]
    pairs = pairs.expand_as(error)
    return (error * pairs).sum() / pairs.sum().clamp(min=1)


def descriptors(student_map, points, teacher, valid=None, stride=4):
    """
    Relation of the descriptors at points, and their cosine distance where the dimensions agree.

    :param student_map: [B,D,H/s,W/s]. :param points: [B,P,2] pixels.
    :param teacher: [B,P,E] the teacher's descriptors there. :param valid: [B,P] bool or None.
    :param stride: s of the student's map.
    """
    student = sample_descriptors(student_map, points, stride)
    loss = relation(student, teacher, valid)
    if student.shape[-1] == teacher.shape[-1]:
        distance = 1 - (student * F.normalize(teacher, dim=-1)).sum(-1)
        weight = torch.ones_like(distance) if valid is None else valid.to(distance.dtype)
        loss = loss + (distance * weight).sum() / weight.sum().clamp(min=1)
    return loss


def place(student, teacher):
    """
    Relation of the place descriptors of a batch, and their cosine distance where the dimensions agree.

    :param student: [B,G]. :param teacher: [B,F].
    """
    loss = relation(student[None], teacher[None])
    if student.shape[1] == teacher.shape[1]:
        loss = loss + (1 - F.cosine_similarity(student, teacher)).mean()
    return loss


def distillation_losses(out, taught, size, options):
    """
    Return the losses of all heads that both have.

    :param out: outputs of the student for views [B,3,H,W].
    :param taught: the teacher's: ``segmentation`` logits or ``segmentation_ids`` (+
        ``segmentation_confidence``); ``log_depth`` (+ ``depth_confidence``); ``keypoints`` cell logits,
        ``keypoint_scores``, or ``points`` and ``scores``; ``descriptors`` map or ``point_descriptors`` at
        ``points``; ``global_descriptor``.
    :param size: (height, width) of the views.
    :param options: ``temperature``, ``relative_depth``.
    :return: dict ``segmentation``, ``depth``, ``keypoints``, ``descriptors``, ``place`` → scalar.
    """
    losses = {}
    temperature = options.get('temperature', 2.0)
    if 'segmentation' in out and 'segmentation' in taught:
        losses['segmentation'] = soft_segmentation(out['segmentation'], taught['segmentation'], temperature)
    elif 'segmentation' in out and 'segmentation_ids' in taught:
        losses['segmentation'] = hard_segmentation(
            out['segmentation'], taught['segmentation_ids'], taught.get('segmentation_confidence')
        )
    if 'log_depth' in out and 'log_depth' in taught:
        losses['depth'] = log_depth_l1(
            out['log_depth'],
            taught['log_depth'],
            taught.get('depth_confidence'),
            options.get('relative_depth', False),
        )
    if 'keypoints' in out and 'keypoints' in taught:
        losses['keypoints'] = keypoint_logits(out['keypoints'], taught['keypoints'], temperature)
    elif 'keypoints' in out and 'points' in taught:
        losses['keypoints'] = keypoint_cells(out['keypoints'], taught['points'], taught['scores'], size)
    elif 'keypoint_scores' in out and 'points' in taught:
        fine = points_to_cells(taught['points'], taught['scores'], size) != NONE
        losses['keypoints'] = keypoint_scores(out['keypoint_scores'], fine[:, None].float())
    elif 'keypoint_scores' in out and 'keypoint_scores' in taught:
        losses['keypoints'] = keypoint_scores(out['keypoint_scores'], taught['keypoint_scores'])
    if 'descriptors' in out and ('point_descriptors' in taught or 'descriptors' in taught):
        stride = size[1] // out['descriptors'].shape[-1]
        if 'point_descriptors' in taught:
            points, target, valid = taught['points'], taught['point_descriptors'], taught['scores'] > 0
        else:
            points, valid = _grid(size, out['descriptors']), None
            own = size[1] // taught['descriptors'].shape[-1]
            target = sample_descriptors(taught['descriptors'], points, own)
        losses['descriptors'] = descriptors(out['descriptors'], points, target, valid, stride)
    if 'global_descriptor' in out and 'global_descriptor' in taught:
        losses['place'] = place(out['global_descriptor'], taught['global_descriptor'])
    return losses


def _grid(size, like, count=16):
    """Return a regular grid of pixels [B,count²,2] for the B rows of ``like``."""
    height, width = size
    y, x = torch.meshgrid(
        torch.linspace(4, height - 5, count, device=like.device),
        torch.linspace(4, width - 5, count, device=like.device),
        indexing='ij',
    )
    return torch.stack([x, y], -1).reshape(1, -1, 2).expand(len(like), -1, -1)
