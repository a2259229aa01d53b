"""Depth losses by hand, and depth from motion on a scene whose depth is known."""

import math

import numpy as np
import pytest

torch = pytest.importorskip('torch', reason='needs the training environment: ./mt build --training')
pytest.importorskip('kornia')

from mt_training.losses.depth import berhu, gradient, l1, log_l1, scale_invariant_log  # noqa: E402
from mt_training.losses.photometric import pair_photometric, pixel_rays, reprojection_loss, warp  # noqa: E402
from mt_training.models.posenet import PoseNet  # noqa: E402

NAN = float('nan')


def stride_one(*rows):
    """Make log depth [1,1,h,w] from rows of metres, to compare with depth of the same size."""
    return torch.tensor(rows)[None, None].log()


def test_depth_losses_by_hand():
    predicted, depth = stride_one([2.0, 3.0, 4.0]), torch.tensor([[[1.0, 3.0, NAN]]])
    assert l1(predicted, depth).item() == pytest.approx(0.5)
    # errors 1 and 0, c = 0.2: (1 + 0.04) / 0.4 and 0
    assert berhu(predicted, depth).item() == pytest.approx((1.04 / 0.4) / 2)
    d = math.log(2)
    assert scale_invariant_log(predicted, depth).item() == pytest.approx(d**2 / 2 - 0.5 * (d / 2) ** 2)
    root = scale_invariant_log(predicted, depth, root=True, scale_weight=0.85).item()
    assert root == pytest.approx(10 * math.sqrt(d**2 / 2 - 0.85 * (d / 2) ** 2), rel=1e-5)
    # one known pair of neighbours, whose errors ln 2 and 0 differ by ln 2; no other scale has a known pair
    assert gradient(predicted, depth).item() == pytest.approx(d)


def test_scale_invariance():
    torch.manual_seed(0)
    depth = torch.rand(2, 6, 6) * 4 + 1
    predicted = depth[:, None].log() + 0.3 * torch.randn(2, 1, 6, 6)
    first = scale_invariant_log(predicted, depth, scale_weight=1.0)
    torch.testing.assert_close(scale_invariant_log(predicted + 0.7, depth, scale_weight=1.0), first)
    torch.testing.assert_close(gradient(predicted + 0.7, depth), gradient(predicted, depth))
    assert scale_invariant_log(predicted + 0.7, depth) > scale_invariant_log(predicted, depth)


@pytest.mark.parametrize('loss', [log_l1, l1, berhu, scale_invariant_log, gradient])
@pytest.mark.parametrize('stride', [1, 2, 4, 8])
def test_unknown_depth_does_not_count_at_any_stride(loss, stride):
    torch.manual_seed(0)
    depth = torch.rand(1, 32, 32) * 5 + 1
    centre = stride // 2
    exact = depth[:, None, centre::stride, centre::stride].log().requires_grad_(True)
    assert loss(exact, depth).item() == pytest.approx(0, abs=1e-5)
    half = depth.clone()
    half[:, :, 16:] = NAN
    other = (exact + 0.2 * torch.randn_like(exact)).detach().requires_grad_(True)
    loss(other, half).backward()
    columns = 16 // stride
    assert (other.grad[..., columns:] == 0).all() and (other.grad[..., :columns] != 0).any()
    assert loss(exact, torch.full_like(depth, NAN)).item() == 0


# a textured wall 2 m away, a camera that moves 0.2 m to the right: everything shifts by f · 0.2 / 2 pixels
FOCAL, WALL, BASE = 60.0, 2.0, 0.2
SHIFT = round(FOCAL * BASE / WALL)


def wall_pair(size=(32, 48), seed=0, blob=4):
    """Return (images [2,3,H,W] in 0–255 of both places, cameras [1,2,3,3], second_from_first [1,4,4])."""
    rng = np.random.default_rng(seed)
    small = torch.from_numpy(rng.uniform(0, 255, (1, 3, size[0] // blob, size[1] // blob + 4))).float()
    texture = torch.nn.functional.interpolate(small, scale_factor=blob, mode='bicubic').clamp(0, 255)[0]
    height, width = size
    images = torch.stack([texture[:, :, :width], texture[:, :, SHIFT : SHIFT + width]])
    camera = torch.tensor([[FOCAL, 0, width / 2], [0, FOCAL, height / 2], [0, 0, 1]])
    motion = torch.eye(4)
    motion[0, 3] = -BASE
    return images, camera.expand(1, 2, 3, 3), motion[None]


def test_warping_by_the_true_depth_gives_the_other_view():
    images, cameras, motion = wall_pair()
    depth = torch.full((1, 1, 32, 48), WALL)
    warped, valid = warp(images[1:], depth, cameras[:, 0], cameras[:, 1], motion)
    assert valid[0, 0, :, SHIFT:].all() and not valid[0, 0, :, : SHIFT - 1].any()
    torch.testing.assert_close(warped[..., SHIFT:], images[:1, ..., SHIFT:], atol=0.05, rtol=0)


def photometric_of(depth, **options):
    """Loss of the wall pair at one depth in metres, at twice the canonical focal length of 30 pixels."""
    images, cameras, motion = wall_pair()
    log_depth = torch.full((2, 1, 8, 12), math.log(depth * 30.0 / FOCAL))
    scale = torch.full((1, 2), FOCAL / 30.0)
    return pair_photometric(log_depth, images, cameras, scale, motion, smoothness=0, **options).item()


def test_the_true_depth_explains_the_pair_best():
    at_truth = photometric_of(WALL)
    assert at_truth < 3e-3  # not 0: SSIM windows at the edge of what both see
    assert all(photometric_of(WALL * f, auto_mask=False) > at_truth + 0.02 for f in (0.5, 0.8, 1.3, 2.0))


def test_a_change_of_brightness_does_not_matter():
    images, cameras, motion = wall_pair()
    darker = torch.stack([images[0], images[1] * 0.6 + 20])
    log_depth = torch.full((2, 1, 8, 12), math.log(WALL))
    words = (log_depth, darker, cameras, torch.ones(1, 2), motion)
    loss = [pair_photometric(*words, smoothness=0, brightness=b) for b in (True, False)]
    assert loss[0] < 0.01 < loss[1]


def test_a_still_camera_is_masked_and_the_best_source_counts():
    images, cameras, motion = wall_pair()
    target, camera = images[:1] / 255, cameras[:, 0]
    depth = torch.full((1, 1, 32, 48), WALL)
    still = (target, camera, motion)
    assert reprojection_loss(depth, target, camera, [still], smoothness=0).item() == 0
    assert reprojection_loss(depth, target, camera, [still], smoothness=0, auto_mask=False) > 0.05
    good = (images[1:] / 255, camera, motion)
    noise = (torch.rand(1, 3, 32, 48), camera, motion)
    options = {'smoothness': 0, 'auto_mask': False, 'brightness': False}
    both = reprojection_loss(depth, target, camera, [noise, good], **options)
    bad = reprojection_loss(depth, target, camera, [noise], **options)
    # right of the strip that the good source does not see, the minimum is its 0
    assert both < bad * (SHIFT + 2) / 48


def test_pairs_without_camera_or_motion_do_not_count():
    images, cameras, motion = wall_pair()
    log_depth = torch.zeros(2, 1, 8, 12, requires_grad=True)
    unknown = torch.full_like(motion, NAN)
    one = torch.ones(1, 2)
    assert pair_photometric(log_depth, images, cameras, one, unknown).item() == 0
    assert pair_photometric(log_depth, images, torch.full_like(cameras, NAN), one, motion).item() == 0
    assert pair_photometric(log_depth, images, cameras, one * NAN, motion).item() == 0
    assert pair_photometric(log_depth, images, cameras, one, motion).item() > 0


def test_the_pose_network_learns_the_motion():
    torch.manual_seed(0)
    images, cameras, _ = wall_pair(blob=16)  # wider than the shift: a search downhill finds it
    unknown = torch.full((1, 4, 4), NAN)
    pose = PoseNet(width=4)
    log_depth = torch.full((2, 1, 8, 12), math.log(WALL))
    optimizer = torch.optim.Adam(pose.parameters(), lr=2e-3)
    losses = []
    for _ in range(80):
        optimizer.zero_grad()
        loss = pair_photometric(
            log_depth,
            images,
            cameras,
            torch.ones(1, 2),
            unknown,
            'network',
            pose,
            smoothness=0,
            auto_mask=False,
        )
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.1 * losses[0]
    rays = pixel_rays(cameras[:, 0], (32, 48)).unflatten(2, (32, 48))[:, :2]
    found = pose(images[:1] / 255, images[1:] / 255, rays, rays)[0].detach()
    torch.testing.assert_close(found[:3, :3] @ found[:3, :3].T, torch.eye(3), atol=1e-5, rtol=0)
    # on a flat wall a turn looks like a step; what both must do is move the wall's middle by the shift
    x, _, z, _ = (found @ torch.tensor([0.0, 0, WALL, 1])).tolist()
    assert FOCAL * x / z == pytest.approx(-SHIFT, abs=1)
