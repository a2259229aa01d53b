"""Sequences written out come back as they were; half a sequence is never left behind."""

from dataclasses import replace

import cv2
import numpy as np
import pytest

from mt_perception.errors import SequenceError
from mt_perception.sequences import convert, open_sequence
from mt_perception.sequences.writer import FORMATS, write_sequence


@pytest.fixture(scope='module')
def part():
    return open_sequence('rendered:room:2', frames='10:14', width=160, height=120, fps=12.5)


@pytest.mark.parametrize('form', FORMATS)
def test_round_trip(part, form, tmp_path):
    seen = []
    write_sequence(part, tmp_path / 'out', form, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(i, 4) for i in (1, 2, 3, 4)]
    assert [p.name for p in tmp_path.iterdir()] == ['out']
    copy = open_sequence(tmp_path / 'out')
    assert len(copy) == 4
    assert np.allclose(copy.stamps, part.stamps, atol=1e-8)
    assert np.allclose(copy.camera.matrix, part.camera.matrix)
    assert (copy.camera.width, copy.camera.height) == (160, 120)
    for a, b in zip(part, copy):
        assert np.allclose(a.pose, b.pose, atol=1e-8)
        difference = np.abs(a.image.astype(int) - b.image)
        assert difference.mean() < 3 if form == 'images' else difference.max() == 0
    depth = copy[2].depth
    if form == 'rgbd':
        assert np.abs(depth - part[2].depth).max() <= 0.0005001
    else:
        assert depth is None


def test_unknown_depth_stays_unknown(tmp_path, street):
    frame = street[0]
    sequence = open_sequence('rendered:street:4', frames='0:1', width=320, height=240)
    sequence.whole = [frame]
    write_sequence(sequence, tmp_path / 'out', 'rgbd')
    depth = open_sequence(tmp_path / 'out')[0].depth
    far = ~(frame.depth < 65.5)
    assert far.any()
    assert np.isnan(depth[far]).all()
    assert np.allclose(depth[~far], frame.depth[~far], atol=0.00051)


def test_an_error_leaves_nothing(part, tmp_path):
    """Neither the target nor the folder beside it, when a frame cannot be read."""

    class Broken(type(part)):
        def __getitem__(self, index):
            if index == 2:
                raise SequenceError('frame 2 is damaged')
            return super().__getitem__(index)

    broken = Broken(part.whole, 10, 14)
    for form in FORMATS:
        with pytest.raises(SequenceError, match='frame 2 is damaged'):
            write_sequence(broken, tmp_path / 'out', form)
        assert list(tmp_path.iterdir()) == []


def test_refusals(part, tmp_path):
    with pytest.raises(SequenceError, match="no sequence format 'euroc' to write; use one of rgbd, kitti"):
        write_sequence(part, tmp_path / 'out', 'euroc')
    (tmp_path / 'there').mkdir()
    with pytest.raises(SequenceError, match="there' exists already"):
        write_sequence(part, tmp_path / 'there')
    images = tmp_path / 'plain'
    images.mkdir()
    cv2.imwrite(str(images / '0.png'), np.zeros((10, 10, 3), np.uint8))
    with pytest.raises(SequenceError, match="'plain' has no camera or one with lens distortion; kitti needs"):
        write_sequence(open_sequence(images), tmp_path / 'out', 'kitti')


def test_missing_poses(part, tmp_path):
    """Formats that cannot say "unknown" refuse; the RGB-D layout and bags leave the pose out."""

    class Lost(type(part)):
        def __getitem__(self, index):
            frame = super().__getitem__(index)
            return replace(frame, pose=None) if index == 1 else frame

    sequence = Lost(part.whole, 10, 14)
    sequence.poses = [None if i == 1 else pose for i, pose in enumerate(sequence.poses)]
    for form in ('kitti', 'images'):
        with pytest.raises(SequenceError, match='lacks ground truth for some frames'):
            write_sequence(sequence, tmp_path / form, form)
    write_sequence(sequence, tmp_path / 'rgbd', 'rgbd')
    assert [p is None for p in open_sequence(tmp_path / 'rgbd').poses] == [False, True, False, False]


def test_command(tmp_path, capsys):
    target = tmp_path / 'room'
    arguments = ['rendered:room:2', str(target), '--frames', '3:5', '--format', 'kitti', '--size', '160x120']
    assert convert.main(arguments) == 0
    assert len(open_sequence(target)) == 2
    assert '2 frames' in capsys.readouterr().out
    assert convert.main(arguments) == 1
    error = capsys.readouterr().err
    assert error.count('\n') == 1
    assert 'exists already' in error
