"""NYUv2, sets of sequences, places with positions and plain images, in their own layouts."""

import cv2
import numpy as np
import pytest

from mt_perception.errors import EvaluationError, MtError
from mt_training.data.readers import registry
from mt_training.data.readers.image_list import open_images
from mt_training.data.readers.nyuv2 import CLASSES_40, open_nyuv2
from mt_training.data.readers.sample import take
from mt_training.data.readers.sequence_sets import (
    open_kitti_odometry,
    open_rendered,
    open_seven_scenes,
    open_tum_rgbd,
)
from mt_training.data.readers.utm_places import read_pittsburgh, read_tokyo247

SIZE = (6, 8)  # height, width


def picture(path, red=10, size=SIZE):
    """Write a plain RGB image whose red channel tells it from others."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = np.zeros((*size, 3), np.uint8)
    image[..., 2] = red
    assert cv2.imwrite(str(path), image)
    return path


def gray(path, value, dtype=np.uint8, size=SIZE):
    """Write a gray image of one value."""
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), np.full(size, value, dtype))


# NYUv2


@pytest.fixture
def nyu_mat(tmp_path):
    """Write three images as MATLAB stores them (axes reversed), four names, splits and mappings."""
    h5py = pytest.importorskip('h5py', reason='needs h5py, which reads the labelled .mat')
    from scipy.io import savemat

    names = ['book', 'wall', 'floor', 'flute']
    images = np.zeros((3, 3, 640, 480), np.uint8)
    images[:, 0] = np.arange(3)[:, None, None] * 10
    images[:, 1, 100, 7] = 99  # column 100, row 7
    labels = np.zeros((3, 640, 480), np.uint16)
    labels[:, :5, 0] = np.arange(5)
    depths = np.full((3, 640, 480), 2.5, np.float32)
    raw = depths.copy()
    raw[:, 3, 4] = 0
    with h5py.File(tmp_path / 'nyu_depth_v2_labeled.mat', 'w') as file:
        file['images'], file['labels'], file['depths'], file['rawDepths'] = images, labels, depths, raw
        cells = file.create_dataset('names', (1, len(names)), h5py.ref_dtype)
        for i, name in enumerate(names):
            text = file.create_dataset(f'#refs#/{i}', data=np.array([[ord(c)] for c in name], np.uint16))
            cells[0, i] = text.ref
    savemat(tmp_path / 'splits.mat', {'trainNdxs': [[3], [1]], 'testNdxs': [[2]]})
    savemat(tmp_path / 'classMapping40.mat', {'mapClass': [[23, 1, 2, 40]]})
    to_13 = np.full((1, 40), 7)
    to_13[0, [0, 1, 22]] = 12, 5, 2
    savemat(tmp_path / 'class13Mapping.mat', {'classMapping13': {'labels13': to_13}})
    return tmp_path


def test_nyu_mat(nyu_mat):
    """Order of the split, axes, classes of the 40 and the 13, names asked for, raw depth."""
    data = open_nyuv2(nyu_mat, 'train')
    assert [data.name_of(i) for i in range(2)] == ['00003', '00001'] and len(open_nyuv2(nyu_mat, 'all')) == 3
    sample = data[0]
    assert sample.image.shape == (480, 640, 3) and sample.image[0, 0, 0] == 20
    assert sample.image[7, 100, 1] == 99 and sample.depth.shape == (480, 640) and sample.depth[0, 0] == 2.5
    assert sample.labels[0, :6].tolist() == [255, 22, 0, 1, 39, 255]
    assert data.class_names[22] == 'books' and len(CLASSES_40) == 40
    assert sample.camera.fx == pytest.approx(518.858, abs=1e-3)
    coarse = open_nyuv2(nyu_mat, 'test', classes=13)
    assert [coarse.class_names[i] for i in coarse[0].labels[0, 1:5]] == ['books', 'wall', 'floor', 'objects']
    named = open_nyuv2(nyu_mat, 'test', classes=['flute', 'wall'], raw_depth=True)
    assert named[0].labels[0, :5].tolist() == [255, 255, 1, 255, 0]
    assert np.isnan(named[0].depth[4, 3]) and named[0].depth[3, 4] == 2.5


def test_nyu_mat_mistakes(nyu_mat):
    with pytest.raises(EvaluationError, match="no class 'piano'"):
        open_nyuv2(nyu_mat, classes=['piano'])
    (nyu_mat / 'classMapping40.mat').unlink()
    with pytest.raises(EvaluationError, match='no file classMapping40.mat'):
        open_nyuv2(nyu_mat)
    (nyu_mat / 'splits.mat').unlink()
    with pytest.raises(EvaluationError, match='no file splits.mat'):
        open_nyuv2(nyu_mat, 'test')
    (nyu_mat / 'nyu_depth_v2_labeled.mat').write_bytes(b'MATLAB')
    with pytest.raises(EvaluationError, match='damaged or no MATLAB 7.3'):
        open_nyuv2(nyu_mat, 'all')


def test_nyu_folders(tmp_path):
    """image, seg40, depth of the toolkit; class ids from 0, 16-bit millimetres."""
    picture(tmp_path / 'image/test/00001.png')
    gray(tmp_path / 'seg40/test/00001.png', 39)
    gray(tmp_path / 'depth/test/00001.png', 1500, np.uint16)
    sample = open_nyuv2(tmp_path, 'test')[0]
    assert (sample.labels == 39).all() and (sample.depth == 1.5).all()
    gray(tmp_path / 'seg40/test/00001.png', 40)
    with pytest.raises(EvaluationError, match='value 40'):
        open_nyuv2(tmp_path, 'test')[0]
    with pytest.raises(EvaluationError, match="no split 'train'; it has test; expected there: nyu_depth"):
        open_nyuv2(tmp_path, 'train')


def test_nyu_arrays_and_synchronised_depth(tmp_path):
    """MTAN's arrays: float images, −1 unlabelled, metres; rgb_N.jpg with sync_depth_N.png."""
    for name, array in {
        'image/0': np.full((*SIZE, 3), 0.5),
        'label/0': np.where(np.arange(48).reshape(SIZE) == 0, -1, 12).astype(np.float64),
        'depth/0': np.where(np.arange(48).reshape(*SIZE, 1) == 1, 0, 3.5),
    }.items():
        (tmp_path / 'mtan/train' / name).parent.mkdir(parents=True, exist_ok=True)
        np.save(tmp_path / 'mtan/train' / f'{name}.npy', array)
    data = open_nyuv2(tmp_path / 'mtan', 'train')
    sample = data[0]
    assert (sample.image == 128).all() and sample.labels[0, :2].tolist() == [255, 12]
    assert data.class_names[12] == 'window' and np.isnan(sample.depth[0, 1]) and sample.depth[1, 1] == 3.5
    picture(tmp_path / 'bts/official_splits/test/bathroom/rgb_00045.jpg')
    gray(tmp_path / 'bts/official_splits/test/bathroom/sync_depth_00045.png', 2000, np.uint16)
    data = open_nyuv2(tmp_path / 'bts', 'test')
    assert data.name_of(0) == 'bathroom/rgb_00045' and (data[0].depth == 2).all() and data[0].labels is None


# Sequences


def write_kitti(root, name, frames=2):
    """Write one sequence in the benchmark's layout; P2 shifts the left colour camera by 0.06 m."""
    for i in range(frames):
        picture(root / f'sequences/{name}/image_2/{i:06d}.png', i)
    p0 = '700 0 4 0 0 700 3 0 0 0 1 0'
    p2 = '700 0 4 42 0 700 3 0 0 0 1 0'
    (root / f'sequences/{name}/calib.txt').write_text(f'P0: {p0}\nP1: {p0}\nP2: {p2}\nP3: {p2}\n')
    (root / f'sequences/{name}/times.txt').write_text('\n'.join(f'{0.1 * i:e}' for i in range(frames)))
    (root / 'poses').mkdir(exist_ok=True)
    lines = [f'1 0 0 0 0 1 0 0 0 0 1 {i}' for i in range(frames)]
    (root / f'poses/{name}.txt').write_text('\n'.join(lines))


def test_kitti_odometry(tmp_path):
    """Splits by number, poses beside the sequences and of the camera that is read."""
    for name in ('00', '09'):
        write_kitti(tmp_path / 'dataset', name)
    train, val = open_kitti_odometry(tmp_path, 'train'), open_kitti_odometry(tmp_path / 'dataset', 'val')
    assert [train.name_of(i) for i in range(len(train))] == ['00/000000', '00/000001']
    assert val.name_of(1) == '09/000001' and val[1].group == '09'
    np.testing.assert_allclose(val[1].pose[:3, 3], [-0.06, 0, 1])
    assert val[1].camera.fx == 700 and val[1].image[0, 0, 0] == 1
    assert len(open_kitti_odometry(tmp_path, sequences=[0, '09'], step=2)) == 2
    with pytest.raises(EvaluationError, match='no sequence 05; it has 00, 09'):
        open_kitti_odometry(tmp_path, sequences=['05'])
    with pytest.raises(EvaluationError, match='expected there: sequences/00/'):
        open_kitti_odometry(tmp_path / 'dataset/poses')


def write_scene(folder, frames=2):
    """Write frames as 7-Scenes has them."""
    for i in range(frames):
        picture(folder / f'frame-{i:06d}.color.png', i, (480, 640))
        gray(folder / f'frame-{i:06d}.depth.png', 2000 if i else 65535, np.uint16, (480, 640))
        np.savetxt(folder / f'frame-{i:06d}.pose.txt', np.eye(4))


def test_seven_scenes(tmp_path):
    """TrainSplit.txt and TestSplit.txt choose sequences; a scene and a sequence are roots too."""
    for number in (1, 2):
        write_scene(tmp_path / f'chess/seq-{number:02d}')
    (tmp_path / 'chess/TrainSplit.txt').write_text('sequence2\n')
    (tmp_path / 'chess/TestSplit.txt').write_text('sequence1\n')
    train = open_seven_scenes(tmp_path, 'train')
    assert [train.name_of(i) for i in range(len(train))] == ['chess/seq-02/000000', 'chess/seq-02/000001']
    assert len(open_seven_scenes(tmp_path / 'chess', 'all')) == 4
    one = open_seven_scenes(tmp_path / 'chess/seq-01')
    assert np.isnan(one[0].depth).all() and np.nanmedian(one[1].depth) == 2 and one[1].pose.shape == (4, 4)
    (tmp_path / 'chess/TrainSplit.txt').write_text('sequence7\n')
    with pytest.raises(EvaluationError, match='seq-07'):
        open_seven_scenes(tmp_path, 'train')
    with pytest.raises(EvaluationError, match='no scene fire; it has chess'):
        open_seven_scenes(tmp_path, scenes='fire')
    (tmp_path / 'empty').mkdir()
    with pytest.raises(EvaluationError, match='expected there: a scene with seq-01'):
        open_seven_scenes(tmp_path / 'empty')


def test_tum_rgbd(tmp_path):
    """rgb.txt and depth.txt by time, 1/5000 m, the camera of the folder's name."""
    root = tmp_path / 'rgbd_dataset_freiburg3_desk'
    picture(root / 'rgb/1.000000.png', 3, (480, 640))
    gray(root / 'depth/1.010000.png', 5000, np.uint16, (480, 640))
    (root / 'rgb.txt').write_text('# timestamp filename\n1.000000 rgb/1.000000.png\n')
    (root / 'depth.txt').write_text('1.010000 depth/1.010000.png\n')
    (root / 'groundtruth.txt').write_text('0.99 0 0 0 0 0 0 1\n1.01 2 0 0 0 0 0 1\n')
    sample = open_tum_rgbd(tmp_path)[0]
    assert sample.name == 'rgbd_dataset_freiburg3_desk/000000' and (sample.depth == 1).all()
    assert sample.camera.fx == 535.4 and sample.pose[0, 3] == pytest.approx(1)
    with pytest.raises(EvaluationError, match='expected there: rgb.txt'):
        open_tum_rgbd(root / 'rgb')


def test_rendered_worlds():
    """Worlds are made without a folder, with every label."""
    data = open_rendered(worlds={'street': [3, 5]}, length=6, step=5, width=96, height=64)
    assert [data.name_of(i) for i in range(len(data))] == [
        'street_3/000000',
        'street_3/000005',
        'street_4/000000',
        'street_4/000005',
    ]
    sample = data[1]
    assert sample.image.shape == (64, 96, 3) and sample.labels.max() < 255 and np.isfinite(sample.depth).any()
    assert 'road' in {data.class_names[i] for i in np.unique(sample.labels) if i < 255}
    assert len(registry.open_dataset('rendered', length=3, width=96, height=64)) == 3
    with pytest.raises(MtError, match='no rendered scene'):
        open_rendered('moon')


# Places

REFERENCES = ['000/000000_pitch1_yaw1.jpg', '000/000000_pitch1_yaw2.jpg', '001/001000_pitch1_yaw1.jpg']
QUERIES = ['000/000000_pitch1_yaw3.jpg', '002/002000_pitch2_yaw1.jpg']
REFERENCE_UTM = np.array([[100.0, 100.0, 124.9], [50.0, 50.0, 50.0]])  # [2,3] as MATLAB keeps it
QUERY_UTM = np.array([[100.0, 151.0], [50.0, 50.0]])


def write_structure(path, which, references, queries):
    """Write dbStruct as NetVLAD's files hold it."""
    from scipy.io import savemat

    def cells(names):
        out = np.empty((len(names), 1), object)
        out[:, 0] = names
        return out

    path.parent.mkdir(parents=True, exist_ok=True)
    savemat(
        path,
        {
            'dbStruct': {
                'whichSet': which,
                'dbImageFns': cells(references),
                'utmDb': REFERENCE_UTM,
                'qImageFns': cells(queries),
                'utmQ': QUERY_UTM,
                'numImages': len(references),
                'numQueries': len(queries),
                'posDistThr': 25,
                'posDistSqThr': 625,
                'nonTrivPosDistSqThr': 100,
            }
        },
    )


def test_pittsburgh_structure(tmp_path):
    """References and queries in their folders; 25 m decide: 0, 0 and 24.9 m; 26.1 m is too far."""
    write_structure(tmp_path / 'datasets/pitts250k_test.mat', 'test', REFERENCES, QUERIES)
    for name in REFERENCES:
        picture(tmp_path / name)
    for name in QUERIES:
        picture(tmp_path / 'queries_real' / name)
    data = read_pittsburgh(tmp_path, 'test')
    assert [p.tolist() for p in data.positives] == [[0, 1, 2], []]
    assert [p.tolist() for p in read_pittsburgh(tmp_path, radius=27).positives] == [[0, 1, 2], [2]]
    assert all(p.is_file() for p in data.references + data.queries)
    assert data.query_positions.tolist() == [[100, 50], [151, 50]] and '25 m' in data.truth
    part = read_pittsburgh(tmp_path, selection=slice(0, 2))
    assert [p.tolist() for p in part.positives] == [[0, 1], []] and len(part.reference_positions) == 2
    frames = registry.open_frames('pittsburgh', tmp_path, split='test')
    assert len(frames) == 5 and frames[0].labels is None and frames[4].image.shape == (6, 8, 3)


def test_pittsburgh_mistakes(tmp_path):
    with pytest.raises(EvaluationError, match='expected there: datasets/pitts250k_SPLIT.mat'):
        read_pittsburgh(tmp_path)
    write_structure(tmp_path / 'pitts30k_val.mat', 'val', REFERENCES, QUERIES)
    with pytest.raises(
        EvaluationError, match='names the image .000/000000_pitch1_yaw1.jpg., which is in none'
    ):
        read_pittsburgh(tmp_path, 'val', size='30k')
    write_structure(tmp_path / 'pitts30k_val.mat', 'val', REFERENCES[:2], QUERIES)
    with pytest.raises(EvaluationError, match='2 images but positions'):
        read_pittsburgh(tmp_path, 'val', size='30k')
    (tmp_path / 'pitts30k_val.mat').write_bytes(b'no MATLAB')
    with pytest.raises(EvaluationError, match='MATLAB'):
        read_pittsburgh(tmp_path, 'val', size='30k')


def test_tokyo_structure(tmp_path):
    """The structure says jpg where the archives hold png; queries of the subset."""
    names = [f'03814/381422.412_39467{i}/x_012_0{i}0.jpg' for i in range(3)]
    write_structure(tmp_path / 'tokyo247.mat', 'test', names, ['00001.jpg', '00002.jpg'])
    for name in names:
        picture((tmp_path / 'database_gsv_vga' / name).with_suffix('.png'))
    for name in ('00001.jpg', '00002.jpg'):
        picture(tmp_path / '247query_subset_v2' / name)
    data = read_tokyo247(tmp_path)
    assert data.references[2].suffix == '.png' and data.references[2].is_file()
    assert data.queries[1].is_file() and data.positives[0].tolist() == [0, 1, 2]


def test_positions_in_file_names(tmp_path):
    """@EAST@NORTH@… below images/SPLIT; a name without a position is named."""
    for folder, easts in (('database', (500.0, 560.0)), ('queries', (510.5,))):
        for east in easts:
            picture(tmp_path / f'images/test/{folder}/@{east:010.2f}@4477108.91@17@T@40.4@-79.9@@@@@@@@.jpg')
    for read in (read_pittsburgh, read_tokyo247):
        data = read(tmp_path, 'test')
        assert [p.tolist() for p in data.positives] == [[0]] and data.query_positions[0].tolist() == [
            510.5,
            4477108.91,
        ]
    picture(tmp_path / 'images/test/queries/photo.jpg')
    with pytest.raises(EvaluationError, match='photo.jpg. has no position'):
        read_tokyo247(tmp_path)


# Images and parts


def test_image_folders_and_parts(tmp_path):
    """Folders below are kept in the names; ranges take parts; an empty folder says what belongs there."""
    for name in ('b/2', 'a', 'b/1'):
        picture(tmp_path / f'{name}.jpg')
    data = open_images(tmp_path)
    assert [data.name_of(i) for i in range(3)] == ['a', 'b/1', 'b/2'] and data.provides == ()
    assert [take(data, '1:').name_of(i) for i in range(2)] == ['b/1', 'b/2']
    assert take(data, '::2').image_path(1) == tmp_path / 'b/2.jpg'
    with pytest.raises(EvaluationError, match='selects none of 3'):
        take(data, '7:9')
    (tmp_path / 'c').mkdir()
    with pytest.raises(EvaluationError, match='holds no image; expected there: images'):
        open_images(tmp_path / 'c')


def test_planar_scenes_as_images(tmp_path):
    for n in (1, 2):
        picture(tmp_path / f'graf/img{n}.ppm')
    (tmp_path / 'graf/H1to2p').write_text('1 0 2 0 1 0 0 0 1')
    frames = registry.open_frames('oxford_affine', tmp_path)
    assert [frames.name_of(i) for i in range(2)] == ['graf/img1', 'graf/img2']
