"""
Training pairs of the matcher: keypoints of the shipped network on two views, with the true matches.

The network runs once over every pair; its keypoints are kept on disk, and the matcher learns from them
without seeing an image again.
"""

from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from mt_perception.writing import whole_file
from mt_training.data.augment import warp_points

MATCH_PIXELS = 3.0  # a pair whose reprojection error is below this is a match
MISS_PIXELS = 6.0  # a point farther than this from every point of the other image has no match


def assign(points0, points1, forward, backward):
    """
    Find the true matches.

    :param points0: [N,2] keypoints of the first view.
    :param points1: [M,2] keypoints of the second view.
    :param forward: [N,2] where ``points0`` lie in the second view; NaN = not known, inf = surely not visible.
    :param backward: [M,2] where ``points1`` lie in the first view.
    :return: (match [N] int: index, -1 = none, -2 = unknown; the same [M]).
    """

    def distances(known, points):
        with np.errstate(invalid='ignore'):
            return np.linalg.norm(known[:, None] - points[None], axis=-1)

    error = np.maximum(
        np.nan_to_num(distances(forward, points1), nan=1e6, posinf=1e6),
        np.nan_to_num(distances(backward, points0).T, nan=1e6, posinf=1e6),
    )
    match0, match1 = np.full(len(points0), -2), np.full(len(points1), -2)
    if error.size:
        best0, best1 = error.argmin(1), error.argmin(0)
        rows = np.arange(len(points0))
        mutual = (best1[best0] == rows) & (error[rows, best0] < MATCH_PIXELS)
        match0[mutual], match1[best0[mutual]] = best0[mutual], rows[mutual]
    for match, target, others in ((match0, forward, points1), (match1, backward, points0)):
        known = ~np.isnan(target).any(axis=1)
        with np.errstate(invalid='ignore'):
            near = distances(target, others).min(axis=1) if len(others) else np.full(len(target), np.inf)
        match[(match == -2) & known & ~(near < MISS_PIXELS)] = -1
    return match0, match1


def homography_targets(pair, points0, points1):
    """Where keypoints of a homography pair lie in the other view; see :func:`assign`."""
    size = np.array(pair['images'].shape[:1:-1])
    both = []
    for points, a, b in ((points0, 0, 1), (points1, 1, 0)):
        there = warp_points(pair['matrices'][b] @ np.linalg.inv(pair['matrices'][a]), points)
        there[((there < 0) | (there > size - 1)).any(axis=1)] = np.inf
        both.append(there)
    return both


def rgbd_targets(pair, points0, points1):
    """Where keypoints of an RGB-D pair lie in the other view; NaN without depth, inf where hidden."""
    frames, matrices = pair['frames'], pair['matrices']
    size = np.array(pair['images'].shape[:1:-1])
    both = []
    for points, a, b in ((points0, 0, 1), (points1, 1, 0)):
        frame, other = frames[a], frames[b]
        shape = np.array(frame['image'].shape[1::-1])
        original = warp_points(np.linalg.inv(matrices[a]), points)
        inside = ((original >= 0) & (original <= shape - 1)).all(axis=1)
        pixel = np.clip(np.floor(original + 0.5), 0, shape - 1).astype(int)
        z = np.where(inside, frame['depth'][pixel[:, 1], pixel[:, 0]], np.nan)
        rays = np.column_stack([frame['camera'].normalize(original), np.ones(len(points))])
        relative = np.linalg.inv(other['pose']) @ frame['pose']
        there = (rays * z[:, None]) @ relative[:3, :3].T + relative[:3, 3]
        target = np.full((len(points), 2), np.nan)
        ahead = there[:, 2] > 0.05
        target[ahead] = other['camera'].project(there[ahead])
        target[np.isfinite(z) & ~ahead] = np.inf
        seen = ((target >= 0) & (target <= shape - 1)).all(axis=1)
        pixel = np.where(seen[:, None], np.floor(np.nan_to_num(target, posinf=0) + 0.5), 0).astype(int)
        depth = other['depth'][np.minimum(pixel[:, 1], shape[1] - 1), np.minimum(pixel[:, 0], shape[0] - 1)]
        with np.errstate(invalid='ignore'):
            hidden = seen & (there[:, 2] > depth * 1.05)
            target[(np.isfinite(target).all(axis=1) & ~seen) | hidden] = np.inf
            target[seen & ~np.isfinite(depth)] = np.nan
        finite = np.isfinite(target).all(axis=1)
        target[finite] = warp_points(matrices[b], target[finite])
        with np.errstate(invalid='ignore'):
            target[finite & ((target < 0) | (target > size - 1)).any(axis=1)] = np.inf
        both.append(target)
    return both


def make_bank(deployed, samplers, weights, count, keypoints, path, seed):
    """
    Run the network over pairs and keep keypoints, descriptors and true matches.

    :param deployed: :class:`mt_training.deploy.DeployedNet`.
    :param samplers: dict name → HomographyPairs or RgbdPairs.
    :param weights: dict name → part of the pairs.
    :param count: number of pairs.
    :param keypoints: keypoints per view.
    :param path: archive to write; loaded instead where it exists.
    :return: dict of arrays ``xy`` [P,2,N,2], ``scores`` [P,2,N], ``descriptors`` [P,2,N,D] float16, ``match``
        [P,2,N], ``size`` [P,2].
    """
    path = Path(path)
    if not path.is_file():
        rng = np.random.default_rng(seed)
        names = list(weights)
        part = np.array([weights[n] for n in names], float)
        store = {'xy': [], 'scores': [], 'descriptors': [], 'match': [], 'size': []}
        for _ in tqdm(range(count), desc='pairs for the matcher', unit='pair'):
            name = names[int(rng.choice(len(names), p=part / part.sum()))]
            pair = samplers[name].sample(rng, geometry=True)
            views = []
            for image in pair['images']:
                with torch.inference_mode():
                    out = deployed(torch.from_numpy(np.ascontiguousarray(image.transpose(1, 2, 0)))[None])
                result = dict(zip(deployed.output_names(), out, strict=True))
                views.append(
                    [result[k][0, :keypoints].numpy() for k in ('keypoints', 'scores', 'descriptors')]
                )
            targets = rgbd_targets if 'frames' in pair else homography_targets
            forward, backward = targets(pair, views[0][0], views[1][0])
            match = assign(views[0][0], views[1][0], forward, backward)
            store['xy'].append([v[0] for v in views])
            store['scores'].append([v[1] for v in views])
            store['descriptors'].append([v[2].astype(np.float16) for v in views])
            store['match'].append(match)
            store['size'].append(pair['images'].shape[:1:-1])
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(path) as beside, open(beside, 'wb') as file:
            np.savez(file, **{k: np.array(v) for k, v in store.items()})
    with np.load(path) as data:
        return {k: data[k] for k in data.files}


class BankPairs(torch.utils.data.Dataset):
    """
    Batches of pairs from a bank; every batch draws other points, so no two epochs are the same.

    :param bank: see :func:`make_bank`.
    :param indices: pairs to use.
    :param points: at most this many points per view are drawn.
    """

    def __init__(self, bank, indices, batch, points, seed):
        """Keep the arrays."""
        self.bank, self.indices, self.batch, self.points = bank, indices, batch, points
        self.seed = seed

    def __getitem__(self, number):
        """Draw batch ``number`` of the run."""
        rng = np.random.default_rng((self.seed, number))
        rows = rng.choice(self.indices, self.batch)
        keep = int(rng.integers(self.points // 2, self.points + 1))
        out = {k: [] for k in ('xy', 'descriptors', 'valid', 'match')}
        for row in rows:
            total = self.bank['scores'].shape[-1]
            # a random part of the points, more of the strong ones, in random order
            chosen = [rng.permutation(min(total, int(keep * rng.uniform(1, 2))))[:keep] for _ in range(2)]
            chosen = [np.resize(c, keep) if len(c) < keep else c for c in chosen]
            valid = [self.bank['scores'][row, v][chosen[v]] > 0 for v in range(2)]
            for v in range(2):
                valid[v] &= np.isin(np.arange(keep), np.unique(chosen[v], return_index=True)[1])
            matches = []
            for v in range(2):
                position = np.full(total, -1)
                order = np.flatnonzero(valid[1 - v])
                position[chosen[1 - v][order]] = order
                match = self.bank['match'][row, v][chosen[v]]
                there = np.where(match >= 0, position[np.maximum(match, 0)], match)
                matches.append(np.where(valid[v], there, -2))
            out['xy'].append([self.bank['xy'][row, v][chosen[v]] for v in range(2)])
            out['descriptors'].append([self.bank['descriptors'][row, v][chosen[v]] for v in range(2)])
            out['valid'].append(valid)
            out['match'].append(matches)
        batch = {k: torch.from_numpy(np.array(v)) for k, v in out.items()}
        batch['descriptors'] = batch['descriptors'].float()
        batch['size'] = torch.from_numpy(self.bank['size'][rows].astype(np.float32))
        return batch
