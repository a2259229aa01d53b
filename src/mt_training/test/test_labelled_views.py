"""Sets of the registry in batches: classes by name, labels that move, sets that lack labels."""

import cv2
import numpy as np
import pytest

torch = pytest.importorskip('torch', reason='needs the training environment: ./mt build --training')

from mt_perception.camera import Camera  # noqa: E402
from mt_perception.errors import MtError  # noqa: E402
from mt_training.data.augment import random_crop, view_sizes, warp_points  # noqa: E402
from mt_training.data.class_map import CLASS_MAPS, class_table, named_map, normalise  # noqa: E402
from mt_training.data.frames import cached_frames  # noqa: E402
from mt_training.data.labelled_views import LabelledViews  # noqa: E402
from mt_training.data.pairs import SKY_DEPTH  # noqa: E402
from mt_training.data.place_views import PlaceViews  # noqa: E402
from mt_training.data.readers import registry  # noqa: E402
from mt_training.data.readers.places import Places  # noqa: E402
from mt_training.data.readers.sample import FrameSet, Sample  # noqa: E402
from mt_training.data.sets import Batches, SetBuilder  # noqa: E402

WIDTH, HEIGHT = 160, 96
CAMERA = Camera.from_focal(WIDTH, HEIGHT, 120.0)


class Grid(FrameSet):
    """
    Images whose red channel is the column and whose green channel is the row, with labels that say the same.

    :param provides: which labels there are.
    """

    class_names = tuple(f'column {i}' for i in range(10))

    def __init__(self, provides=('segmentation', 'depth', 'poses'), count=4):
        self.provides, self.count = provides, count

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        image = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
        image[..., 0], image[..., 1] = np.arange(WIDTH), np.arange(HEIGHT)[:, None]
        labels = (image[..., 0] // 16).astype(np.uint8)
        depth = np.full((HEIGHT, WIDTH), 3.0, np.float32)
        pose = np.eye(4)
        pose[0, 3] = 0.1 * index
        has = self.provides
        return Sample(
            f'{index}',
            image,
            labels if 'segmentation' in has else None,
            depth if 'depth' in has else None,
            CAMERA,
            pose if 'poses' in has else None,
            index=index,
        )


TABLE = np.r_[np.arange(10), np.full(246, 255)].astype(np.uint8)
STILL = {'photometric': 0, 'flip': False}


def views(**options):
    """Make views of the grid at 96×64, focal length 60."""
    return LabelledViews(Grid(), (96, 64), 60.0, TABLE, **{**STILL, **options})


@pytest.mark.parametrize('flip', [False, True])
@pytest.mark.parametrize('seed', range(3))
def test_labels_depth_and_points_move_with_the_image(seed, flip):
    """Class = column / 16 and red = column tell the same place after scale, crop, flip and roll."""
    sample = views(flip=flip, scale=[0.8, 2.0]).sample(np.random.default_rng(seed), geometry=True)
    for v in range(2):
        red = sample['images'][v, 0].astype(int)
        known = sample['labels'][v] < 255
        assert known.mean() > 0.3
        # one column of blur at most between the interpolated image and the nearest label
        wrong = np.abs(red - 16 * sample['labels'][v].astype(int) - 7.5) > 9.5
        assert not (wrong & known).any()
        zoom = np.sqrt(abs(np.linalg.det(sample['matrices'][v][:2, :2])))
        depth = sample['depth'][v]
        np.testing.assert_allclose(depth[np.isfinite(depth)], 3.0 * 60 / (120 * zoom), rtol=1e-5)
        np.testing.assert_allclose(depth[np.isfinite(depth)] * sample['depth_scale'][v], 3.0, rtol=1e-5)
    first, second = sample['points'][:, sample['points_valid']]
    relative = sample['matrices'][1] @ np.linalg.inv(sample['matrices'][0])
    assert len(first) > 20
    np.testing.assert_allclose(warp_points(relative, first), second, atol=1e-3)


def test_intrinsics_follow_the_view():
    """A point of the camera lands in the view where its pixel was moved to, mirrored or not."""
    for seed in range(4):
        sample = views(flip=True).sample(np.random.default_rng(seed), geometry=True)
        point = np.array([[0.2, -0.1, 3.0]])
        pixel = CAMERA.project(point)
        for v in range(2):
            projected = sample['intrinsics'][v].astype(np.float64) @ point[0]
            np.testing.assert_allclose(
                projected[:2] / projected[2], warp_points(sample['matrices'][v], pixel)[0], atol=1e-3
            )


def test_scale_of_pixels_and_of_the_view():
    """Scale 1 fills the view, or keeps the pixels; a smaller image leaves a rim without labels."""
    rng = np.random.default_rng(0)
    assert random_crop(rng, (160, 96), (320, 192), (1, 1))[1] == 2
    assert random_crop(rng, (160, 96), (320, 192), (1, 1), of_pixels=True)[1] == 1
    sample = views(scale=[0.5, 0.5]).sample(rng)
    assert (sample['labels'][0] == 255).mean() > 0.5 and np.isnan(sample['depth'][0]).mean() > 0.5


def test_what_a_set_lacks_is_ignored():
    sampler = LabelledViews(Grid(('poses',)), (96, 64), 60.0, None, sky=0)
    sample = sampler.sample(np.random.default_rng(0))
    assert (sample['labels'] == 255).all() and np.isnan(sample['depth']).all()
    assert (sample['cells'] == 255).all() and sample['points_valid'].any()
    # a tilted view is no camera motion that leaves Z alone
    tilted = views(second={'perspective': 0.4, 'max_rotation': 0.1}).sample(np.random.default_rng(0))
    assert np.isfinite(tilted['depth'][0]).any() and np.isnan(tilted['depth'][1]).all()
    kept = set()
    for seed in range(8):
        rolled = views(roll=1.2).sample(np.random.default_rng(seed), geometry=True)
        turned = abs(np.arctan2(rolled['matrices'][0][1, 0], rolled['matrices'][0][0, 0])) > 0.35
        assert turned == (rolled['labels'][0] == 255).all()
        kept.add(bool(turned))
    assert kept == {True, False}


def test_sky_is_far_away():
    sample = LabelledViews(Grid(('segmentation',)), (96, 64), 60.0, TABLE, sky=4, **STILL).sample(
        np.random.default_rng(2)
    )
    sky = sample['labels'] == 4
    assert sky.any() and (sample['depth'][sky] == SKY_DEPTH).all() and np.isnan(sample['depth'][~sky]).all()


def test_depth_without_calibration_needs_a_focal_length():
    class Uncalibrated(Grid):
        def __getitem__(self, index):
            sample = super().__getitem__(index)
            sample.camera = None
            return sample

    rng = np.random.default_rng(0)
    with pytest.raises(MtError, match='assume_focal'):
        LabelledViews(Uncalibrated(), (96, 64), 60.0).sample(rng)
    sample = LabelledViews(Uncalibrated(), (96, 64), 60.0, assume_focal=0.75).sample(rng)
    finite = np.isfinite(sample['depth'][0])
    np.testing.assert_allclose(sample['depth'][0][finite] * sample['depth_scale'][0], 3, rtol=1e-5)


def test_posed_frames():
    """With a gap the second view is another frame through the same crop, with the motion between."""
    sample = views(gap=2).sample(np.random.default_rng(1))
    motion = sample['relative_pose'][:3, 3]
    assert motion[0] != 0 and abs(motion[0]) < 0.21 and not sample['points_valid'].any()
    np.testing.assert_allclose(sample['intrinsics'][0], sample['intrinsics'][1])
    alone = LabelledViews(Grid(('depth',)), (96, 64), 60.0, gap=1).sample(np.random.default_rng(1))
    assert np.isnan(alone['relative_pose']).all()


def test_frames_without_depth_are_left_out(tmp_path):
    """Such as those of TUM RGB-D that no depth image is near in time; from the cache too."""

    class Gaps(Grid):
        def __getitem__(self, index):
            sample = super().__getitem__(index)
            sample.depth = None if index == 1 else sample.depth
            sample.pose = None if index == 2 else sample.pose
            return sample

    for _ in range(2):
        frames = cached_frames('gaps', Gaps, range(4), tmp_path, width=80)
        assert [f['index'] for f in frames] == [0, 3] and frames[1]['pose'][0, 3] == pytest.approx(0.3)
        assert frames[0]['camera'].fx == 60 and frames[0]['labels'].shape == (48, 80)
    with pytest.raises(MtError, match='no frame with depth'):
        cached_frames('none', lambda: Grid(('segmentation',)), range(4), tmp_path)


def test_class_table():
    """Equal names whatever their spelling, a map before them, nothing = ignored; wrong names are said."""
    table = class_table(
        ('Traffic_Light', 'road', 'lane', 'dog', 'bus'),
        ('road', 'traffic light', 'car'),
        {'lane': 'road', 'bus': 'car', 'Road': None},
    )
    assert table[:6].tolist() == [1, 255, 0, 255, 2, 255]
    with pytest.raises(MtError, match="has no class 'tram'"):
        class_table(('road',), ('road',), {'tram': 'road'})
    with pytest.raises(MtError, match="experiment has no class 'street'"):
        class_table(('road',), ('road',), {'road': 'street'})
    with pytest.raises(MtError, match='no class in common'):
        class_table(('a',), ('b',))


def test_ready_class_maps_fit_the_sets():
    """Names in the maps are classes of the sets whose classes are fixed, and of the targets."""
    import yaml

    from mt_training.data.readers.camvid import CLASS_NAMES as CAMVID
    from mt_training.data.readers.cityscapes import Cityscapes

    targets = {'camvid11': CAMVID, 'cityscapes19': Cityscapes.class_names}
    maps = yaml.safe_load(CLASS_MAPS.read_text())
    assert set(maps) == set(targets)
    for target, names in targets.items():
        for dataset, mapping in maps[target].items():
            known = getattr(registry.ENTRIES[dataset].function, 'class_names', ())
            if isinstance(known, tuple) and known:
                missing = [n for n in mapping if normalise(n) not in {normalise(k) for k in known}]
                assert not missing, (target, dataset)
                table = class_table(known, names, mapping)
                assert len(set(table[table < 255].tolist())) > len(names) // 2
            assert set(mapping.values()) <= set(names), (target, dataset)
    with pytest.raises(MtError, match="no entry for 'nyuv2'"):
        named_map('camvid11', 'nyuv2')


def test_view_sizes():
    assert view_sizes((512, 256), (0.75, 1, 1.25, 1.01)) == [(384, 192), (512, 256), (640, 320)]
    assert view_sizes((64, 64), (0.1,)) == [(32, 32)]


def write_sets(root):
    """Write CamVid (classes), KITTI depth (depth), images (nothing) and places by position: miniatures."""
    rng = np.random.default_rng(0)

    def image(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = cv2.resize(
            rng.integers(0, 255, (6, 8, 3), np.uint8), (160, 96), interpolation=cv2.INTER_CUBIC
        )
        cv2.imwrite(str(path), pixels)

    for i in range(2):
        image(root / f'camvid/train/images/{i}.png')
        image(root / f'images/{i}.png')
        image(root / f'kitti/2011_09_26/d/image_02/data/{i:010d}.png')
    (root / 'camvid/train/labels').mkdir()
    depth = root / 'kitti/train/2011_09_26_drive/proj_depth/groundtruth/image_02'
    depth.mkdir(parents=True)
    (root / 'kitti/2011_09_26/d').rename(root / 'kitti/2011_09_26/2011_09_26_drive')
    (root / 'kitti/2011_09_26/calib_cam_to_cam.txt').write_text('P_rect_02: 120 0 80 0 0 120 48 0 0 0 1 0\n')
    for i in range(2):
        cv2.imwrite(str(root / f'camvid/train/labels/{i}.png'), np.full((96, 160), 3 * i, np.uint8))
        cv2.imwrite(str(depth / f'{i:010d}.png'), np.full((96, 160), 2560, np.uint16))
    for i in range(4):
        for kind in ('queries', 'database'):
            image(root / f'pitts/images/train/{kind}/@{100.0 * i + 5 * (kind == "queries"):.2f}@0.00@x@.png')
    (root / 'datasets.yaml').write_text(
        'camvid: camvid\nkitti_depth: kitti\nimages: images\npittsburgh: pitts\nrendered: {length: 4}\n'
    )
    return root / 'datasets.yaml'


SECTIONS = {
    'classes': {'kind': 'dataset', 'dataset': 'camvid', 'split': 'train', 'class_map': {'sky': None}},
    'depth': {'kind': 'dataset', 'dataset': 'kitti_depth', 'split': 'train'},
    'nothing': {'kind': 'dataset', 'dataset': 'images'},
    'worlds': {
        'kind': 'dataset',
        'dataset': 'rendered',
        'options': {'worlds': {'room': [1, 2]}, 'length': 3, 'width': 96, 'height': 64},
        'pairs': 'rgbd',
        'gap': 1,
        'width': 96,
    },
    'places': {'kind': 'dataset', 'dataset': 'pittsburgh', 'split': 'train', 'size': [64, 32]},
}


@pytest.fixture
def builder(tmp_path):
    """A builder whose experiment has two classes."""
    path = write_sets(tmp_path)
    return SetBuilder(None, tmp_path / 'cache', None, (96, 64), 60.0, ['road', 'sky'], path)


def test_batches_mix_sets_that_have_only_some_labels(builder):
    samplers = {name: builder.build(section) for name, section in SECTIONS.items()}
    schedule = [['classes', 'depth', 'nothing', 'worlds', 'places']]
    sizes = dict.fromkeys(samplers, 2)
    batches = Batches(samplers, schedule, sizes, 3, view_sizes((96, 64), (1, 1.5)))
    seen = set()
    for number in range(6):
        batch = batches[number]
        dense = batch['dense']
        assert dense['sets'] == [n for n in schedule[0][:-1] for _ in range(2)]
        seen.add(tuple(dense['images'].shape[-2:]))
        assert dense['images'].shape[-2:] == dense['labels'].shape[-2:] == dense['depth'].shape[-2:]
        labels = dense['labels'][:2]
        assert set(labels.unique().tolist()) <= {0, 255}  # road became 0, the sky is mapped to nothing
        assert (dense['labels'][2:6] == 255).all() and torch.isnan(dense['depth'][4:6]).all()
        assert torch.isfinite(dense['depth'][2:4]).any()
        places = batch['places']['places']
        assert places['images'].shape == (2, 2, 3, 32, 64) and places['place'][0] != places['place'][1]
    assert seen == {(64, 96), (96, 128)}
    again = batches[1]['dense']
    assert torch.equal(again['images'], batches[1]['dense']['images'])


@pytest.mark.parametrize(
    'change, message',
    [
        ({'dataset': 'camvit'}, "no data set 'camvit'"),
        ({'scales': [1, 2]}, "no key 'scales'"),
        ({'split': 'dev'}, "no split 'dev'"),
        ({'class_map': {'sky': 'cloud'}}, "no class 'cloud'"),
        ({'class_map': 'ours'}, "no class_map 'ours'"),
        ({'pairs': 'rgbd'}, 'needs depth and poses'),
        ({'frames': '5:9'}, 'selects none of 2'),
        ({'options': {'depth': 1}}, "no option 'depth'"),
    ],
)
def test_mistakes_in_a_section(builder, change, message):
    with pytest.raises(MtError, match=message):
        builder.build({**SECTIONS['classes'], **change})


def test_validation_images(builder):
    """Class ids of the experiment; depth at the canonical focal length: 10 m · 60 / 120."""
    found = builder.validation({'dataset': 'camvid', 'split': 'train', 'size': [96, 64]})
    assert len(found) == 2 and found[0]['set'] == 'segmentation'
    assert found[0]['labels'].unique().tolist() == [1] and found[1]['labels'].unique().tolist() == [0]
    depth = builder.validation({'dataset': 'kitti_depth', 'split': 'train', 'size': [160, 96]})[0]
    assert depth['depth'].shape == (1, 96, 160) and depth['depth'].unique().tolist() == [5.0]
    with pytest.raises(MtError, match='size is needed'):
        builder.validation({'dataset': 'camvid'})


def test_places_of_a_batch_are_apart(tmp_path):
    """Queries within 25 m of each other never meet in a batch; positives are those within 10 m."""
    files = []
    for i in range(4):
        files.append(tmp_path / f'{i}.png')
        cv2.imwrite(str(files[-1]), np.full((32, 64, 3), 40 * i, np.uint8))
    positions = np.array([[0.0, 0], [20, 0], [100, 0], [300, 0]])
    references = positions + [[8.0, 0], [12, 0], [0, 0], [0, 0]]
    near = [np.array([0]), np.array([1]), np.array([2]), np.array([], np.int64)]
    places = Places(files, files, near, '', positions, references)
    sampler = PlaceViews(places, (64, 32), crop=(1, 1), strength=0)
    assert sampler.usable == [0, 2]  # the second's reference is 12 m away, the fourth has none
    pair = sampler.batch(np.random.default_rng(0), 2)
    assert sorted(int(p['place']) for p in pair) == [0, 2]
    assert {int(p['images'].mean()) for p in pair} == {0, 80}
    with pytest.raises(MtError, match='batch of 3 pairs needs as many places'):
        sampler.batch(np.random.default_rng(0), 3)
    closer = PlaceViews(places, (64, 32), positive_m=15, negative_m=5)
    assert len(closer.batch(np.random.default_rng(0), 3)) == 3
    with pytest.raises(MtError, match='within 1 m'):
        PlaceViews(
            Places(files, files, [np.array([0])] + near[3:] * 3, '', positions, references),
            (64, 32),
            positive_m=1,
        )
