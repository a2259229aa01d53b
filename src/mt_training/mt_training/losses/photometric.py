"""
Depth from motion: a view must look like another one warped into it with its depth and the camera's motion.

Godard et al., "Digging Into Self-Supervised Monocular Depth Estimation" (Monodepth2), 2019, for SSIM + L1,
the minimum over the sources and auto-masking.
"""

import torch
import torch.nn.functional as F
from kornia.losses import inverse_depth_smoothness_loss
from kornia.metrics import ssim

SSIM_WINDOW = 3  # pixels


def pixel_rays(camera, size):
    """
    Return the ray of each pixel, third coordinate 1.

    :param camera: [B,3,3] normalised camera coordinates → pixels; may hold a rotation of the image.
    :param size: (height, width).
    :return: [B,3,H·W].
    """
    height, width = size
    y, x = torch.meshgrid(
        torch.arange(height, dtype=camera.dtype, device=camera.device),
        torch.arange(width, dtype=camera.dtype, device=camera.device),
        indexing='ij',
    )
    pixels = torch.stack([x, y, torch.ones_like(x)]).flatten(1)
    return torch.linalg.solve(camera, pixels.expand(len(camera), 3, -1))


def warp(source, depth, camera, source_camera, source_from_target):
    """
    Fetch for each pixel of the target what the source shows of the same surface point.

    :param source: [B,C,H,W].
    :param depth: [B,1,H,W] metres along the target camera's Z.
    :param camera: [B,3,3] of the target, :param source_camera: of the source; pixels.
    :param source_from_target: [B,4,4], target camera → source camera, metres.
    :return: (warped [B,C,H,W], valid [B,1,H,W] bool: the point is before the source camera and inside its
        image).
    """
    batch, _, height, width = depth.shape
    points = pixel_rays(camera, (height, width)) * depth.flatten(1)[:, None]
    points = source_from_target[:, :3, :3] @ points + source_from_target[:, :3, 3:]
    projected = source_camera @ points
    z = projected[:, 2]
    pixels = projected[:, :2] / z.clamp(min=1e-3)[:, None]
    size = pixels.new_tensor([width, height])[:, None]
    inside = ((pixels >= 0) & (pixels <= size - 1)).all(1) & (z > 1e-3)
    grid = ((pixels + 0.5) / size * 2 - 1).transpose(1, 2).reshape(batch, height, width, 2)
    warped = F.grid_sample(source, grid, mode='bilinear', padding_mode='border', align_corners=False)
    return warped, inside.reshape(batch, 1, height, width)


def match_brightness(image, target, valid):
    """Give ``image`` the mean and deviation per channel of ``target``, both where ``valid``; [B,·,H,W]."""
    count = valid.sum((2, 3), keepdim=True).clamp(min=1)

    def moments(x):
        mean = (x * valid).sum((2, 3), keepdim=True) / count
        return mean, (((x - mean) ** 2 * valid).sum((2, 3), keepdim=True) / count + 1e-4).sqrt()

    with torch.no_grad():
        (mean, deviation), (target_mean, target_deviation) = moments(image), moments(target)
    return (image - mean) * (target_deviation / deviation) + target_mean


def photometric_error(first, second, ssim_weight=0.85):
    """
    α (1 − SSIM) / 2 + (1 − α) |difference| of each pixel, averaged over the channels (eq. 2 there).

    :param first: [B,3,H,W] in 0–1, like :param second:.
    :return: [B,1,H,W].
    """
    difference = (first - second).abs()
    dissimilar = ((1 - ssim(first, second, SSIM_WINDOW, max_val=1.0)) / 2).clamp(0, 1)
    return (ssim_weight * dissimilar + (1 - ssim_weight) * difference).mean(1, keepdim=True)


def reprojection_loss(
    depth,
    target,
    camera,
    sources,
    ssim_weight=0.85,
    auto_mask=True,
    brightness=True,
    smoothness=1e-3,
):
    """
    Mean over the pixels of the smallest photometric error among the sources, plus edge-aware smoothness.

    :param depth: [B,1,H,W] metres.
    :param target: [B,3,H,W] in 0–1.
    :param camera: [B,3,3] of the target.
    :param sources: list of (image [B,3,H,W], camera [B,3,3], source_from_target [B,4,4]).
    :param ssim_weight: α of :func:`photometric_error`.
    :param auto_mask: leave out pixels that fit a source better unwarped: nothing moved there (eq. 5).
    :param brightness: make up for a change of brightness and contrast before comparing.
    :param smoothness: weight of the smoothness of inverse depth over its mean (eq. 3).
    :return: scalar.
    """
    errors, still = [], []
    for image, source_camera, motion in sources:
        warped, valid = warp(image, depth, camera, source_camera, motion)
        if brightness:
            warped = match_brightness(warped, target, valid)
            image = match_brightness(image, target, torch.ones_like(valid))
        error = photometric_error(warped, target, ssim_weight)
        errors.append(error.masked_fill(~valid, torch.inf))
        if auto_mask:
            still.append(photometric_error(image, target, ssim_weight).detach())
    smallest = torch.cat(errors, 1).amin(1, keepdim=True)
    counts = torch.isfinite(smallest)
    if auto_mask:
        counts = counts & (smallest < torch.cat(still, 1).amin(1, keepdim=True))
    loss = depth.sum() * 0
    if bool(counts.any()):
        loss = loss + smallest[counts].mean()
    if smoothness:
        inverse = 1 / depth
        inverse = inverse / inverse.mean((2, 3), keepdim=True)
        loss = loss + smoothness * inverse_depth_smoothness_loss(inverse, target)
    return loss


def pair_photometric(
    log_depth, images, intrinsics, depth_scale, relative_pose, pose=None, estimate=None, **options
):
    """
    Reprojection loss of pairs of views, each warped into the other.

    :param log_depth: [2B,1,h,w] log metres at the canonical focal length, first views first.
    :param images: [2B,3,H,W] RGB in 0–255.
    :param intrinsics: [B,2,3,3] normalised camera coordinates → pixels of the views; may hold a roll.
        NaN: this pair does not count.
    :param depth_scale: [B,2] metres per metre at the canonical focal length; NaN: this pair does not count.
    :param relative_pose: [B,4,4] first camera → second in metres; NaN: unknown, and the pair counts only
        where the pose is learnt.
    :param pose: ``network`` to learn unknown motion; None: such pairs do not count.
    :param estimate: the pose network, (images, images, rays, rays) → [B,4,4].
    :param options: of :func:`reprojection_loss`.
    :return: scalar; 0 when no pair counts.
    """
    size = len(intrinsics)
    moved = torch.isfinite(relative_pose).flatten(1).all(1)
    seen = torch.isfinite(intrinsics).flatten(1).all(1) & torch.isfinite(depth_scale).all(1)
    rows = seen & (moved | (pose == 'network'))
    if not bool(rows.any()):
        return log_depth.sum() * 0
    log_depth = F.interpolate(log_depth, size=images.shape[-2:], mode='bilinear', align_corners=False)
    views = [images[:size][rows] / 255, images[size:][rows] / 255]
    cameras = [intrinsics[rows, 0], intrinsics[rows, 1]]
    depths = [
        part[rows].exp() * depth_scale[rows, i, None, None, None]
        for i, part in enumerate((log_depth[:size], log_depth[size:]))
    ]
    motion = relative_pose[rows]
    if not bool(moved[rows].all()):
        rays = [pixel_rays(c, images.shape[-2:]).unflatten(2, images.shape[-2:])[:, :2] for c in cameras]
        motion = torch.where(moved[rows][:, None, None], motion.nan_to_num(), estimate(*views, *rays))
    there = reprojection_loss(depths[0], views[0], cameras[0], [(views[1], cameras[1], motion)], **options)
    back = torch.linalg.inv(motion)
    back = reprojection_loss(depths[1], views[1], cameras[1], [(views[0], cameras[0], back)], **options)
    return (there + back) / 2
