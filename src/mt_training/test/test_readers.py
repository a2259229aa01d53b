"""Data sets are read as they lie on disk, and what is wrong with them is said in one sentence."""

import cv2
import numpy as np
import pytest

from mt_perception.errors import EvaluationError
from mt_training.data.readers import hpatches, oxford_affine, places
from mt_training.data.readers.camvid import CamVid
from mt_training.data.readers.images import image_files, read_class_ids, read_rgb


def write_image(path, value=0, shape=(6, 8, 3)):
    """Write an image of one value (BGR for three channels) and return its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.full(shape, value, np.uint8))
    return path


def test_images_are_rgb_and_in_name_order(tmp_path):
    """Blue in OpenCV's order is the last channel; gray is repeated; other files are not images."""
    write_image(tmp_path / 'b.png', (255, 0, 9))
    write_image(tmp_path / 'a.pgm', 7, (6, 8))
    (tmp_path / 'notes.txt').write_text('no image')
    files = image_files(tmp_path)
    assert [p.name for p in files] == ['a.pgm', 'b.png']
    assert read_rgb(files[0]).shape == (6, 8, 3) and (read_rgb(files[0]) == 7).all()
    assert read_rgb(files[1])[0, 0].tolist() == [9, 0, 255]


def test_damaged_images_are_named(tmp_path):
    """A cut-off, an empty and a missing file, and a folder without images."""
    broken = write_image(tmp_path / 'broken.png')
    broken.write_bytes(broken.read_bytes()[:20])
    with pytest.raises(EvaluationError, match='broken.png'):
        read_rgb(broken)
    (tmp_path / 'empty.png').write_bytes(b'')
    with pytest.raises(EvaluationError, match='empty.png'):
        read_rgb(tmp_path / 'empty.png')
    with pytest.raises(EvaluationError, match='missing'):
        read_rgb(tmp_path / 'none.png')
    (tmp_path / 'nothing').mkdir()
    with pytest.raises(EvaluationError, match='holds no image'):
        image_files(tmp_path / 'nothing')


def test_class_ids_are_not_colors(tmp_path):
    """A colour-coded label image is refused, a gray one saved with three equal channels is read."""
    assert (read_class_ids(write_image(tmp_path / 'gray3.png', 4)) == 4).all()
    with pytest.raises(EvaluationError, match='colour'):
        read_class_ids(write_image(tmp_path / 'color.png', (0, 0, 128)))


@pytest.mark.parametrize('images, labels', [('val/images', 'val/labels'), ('val', 'valannot')])
def test_camvid_layouts(tmp_path, images, labels):
    """Both layouts; unlabelled becomes the ignore index."""
    write_image(tmp_path / images / 'one.jpg', 50)
    label = np.arange(48, dtype=np.uint8).reshape(6, 8) % 12
    (tmp_path / labels).mkdir(parents=True)
    cv2.imwrite(str(tmp_path / labels / 'one.png'), label)
    dataset = CamVid(tmp_path, 'val')
    assert len(dataset) == 1 and dataset[0].name == 'one'
    np.testing.assert_array_equal(dataset[0].labels, np.where(label == 11, 255, label))


def test_camvid_mistakes(tmp_path):
    """A split that is not there, an image without labels, labels of another size or with other classes."""
    write_image(tmp_path / 'train/images/one.png')
    write_image(tmp_path / 'train/labels/one.png', 3, (6, 8))
    with pytest.raises(EvaluationError, match="no split 'val'.*it has train"):
        CamVid(tmp_path, 'val')
    write_image(tmp_path / 'train/images/two.png')
    with pytest.raises(EvaluationError, match='two.png'):
        CamVid(tmp_path, 'train')
    write_image(tmp_path / 'train/labels/two.png', 3, (5, 8))
    with pytest.raises(EvaluationError, match='8 × 5'):
        CamVid(tmp_path, 'train')[1]
    write_image(tmp_path / 'train/labels/two.png', 19, (6, 8))
    with pytest.raises(EvaluationError, match='value 19'):
        CamVid(tmp_path, 'train')[1]
    with pytest.raises(EvaluationError, match='missing'):
        CamVid(tmp_path / 'nowhere', 'val')


def test_planar_scenes(tmp_path):
    """Oxford's and HPatches' names; the scenes in name order; a root that is a scene itself."""
    shift = '1 0 {}\n0 1 0\n0 0 1\n'
    for scene in ('wall', 'bark'):
        for n in (1, 2, 3):
            write_image(tmp_path / 'oxford' / scene / f'img{n}.ppm')
        for n in (2, 3):
            (tmp_path / 'oxford' / scene / f'H1to{n}p').write_text(shift.format(n))
    scenes = oxford_affine.read_scenes(tmp_path / 'oxford')
    assert [s.name for s in scenes] == ['bark', 'wall']
    assert [p.name for p in scenes[0].images] == ['img1.ppm', 'img2.ppm', 'img3.ppm']
    assert [(i, h[0, 2]) for i, h in scenes[0].pairs] == [(1, 2), (2, 3)]
    assert [s.name for s in oxford_affine.read_scenes(tmp_path / 'oxford/wall')] == ['wall']

    for scene in ('i_dc', 'v_wall'):
        for n in (1, 2):
            write_image(tmp_path / 'hpatches' / scene / f'{n}.ppm')
        (tmp_path / 'hpatches' / scene / 'H_1_2').write_text(shift.format(5))
    assert [s.name for s in hpatches.read_scenes(tmp_path / 'hpatches')] == ['i_dc', 'v_wall']
    assert [s.name for s in hpatches.read_scenes(tmp_path / 'hpatches', skip_large=True)] == ['v_wall']


def test_planar_mistakes(tmp_path):
    """No scene, a homography without its image, a file that is no homography."""
    with pytest.raises(EvaluationError, match='no Oxford affine scene'):
        oxford_affine.read_scenes(tmp_path)
    write_image(tmp_path / 'graf/img1.png')
    (tmp_path / 'graf/H1to2p').write_text('1 0 0 0 1 0 0 0 1')
    with pytest.raises(EvaluationError, match='img2'):
        oxford_affine.read_scenes(tmp_path)
    write_image(tmp_path / 'graf/img2.png')
    for text in ('1 0 0 0 1 0 0 0', '0 0 0 0 0 0 0 0 0', 'a b c'):
        (tmp_path / 'graf/H1to2p').write_text(text)
        with pytest.raises(EvaluationError, match='H1to2p'):
            oxford_affine.read_scenes(tmp_path)


def write_places(root, queries, references):
    """Write query/ and ref/ with images of these names."""
    for name in queries:
        write_image(root / 'query' / f'{name}.png')
    for name in references:
        write_image(root / 'ref' / f'{name}.png')
    return root


def lists(data):
    """Positives as plain lists."""
    return [p.tolist() for p in data.positives]


def test_pairs_by_name(tmp_path):
    """The same name ± the tolerance in name order; a query without a reference of its name has none."""
    root = write_places(tmp_path, ('a', 'c', 'x'), ('a', 'b', 'c', 'd', 'e'))
    assert lists(places.read_pairs(root)) == [[0, 1, 2], [0, 1, 2, 3, 4], []]
    assert lists(places.read_pairs(root, tolerance=0)) == [[0], [2], []]
    with pytest.raises(EvaluationError, match='file name'):
        places.read_pairs(write_places(tmp_path / 'other', ('q',), ('r',)))


def test_pairs_with_ground_truth(tmp_path):
    """Indices as the file says, with or without a header; the tolerance is not used."""
    root = write_places(tmp_path, 'abc', 'abcd')
    (root / places.GROUND_TRUTH).write_text('query,references\n0,1 2\n2,3\n')
    data = places.read_corridor(root, tolerance=1)
    assert lists(data) == [[1, 2], [], [3]]
    assert places.GROUND_TRUTH in data.truth


def test_part_of_the_places(tmp_path):
    """A selection renumbers references and drops those outside."""
    root = write_places(tmp_path, 'abcdef', 'abcdef')
    assert lists(places.read_pairs(root, 1, slice(2, 6, 2))) == [[0, 1], [0, 1]]
    (root / places.GROUND_TRUTH).write_text('\n'.join(f'{q},{q} {max(q - 1, 0)}' for q in range(6)))
    data = places.read_pairs(root, None, slice(3, 5))
    assert [p.stem for p in data.references] == ['d', 'e']
    assert lists(data) == [[0], [0, 1]]


@pytest.mark.parametrize(
    'line, message', [('0,9', 'line 1'), ('7,1', 'line 1'), ('0,1\n1,two', 'line 2'), ('', 'no valid')]
)
def test_ground_truth_mistakes(tmp_path, line, message):
    """An image that is not there and a word are named with their line; an empty file is no ground truth."""
    root = write_places(tmp_path, 'ab', 'ab')
    (root / places.GROUND_TRUTH).write_text(line)
    with pytest.raises(EvaluationError, match=message):
        places.read_pairs(root)


def test_nordland_seasons(tmp_path):
    """Winter asks summer by default; another season is named when it is missing."""
    for season in ('winter', 'summer'):
        for name in 'abc':
            write_image(tmp_path / season / f'{name}.png')
    data = places.read_nordland(tmp_path, 0)
    assert data.queries[0].parent.name == 'winter' and data.references[0].parent.name == 'summer'
    with pytest.raises(EvaluationError, match='summer, winter'):
        places.read_nordland(tmp_path, query='spring')
    with pytest.raises(EvaluationError, match='ground_truth.csv'):
        places.read_corridor(tmp_path)
