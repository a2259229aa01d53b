"""
The training sets of an experiment, by name, and the batches drawn from them.

A set is built from its section of the experiment's YAML; see ``configs/mtnet_small.yaml``. ``kind: dataset``
takes any set of the registry by name; see ``configs/example_datasets.yaml``.
"""

from pathlib import Path

import cv2
import numpy as np
import torch

from mt_perception.errors import MtError
from mt_training.data.class_map import normalise
from mt_training.data.datasets_file import Datasets
from mt_training.data.frames import cached_frames
from mt_training.data.motion_depth import WithMotionDepth
from mt_training.data.pairs import HomographyPairs, PlacePairs, RgbdPairs
from mt_training.data.registry_sets import build_set, build_validation
from mt_training.data.segments import fill_segments
from mt_training.data.teacher_keypoints import cache_path, label_frames, label_images, load_keypoints
from mt_training.distributed import rank, share, world_size


def open_folder(root):
    """Open a sequence folder (imported late: sets without one need no sequence reader)."""
    from mt_perception.sequences import open_sequence

    return open_sequence(root)


def _render(scene, seed, length, options):
    from mt_perception.sequences.rendered import RenderedSequence

    return RenderedSequence(scene=scene, seed=seed, frames=length, width=512, height=384, **options)


IMAGE_TYPES = ('.jpg', '.jpeg', '.png')


def read_rgb(path):
    """Read an image as [H,W,3] uint8 RGB."""
    image = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if image is None:
        raise MtError(f'cannot read the image {path}')
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def list_images(folder):
    """List the images of a folder in name order."""
    folder = Path(folder)
    if not folder.is_dir():
        raise MtError(f'{folder} is not a folder; give the data root with --data')
    return sorted(p for p in folder.iterdir() if p.suffix.lower() in IMAGE_TYPES)


class SetBuilder:
    """
    Makes samplers out of configuration sections.

    :param data: root folder of the data sets.
    :param cache: folder for teacher keypoints and shrunk frames.
    :param teacher: weights of the keypoint teacher; not needed where ``teacher_every`` is 0.
    :param size: (width, height) of the dense views.
    :param focal: canonical focal length in pixels.
    :param classes: class names of the experiment; needed by ``kind: dataset`` with segmentation.
    :param datasets: a ``datasets.yaml``; None: the one of the environment or the current folder.
    """

    def __init__(self, data, cache, teacher, size, focal, classes=None, datasets=None):
        """Keep where things are."""
        self.data, self.cache, self.teacher = None if data is None else Path(data), Path(cache), teacher
        self.size, self.focal, self.datasets_path = tuple(size), focal, datasets
        self.classes, self._datasets = None if classes is None else list(classes), None
        self.sky = 0  # CamVid's
        if self.classes is not None:
            names = [normalise(name) for name in self.classes]
            self.sky = names.index('sky') if 'sky' in names else None

    @property
    def datasets(self):
        """The user's data sets, read when one is asked for."""
        if self._datasets is None:
            self._datasets = Datasets(self.datasets_path)
        return self._datasets

    def build(self, section):
        """Return the sampler described by ``section`` (its key ``kind`` names the method)."""
        kind = section['kind']
        kinds = (
            'dataset',
            'labelled_images',
            'images',
            'rgbd',
            'drive',
            'rendered',
            'place_folders',
            'place_sequence',
        )
        maker = getattr(self, f'_{kind}', None) if kind in kinds else None
        if maker is None:
            raise MtError(f"unknown kind of set '{kind}'; known: {', '.join(kinds)}")
        if kind not in ('dataset', 'rendered') and self.data is None:
            raise MtError(f"a set of kind '{kind}' is found below the data root; give it with --data")
        return maker(section)

    def _keypoints(self, paths, every):
        if not every:
            return [None] * len(paths)
        label_images(paths[::every], self.teacher, self.cache / 'teacher', max_size=800)
        return [
            load_keypoints(self.cache / 'teacher', p)
            if cache_path(self.cache / 'teacher', p).is_file()
            else None
            for p in paths
        ]

    def _labelled_images(self, section):
        """Images with class ids: ``root/images``, ``root/labels`` of the same stem."""
        root = self.data / section['root']
        paths = list_images(root / 'images')
        labels = []
        for path in paths:
            label = cv2.imread(str(root / 'labels' / f'{path.stem}.png'), cv2.IMREAD_UNCHANGED)
            if label is None:
                raise MtError(f'no label image for {path}')
            labels.append(np.where(label >= section['classes'], 255, label).astype(np.uint8))
        keypoints = self._keypoints(paths, section['teacher_every'])
        return self._homography_pairs(paths, labels, keypoints, section)

    def _images(self, section):
        """Images without labels: every ``every``-th of ``root``."""
        paths = list_images(self.data / section['root'])[:: section['every']]
        keypoints = self._keypoints(paths, section['teacher_every'])
        return self._homography_pairs(paths, None, keypoints, section)

    def _homography_pairs(self, paths, labels, keypoints, section):
        return HomographyPairs(
            [read_rgb(p) for p in paths],
            labels,
            keypoints,
            self.size,
            tuple(section['scale']),
            section['second'],
            self.sky,
            section.get('blur', 1.4),
        )

    def _rgbd(self, section):
        """Frames ``frames: [first, last, step]`` of an RGB-D sequence folder."""
        root = self.data / section['root']
        indices = range(*section['frames'])
        frames = cached_frames(section['root'], lambda: open_folder(root), indices, self.cache)
        paths = sorted(root.glob('*.color.*'))
        every = section['teacher_every']
        if every:
            label_images(
                [paths[i] for i in indices][::every], self.teacher, self.cache / 'teacher', max_size=800
            )
        for frame in frames:
            index = indices[frame['index']]
            kept = cache_path(self.cache / 'teacher', paths[index])
            if kept.is_file():
                xy, scores = load_keypoints(self.cache / 'teacher', paths[index])
                ratio = frame['image'].shape[1] / 640
                frame['keypoints'] = ((xy + 0.5) * ratio - 0.5, scores)
        gap = max(1, section['gap'] // section['frames'][2])
        return self._rgbd_pairs(frames, section, gap)

    def _drive(self, section):
        """Frames ``frames: [first, last, step]`` of a drive with poses; its motion gives their depth."""
        root = self.data / section['root']
        frames = cached_frames(
            f'{section["root"]} by its motion',
            lambda: WithMotionDepth(open_folder(root)),
            range(*section['frames']),
            self.cache,
            section['width'],
        )
        return self._rgbd_pairs(frames, section, max(1, section['gap'] // section['frames'][2]))

    def _rendered(self, section):
        """Frames of the project's own rendered worlds, one group per seed; ``options: {moving: true}``."""
        frames, options = [], section.get('options', {})
        every = section['teacher_every']
        for scene, seeds in section['worlds'].items():
            for seed in range(*seeds):
                name = f'rendered:{scene}:{seed}'
                name += ''.join(f':{key}={options[key]}' for key in sorted(options))
                world = cached_frames(
                    name,
                    lambda scene=scene, seed=seed: _render(scene, seed, section['length'], options),
                    range(0, section['length'], section['step']),
                    self.cache,
                )
                if every:
                    label_frames(name, world[::every], self.teacher, self.cache / 'teacher')
                frames += world
        gap = max(1, section['gap'] // section['step'])
        return self._rgbd_pairs(frames, section, gap)

    def _rgbd_pairs(self, frames, section, gap):
        return RgbdPairs(
            frames,
            self.size,
            self.focal,
            gap,
            tuple(section['scale']),
            section['roll'],
            self.sky,
            section.get('flip', False),
        )

    def _dataset(self, section):
        """Any set of the registry: ``dataset`` names it, ``datasets.yaml`` or ``root`` says where it is."""
        return build_set(self, section)

    def validation(self, section):
        """Return the images for watching a run, of a section with the key ``dataset``."""
        return build_validation(self, section)

    def _place_folders(self, section):
        """Two folders whose images of the same index (``first``:``last``) show the same place."""
        start, stop = section['places']
        lists = [list_images(self.data / folder)[start:stop] for folder in section['folders']]
        images = [[read_rgb(p) for p in paths] for paths in lists]
        pairs = [(list(two), list(two)) for two in zip(*images, strict=True)]
        return PlacePairs(pairs, tuple(section['size']), section['neighbours'], tuple(section['crop']))

    def _place_sequence(self, section):
        """Frames of one drive: those within ``positive_gap`` of each other show the same place."""
        images = [read_rgb(p) for p in list_images(self.data / section['root'])[:: section['every']]]
        width = max(section['size'][0] * 2, 256)
        images = [
            cv2.resize(i, (width, round(i.shape[0] * width / i.shape[1])), interpolation=cv2.INTER_AREA)
            for i in images
        ]
        return PlacePairs(
            [([i], [i]) for i in images],
            tuple(section['size']),
            section['neighbours'],
            tuple(section['crop']),
            positive_gap=section['positive_gap'],
        )


def stack(samples):
    """Stack equal dicts of arrays to a dict of tensors [B,…]."""
    return {key: torch.from_numpy(np.stack([s[key] for s in samples])) for key in samples[0]}


class Batches(torch.utils.data.Dataset):
    """
    The batches of a whole run: number n is the same whoever asks for it, and when.

    A batch is a dict: ``dense``, the pairs of all dense sets of the step stacked to [B,…], with ``sets``, the
    name of each pair's set; ``places``, a dict set → its pairs of images with place ids and their number,
    ``pairs``.
    With several processes each gets its rows (:func:`mt_training.distributed.share`) of the same batch, and
    ``sets`` and ``pairs`` speak of the whole.

    :param samplers: dict name → sampler.
    :param schedule: list of steps, each a list of names: batch n draws from ``schedule[n mod len]``.
    :param batch_sizes: dict name → number of pairs, of all processes together.
    :param view_sizes: list of (width, height); each batch takes one for its dense views (multi-scale
        training, see :func:`mt_training.data.augment.view_sizes`). None: the samplers' own.
    :param sample_seeds: every pair has its own stream of chance, so that a process draws only its rows;
        otherwise one stream per batch, and every process draws the whole.
    """

    def __init__(self, samplers, schedule, batch_sizes, seed, view_sizes=None, sample_seeds=False):
        """Keep the parts."""
        self.samplers, self.schedule, self.batch_sizes, self.seed = samplers, schedule, batch_sizes, seed
        self.view_sizes, self.sample_seeds = view_sizes, sample_seeds
        self.rank, self.world_size = rank(), world_size()

    def __getitem__(self, number):
        """Draw batch ``number`` of the run."""
        names = self.schedule[number % len(self.schedule)]
        sets = [n for n in names if not self.is_place(n) for _ in range(self.batch_sizes[n])]
        dense, places, slot, position = [], {}, 0, 0
        rng = np.random.default_rng((self.seed, number))
        view = self.view_sizes[int(rng.integers(len(self.view_sizes)))] if self.view_sizes else None
        for name in names:
            place = self.is_place(name)
            size = self.batch_sizes[name]
            start, stop = share(size if place else len(sets), self.rank, self.world_size)
            rows = range(start, stop) if place else range(start - position, stop - position)
            samples = self.draw(name, size, rows, rng, (number, slot), view)
            slot += size
            if place:
                places[name] = {**stack(samples), 'pairs': size}
            else:
                dense += samples
                position += size
        batch = {'places': places}
        if dense:
            batch['dense'] = {**stack(fill_segments(dense)), 'sets': sets}
        return batch

    def draw(self, name, count, rows, rng, place, size):
        """
        Draw the pairs of one set that belong to this process.

        :param rows: range of the pairs wanted of ``count``; may reach beyond them.
        :param rng: stream of the batch.
        :param place: (batch, first pair), which names the pairs' own streams.
        :param size: (width, height) of dense views, or None.
        """
        sampler, (number, slot) = self.samplers[name], place
        if hasattr(sampler, 'batch'):  # its pairs depend on one another
            own = np.random.default_rng((self.seed, number, slot)) if self.sample_seeds else rng
            return [sample for i, sample in enumerate(sampler.batch(own, count)) if i in rows]
        options = {} if self.is_place(name) else {'size': size}
        if not self.sample_seeds:
            every = [sampler.sample(rng, **options) for _ in range(count)]
            return [sample for i, sample in enumerate(every) if i in rows]
        streams = (np.random.default_rng((self.seed, number, slot + i)) for i in range(count) if i in rows)
        return [sampler.sample(stream, **options) for stream in streams]

    def is_place(self, name):
        """Tell whether only the place descriptor learns from a set."""
        return getattr(self.samplers[name], 'only_places', False)


class EpochNumbers(torch.utils.data.Sampler):
    """
    The numbers of the batches of the current epoch; the trainer calls :meth:`set_epoch`.

    :param steps: batches per epoch.
    :param checkpoint: path of the checkpoint the run goes on from: the trainer draws the first epoch's
        numbers before it says which epoch that is. None or no such file: epoch 0.
    """

    def __init__(self, steps, checkpoint):
        """Start at the epoch after the checkpoint's."""
        self.steps, self.epoch = steps, 0
        if checkpoint is not None and Path(checkpoint).is_file():
            state = torch.load(checkpoint, map_location='cpu', weights_only=False, mmap=True)
            self.epoch = state['epoch'] + 1  # it was written at the end of that epoch

    def set_epoch(self, epoch):
        """Go to ``epoch``."""
        self.epoch = epoch

    def __len__(self):
        """Return batches per epoch."""
        return self.steps

    def __iter__(self):
        """Go through the numbers."""
        return iter(range(self.epoch * self.steps, (self.epoch + 1) * self.steps))
