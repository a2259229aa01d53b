"""Video files: every frame, in any order."""

import cv2
import numpy as np
import pytest

from mt_perception.errors import SequenceError
from mt_perception.sequences import open_sequence

WIDTH, HEIGHT, COUNT = 64, 48, 40


def bars(i):
    """An image whose bars, red above and blue below, spell ``i`` in binary; survives compression."""
    image = np.full((HEIGHT, WIDTH, 3), 20, np.uint8)
    for bit in range(6):
        if i >> bit & 1:
            image[: HEIGHT // 2, 10 * bit + 2 : 10 * bit + 10, 0] = 230
            image[HEIGHT // 2 :, 10 * bit + 2 : 10 * bit + 10, 2] = 230
    return image


def number(image):
    return sum(int(image[4:20, 10 * bit + 4 : 10 * bit + 8, 0].mean() > 120) << bit for bit in range(6))


@pytest.fixture(params=[('.avi', 'MJPG'), ('.mp4', 'mp4v')], ids=['mjpeg', 'mpeg4'])
def video(request, tmp_path):
    path = tmp_path / f'drive{request.param[0]}'
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*request.param[1]), 20.0, (WIDTH, HEIGHT))
    if not writer.isOpened():
        pytest.skip(f'this OpenCV cannot write {request.param[1]}')
    for i in range(COUNT):
        writer.write(bars(i)[..., ::-1])
    writer.release()
    return path


def test_all_frames(video):
    sequence = open_sequence(video)
    assert len(sequence) == COUNT
    assert sequence.name == 'drive'
    assert np.allclose(sequence.stamps, np.arange(COUNT) / 20)
    assert [number(frame.image) for frame in sequence] == list(range(COUNT))
    assert sequence.camera is None
    assert sequence[1].image[40, 6, 2] > 120 > sequence[1].image[40, 6, 0]  # RGB


def test_any_order(video):
    sequence = open_sequence(video)
    for i in (39, 0, 17, 18, 16, 38, 3, -1):
        assert number(sequence[i].image) == i % COUNT
    assert [number(f.image) for f in open_sequence(video, frames='-3:')] == [37, 38, 39]


def test_calibration_beside(video):
    video.with_suffix('.yaml').write_text('{fx: 70, cx: 32, cy: 24}')
    camera = open_sequence(video)[0].camera
    assert (camera.fx, camera.width, camera.height) == (70, WIDTH, HEIGHT)


def test_damage(video):
    data = video.read_bytes()
    video.write_bytes(data[: len(data) // 50])
    with pytest.raises(SequenceError, match=f"{video.name}' (is no video|holds no frame|does not say)"):
        open_sequence(video)
    video.write_bytes(b'no video at all')
    with pytest.raises(SequenceError, match=f"{video.name}' is no video OpenCV can read"):
        open_sequence(video)
