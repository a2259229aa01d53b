"""Every layout on disk, as miniature copies made here, and the real data where it is there."""

import cv2
import numpy as np
import pytest
import yaml

from mt_perception.camera import Camera
from mt_perception.errors import SequenceError
from mt_perception.sequences import open_sequence
from mt_perception.sequences.rgbd import register_depth

WIDTH, HEIGHT = 64, 48


def picture(i, width=WIDTH, height=HEIGHT):
    """An RGB image that is another one for every i, and not symmetric."""
    rng = np.random.default_rng(i)
    return cv2.resize(
        rng.integers(0, 255, (6, 8, 3), dtype=np.uint8), (width, height), interpolation=cv2.INTER_NEAREST
    )


def save(path, image):
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), image if image.ndim == 2 else image[..., ::-1])


def pose(i):
    """A pose that turns and advances."""
    angle = 0.05 * i
    matrix = np.eye(4)
    matrix[:3, :3] = cv2.Rodrigues(np.array((0.1 * angle, angle, -0.2 * angle)))[0]
    matrix[:3, 3] = (0.1 * i, -0.02 * i, 0.5 * i)
    return matrix


def quaternion(matrix):
    """(x, y, z, w) by the rotation vector: another way than the code under test."""
    vector = cv2.Rodrigues(matrix[:3, :3])[0].ravel()
    angle = np.linalg.norm(vector)
    axis = vector / angle if angle > 0 else vector
    return [*(axis * np.sin(angle / 2)), np.cos(angle / 2)]


def rows(poses):
    return ''.join(' '.join(repr(float(v)) for v in p[:3].ravel()) + '\n' for p in poses)


@pytest.fixture
def kitti(tmp_path):
    folder = tmp_path / '07'
    for i in range(4):
        save(folder / 'image_0' / f'{i:06d}.png', picture(i)[..., 0])
    calib = 'P0: 50 0 31.5 0 0 51 23.5 0 0 0 1 0\nP1: 50 0 31.5 -25 0 51 23.5 0 0 0 1 0\n'
    (folder / 'calib.txt').write_text(calib + 'P2: 60 0 30 -30 0 60 20 6 0 0 1 0.003\nTr: 1 0 0 0\n')
    (folder / 'times.txt').write_text('0.0\n0.11\n0.20\n0.31\n')
    (folder / 'poses.txt').write_text(rows(pose(i) for i in range(4)))
    return folder


class TestKitti:
    def test_gray(self, kitti):
        sequence = open_sequence(kitti)
        assert sequence.name == '07'
        assert len(sequence) == 4
        assert sequence.stamps.tolist() == [0.0, 0.11, 0.20, 0.31]
        frame = sequence[2]
        assert np.array_equal(frame.image, np.repeat(picture(2)[..., :1], 3, axis=2))
        assert frame.image.shape == (HEIGHT, WIDTH, 3)
        assert (frame.index, frame.stamp, frame.depth, frame.labels) == (2, 0.20, None, None)
        assert np.allclose(frame.pose, pose(2), atol=1e-12)
        camera = sequence.camera
        assert (camera.width, camera.height, camera.fx, camera.fy) == (WIDTH, HEIGHT, 50, 51)
        assert (camera.cx, camera.cy) == (31.5, 23.5)

    def test_colour_camera_has_its_own_place(self, kitti):
        """poses.txt is camera 0; camera 2 stands where its projection matrix says."""
        for i in range(4):
            save(kitti / 'image_2' / f'{i:06d}.jpg', picture(i))
        sequence = open_sequence(kitti)
        assert sequence.camera.fx == 60
        # K⁻¹ times the last column of P2 is the position of camera 0 in camera 2.
        shift = np.linalg.solve([[60, 0, 30], [0, 60, 20], [0, 0, 1]], (-30, 6, 0.003))
        offset = np.eye(4)
        offset[:3, 3] = -shift
        assert np.allclose(sequence.poses[3], pose(3) @ offset)
        assert np.abs(sequence[1].image.astype(int) - picture(1)).mean() < 40  # jpg, colours in RGB order
        assert np.abs(sequence[1].image.astype(int) - picture(1)[..., ::-1]).mean() > 40

    def test_without_times_and_poses(self, kitti):
        (kitti / 'times.txt').unlink()
        (kitti / 'poses.txt').unlink()
        sequence = open_sequence(kitti)
        assert np.allclose(sequence.stamps, [0, 0.1, 0.2, 0.3])
        assert sequence.poses is None
        assert sequence[0].pose is None

    def test_calibration_without_names(self, kitti):
        (kitti / 'calib.txt').write_text('70 0 1 0 0 70 2 0 0 0 1 0\n80 0 1 -9 0 80 2 0 0 0 1 0\n')
        assert open_sequence(kitti).camera.fx == 70

    @pytest.mark.parametrize(
        'name, content, sentence',
        [
            ('times.txt', '0\n0.1\n0.2\n', "times.txt' has 3 times but the sequence has 4 images"),
            ('times.txt', '0\n0.1\n0.1\n0.2\n', r"times.txt' do not increase: entry 3 \(0.100000 s\)"),
            ('times.txt', '', "times.txt' has 0 times but the sequence has 4 images"),
            ('times.txt', '0\n0.1\nx\n0.2\n', "times.txt' has no numbers in entry 3: 'x'"),
            ('times.txt', '0\n0.1\nnan\n0.2\n', "times.txt' has NaN or infinite values in entry 3"),
            ('poses.txt', rows([pose(0)] * 5), "poses.txt' has 5 poses but the sequence has 4 images"),
            ('poses.txt', '1 2 3\n' * 4, "poses.txt' has 3 values in entry 1, not 12 or 16"),
            ('poses.txt', 'nan ' * 12 + '\n', "poses.txt' has NaN"),
            ('poses.txt', rows([2 * pose(0)] * 4), "pose 1 of '.*poses.txt' is no rigid motion"),
            ('calib.txt', 'hello\n', "calib.txt' is no calibration"),
            ('calib.txt', 'P3: 1 0 0 0 0 1 0 0 0 0 1 0\n', "calib.txt' has no line 'P0:'"),
            ('calib.txt', 'P0: 0 0 0 0 0 0 0 0 0 0 1 0\n', "calib.txt' holds no usable calibration"),
        ],
    )
    def test_damage(self, kitti, name, content, sentence):
        (kitti / name).write_text(content)
        with pytest.raises(SequenceError, match=sentence):
            open_sequence(kitti)

    def test_missing_parts(self, kitti):
        (kitti / 'calib.txt').unlink()
        with pytest.raises(SequenceError, match="calib.txt' is missing"):
            open_sequence(kitti)
        for image in (kitti / 'image_0').iterdir():
            image.unlink()
        with pytest.raises(SequenceError, match="image_0' holds no images"):
            open_sequence(kitti)

    def test_unreadable_image(self, kitti):
        """The sequence opens; the frame says which file is broken."""
        path = kitti / 'image_0' / '000002.png'
        sequence = open_sequence(kitti)
        for content in (b'', b'no image', path.read_bytes()[:40]):
            path.write_bytes(content)
            with pytest.raises(SequenceError, match="000002.png' is not a readable image"):
                sequence[2]
        path.unlink()
        with pytest.raises(SequenceError, match="000002.png' cannot be read"):
            sequence[2]
        save(path, picture(0, 32, 32))
        with pytest.raises(
            SequenceError, match='frame 2 .* is 32×32 pixels but its calibration is for 64×48'
        ):
            sequence[2]
        assert sequence[3].index == 3


class TestParts:
    @pytest.mark.parametrize(
        'frames, expected',
        [
            ('1:3', [1, 2]),
            (':2', [0, 1]),
            ('2:', [2, 3]),
            ('-2:', [2, 3]),
            (':-3', [0]),
            ('0:99', [0, 1, 2, 3]),
        ],
    )
    def test_selection(self, kitti, frames, expected):
        part, whole = open_sequence(kitti, frames=frames), open_sequence(kitti)
        assert [frame.index for frame in part] == expected
        assert part.stamps.tolist() == whole.stamps[expected].tolist()
        assert len(part.poses) == len(part) == len(expected)
        assert np.array_equal(part[-1].image, whole[expected[-1]].image)
        with pytest.raises(IndexError):
            part[len(expected)]

    @pytest.mark.parametrize('frames', ['3', '1:2:3', 'a:b', '1-3'])
    def test_malformed(self, kitti, frames):
        with pytest.raises(SequenceError, match=f"frames '{frames}' is not of the form A:B"):
            open_sequence(kitti, frames=frames)

    @pytest.mark.parametrize('frames', ['4:', '3:2', ':-4'])
    def test_nothing_left(self, kitti, frames):
        with pytest.raises(
            SequenceError, match=f"frames '{frames}' selects nothing of '07', which has 4 frames"
        ):
            open_sequence(kitti, frames=frames)


def save_rgbd(folder, count=3, width=640, height=480, kind='jpg', **parts):
    for i in range(count):
        stem = folder / f'frame-{i + 5:06d}'
        save(stem.with_suffix(f'.color.{kind}'), picture(i, width, height))
        if parts.get('depth', True):
            depth = np.full((height, width), 2000, np.uint16)
            depth[: height // 2, : width // 2] = 0
            depth[height // 2 :, : width // 2] = 65535
            save(stem.with_suffix('.depth.png'), depth)
        if parts.get('poses', True):
            np.savetxt(stem.with_suffix('.pose.txt'), pose(i))
    return folder


class TestRgbd:
    def test_kinect(self, tmp_path):
        sequence = open_sequence(save_rgbd(tmp_path / 'kitchen'))
        assert len(sequence) == 3
        assert np.allclose(sequence.stamps, np.array((5, 6, 7)) / 30)
        assert (sequence.camera.fx, sequence.camera.cx, sequence.camera.cy) == (525, 320, 240)
        frame = sequence[1]
        assert np.allclose(frame.pose, pose(1))
        assert frame.depth.dtype == np.float32
        values = np.unique(frame.depth[np.isfinite(frame.depth)])
        assert np.allclose(values, 2.0)
        # A plane at 2 m: columns of the depth image are shifted by f·2.5 cm / 2 m and shrunk by 525/585.
        left = 320 + (320 - 320) * 525 / 585 - 0.025 / 2 * 525
        right = 320 + (639 - 320) * 525 / 585 - 0.025 / 2 * 525
        known = np.flatnonzero(np.isfinite(frame.depth[240]))
        assert known[0] == pytest.approx(left, abs=1)
        assert known[-1] == pytest.approx(right, abs=1)
        assert np.isnan(frame.depth[:, : known[0]]).all()  # 0 and 65535 are unknown

    def test_calibration_in_the_folder(self, tmp_path):
        """With a camera.yaml the images may have any size, and the depth lies on them already."""
        folder = save_rgbd(tmp_path / 'mine', width=WIDTH, height=HEIGHT, kind='png')
        (folder / 'camera.yaml').write_text('{fx: 60, fy: 61, cx: 31, cy: 22, distortion: [0.1, 0, 0, 0, 0]}')
        frame = open_sequence(folder)[0]
        assert frame.camera.fy == 61
        assert frame.camera.distortion[0] == 0.1
        assert np.array_equal(frame.image, picture(0, WIDTH, HEIGHT))
        assert frame.depth[10, 60] == pytest.approx(2)
        assert np.isnan(frame.depth[:, : WIDTH // 2]).all()

    def test_depth_camera_in_the_folder(self, tmp_path):
        folder = save_rgbd(tmp_path / 'mine', width=WIDTH, height=HEIGHT, kind='png')
        text = 'fx: 60\ncx: 31.5\ncy: 23.5\ndepth_camera: {fx: 60, fy: 60, cx: 31.5, cy: 23.5}\n'
        (folder / 'camera.yaml').write_text(text + 'depth_to_color: [0.1, 0, 0]\n')
        depth = open_sequence(folder)[0].depth
        assert np.flatnonzero(np.isfinite(depth[10]))[0] == 32 + 3  # 60 px · 0.1 m / 2 m
        (folder / 'camera.yaml').write_text(text.replace('fy: 60, ', ''))
        with pytest.raises(
            SequenceError, match="camera.yaml': depth_camera needs the numbers fx, fy, cx, cy"
        ):
            open_sequence(folder)

    def test_without_depth_and_poses(self, tmp_path):
        sequence = open_sequence(save_rgbd(tmp_path / 'rgb', depth=False, poses=False))
        assert sequence.poses is None
        assert sequence[0].depth is None

    def test_depth_that_nobody_needs_is_not_read(self, tmp_path):
        folder = save_rgbd(tmp_path / 'kitchen')
        (folder / 'frame-000006.depth.png').write_bytes(b'damaged')
        sequence = open_sequence(folder, frames='1:')
        with pytest.raises(SequenceError):
            sequence[0]
        sequence.skip_depth()
        assert sequence[0].depth is None and sequence[0].image.shape == (480, 640, 3)

    def test_a_lost_pose_is_none(self, tmp_path):
        folder = save_rgbd(tmp_path / 'kitchen')
        (folder / 'frame-000006.pose.txt').unlink()
        assert [p is None for p in open_sequence(folder).poses] == [False, True, False]

    def test_damage(self, tmp_path):
        folder = save_rgbd(tmp_path / 'kitchen')
        save(folder / 'frame-000005.depth.png', np.zeros((480, 640), np.uint8))
        sequence = open_sequence(folder)
        with pytest.raises(SequenceError, match="frame-000005.depth.png' is not a 16-bit gray image"):
            sequence[0]
        (folder / 'frame-000006.depth.png').write_bytes(b'')
        with pytest.raises(SequenceError, match="frame-000006.depth.png' is not a readable depth image"):
            sequence[1]
        (folder / 'frame-000007.pose.txt').write_text('1 0 0 0\n0 1 0 0\n0 0 nan 0\n0 0 0 1\n')
        with pytest.raises(SequenceError, match="frame-000007.pose.txt' has NaN"):
            open_sequence(folder)
        (folder / 'frame-000007.pose.txt').write_text('1 0 0 0\n0 1 0 0\n')
        with pytest.raises(SequenceError, match="frame-000007.pose.txt' is not a 4×4 matrix"):
            open_sequence(folder)

    def test_unknown_camera(self, tmp_path):
        folder = save_rgbd(tmp_path / 'other', width=WIDTH, height=HEIGHT)
        with pytest.raises(SequenceError, match='64×48 pixels and no calibration; add a camera.yaml'):
            open_sequence(folder)


def splat_slowly(depth, source, target, offset):
    """Registration pixel by pixel, as its definition says."""
    out = np.full((target.height, target.width), np.inf)
    for v, u in zip(*np.nonzero(np.isfinite(depth))):
        ray = np.array([(u - source.cx) / source.fx, (v - source.cy) / source.fy, 1.0])
        point = ray * float(depth[v, u]) + offset
        x, y = target.project(point)[0]
        column, row = round(float(x)), round(float(y))
        if 0 <= column < target.width and 0 <= row < target.height:
            out[row, column] = min(out[row, column], point[2])
    out[np.isinf(out)] = np.nan
    return out


def test_registration_keeps_the_nearest():
    """The quick registration equals the plain one, also where surfaces overlap."""
    rng = np.random.default_rng(1)
    depth = rng.uniform(1.0, 4.0, (30, 40)).astype(np.float32)
    depth[rng.random(depth.shape) < 0.2] = np.nan
    source, target = Camera.from_focal(40, 30, 41.3), Camera.from_focal(44, 32, 36.7)
    offset = np.array((-0.11, 0.04, 0.02))
    expected = splat_slowly(depth, source, target, offset)
    assert np.allclose(register_depth(depth, source, target, offset), expected, atol=2e-3, equal_nan=True)


def test_registration_fills_the_gaps_of_a_coarser_source():
    depth = np.full((30, 40), 2.0, np.float32)
    source, target = Camera.from_focal(40, 30, 40.0), Camera.from_focal(60, 45, 60.0)
    registered = register_depth(depth, source, target, np.zeros(3))
    assert np.isfinite(registered[2:-2, 2:-2]).mean() > 0.97


@pytest.fixture
def tum(tmp_path):
    folder = tmp_path / 'rgbd_dataset_freiburg2_desk'
    lines = {'rgb': [], 'depth': [], 'groundtruth': []}
    for i in range(4):
        stamp = 1305031102.1753 + i / 30
        save(folder / f'rgb/{stamp:.6f}.png', picture(i, 640, 480))
        lines['rgb'].append(f'{stamp:.6f} rgb/{stamp:.6f}.png')
        if i != 2:  # one depth image is lost
            save(folder / f'depth/{i}.png', np.full((480, 640), 5000 * (i + 1), np.uint16))
            lines['depth'].append(f'{stamp + 0.008:.6f} depth/{i}.png')
    for k in range(16):  # 100 Hz, until shortly after the last image
        stamp, p = 1305031102.1753 - 0.022 + k / 100, pose(k / 10)
        numbers = [stamp, *p[:3, 3], *quaternion(p)]
        lines['groundtruth'].append(' '.join(f'{n:.9f}' for n in numbers))
    for name, content in lines.items():
        (folder / f'{name}.txt').write_text('# a comment\n' + '\n'.join(content) + '\n')
    return folder


class TestTum:
    def test_all(self, tum):
        sequence = open_sequence(tum)
        assert len(sequence) == 4
        assert np.allclose(np.diff(sequence.stamps), 1 / 30, atol=1e-5)
        assert (sequence.camera.fx, sequence.camera.cy) == (520.9, 249.7)
        assert sequence.camera.distortion.tolist() == [0.2312, -0.7849, -0.0033, -0.0001, 0.9172]
        depths = [frame.depth for frame in sequence]
        assert [None if d is None else float(d[0, 0]) for d in depths] == [1, 2, None, 4]
        assert np.array_equal(sequence[3].image, picture(3, 640, 480))
        for i, p in enumerate(sequence.poses):  # interpolated: image i is at entry 2.2 + i·3.33
            assert np.allclose(p, pose((2.2 + i / 0.3) / 10), atol=2e-4)

    @pytest.mark.parametrize(
        'name, fx', [('freiburg1_xyz', 517.3), ('fr3_office', 535.4), ('somewhere', 525.0)]
    )
    def test_intrinsics_by_name(self, tum, name, fx):
        assert open_sequence(tum.rename(tum.parent / name)).camera.fx == fx

    def test_own_calibration(self, tum):
        (tum / 'calib.txt').write_text('500 501 320 240\n')
        assert open_sequence(tum).camera.fy == 501

    def test_ground_truth_of_another_time(self, tum):
        """Without an entry near, a frame has no pose."""
        lines = (tum / 'groundtruth.txt').read_text().splitlines()
        (tum / 'groundtruth.txt').write_text('\n'.join(lines[:4]))
        assert [p is None for p in open_sequence(tum).poses] == [False, True, True, True]

    @pytest.mark.parametrize(
        'name, content, sentence',
        [
            ('rgb.txt', '# nothing\n', "rgb.txt' names no images"),
            ('rgb.txt', '1.0\n', "rgb.txt' has a line that is not 'stamp file'"),
            ('depth.txt', 'a b\n', "depth.txt' has a line that is not 'stamp file'"),
            (
                'groundtruth.txt',
                '1 0 0 0 0 0 0 0\n',
                "groundtruth.txt' has a quaternion of length zero in entry 1",
            ),
            ('groundtruth.txt', '1 0 0 0 0 0 0\n', "groundtruth.txt' has 7 values in entry 1, not 8"),
            ('groundtruth.txt', '2 0 0 0 0 0 0 1\n1 0 0 0 0 0 0 1\n', "groundtruth.txt' do not increase"),
        ],
    )
    def test_damage(self, tum, name, content, sentence):
        (tum / name).write_text(content)
        with pytest.raises(SequenceError, match=sentence):
            open_sequence(tum)


BODY_TO_CAMERA = np.array(
    [
        [0.0148655429818, -0.999880929698, 0.00414029679422, -0.0216401454975],
        [0.999557249008, 0.0149672133247, 0.025715529948, -0.064676986768],
        [-0.0257744366974, 0.00375618835797, 0.999660727178, 0.00981073058949],
        [0, 0, 0, 1],
    ]
)


@pytest.fixture
def euroc(tmp_path):
    """EuRoC's cam0 of MH_01: files as in the data set."""
    folder = tmp_path / 'MH_01_easy'
    cam0, start = folder / 'mav0' / 'cam0', 1403636579763555584
    stamps = [start + i * 50_000_000 for i in range(3)]
    for i, stamp in enumerate(stamps):
        save(cam0 / 'data' / f'{stamp}.png', picture(i, 752, 480)[..., 0])
    listing = ''.join(f'{s},{s}.png\r\n' for s in stamps)
    (cam0 / 'data.csv').write_bytes(('#timestamp [ns],filename\r\n' + listing).encode())
    sensor = {
        'sensor_type': 'camera',
        'T_BS': {'cols': 4, 'rows': 4, 'data': BODY_TO_CAMERA.ravel().tolist()},
        'rate_hz': 20,
        'resolution': [752, 480],
        'camera_model': 'pinhole',
        'intrinsics': [458.654, 457.296, 367.215, 248.375],
        'distortion_model': 'radial-tangential',
        'distortion_coefficients': [-0.28340811, 0.07395907, 0.00019359, 1.76187114e-05],
    }
    (cam0 / 'sensor.yaml').write_text('# General sensor definitions.\n' + yaml.safe_dump(sensor))
    truth = folder / 'mav0' / 'state_groundtruth_estimate0'
    truth.mkdir()
    lines = ['#timestamp, p_RS_R_x [m], …']
    for k in range(-5, 30):  # 200 Hz
        p = pose(k / 10)
        x, y, z, w = quaternion(p)
        numbers = [*p[:3, 3], w, x, y, z, *[0.0] * 9]
        lines.append(f'{start + k * 5_000_000},' + ','.join(f'{n:.9f}' for n in numbers))
    (truth / 'data.csv').write_text('\n'.join(lines) + '\n')
    return folder


class TestEuroc:
    def test_all(self, euroc):
        for path in (euroc, euroc / 'mav0'):
            sequence = open_sequence(path)
            assert len(sequence) == 3
            assert sequence.stamps[1] - sequence.stamps[0] == pytest.approx(0.05, abs=1e-6)
            assert sequence.stamps[0] == pytest.approx(1403636579.763555584, abs=1e-6)
            camera = sequence.camera
            assert (camera.width, camera.height, camera.fx) == (752, 480, 458.654)
            assert camera.model == 'plumb_bob'
            assert camera.distortion[3] == 1.76187114e-05
            for i in range(3):  # the camera's pose, not the body's
                assert np.allclose(sequence.poses[i], pose(i) @ BODY_TO_CAMERA, atol=1e-6)
            assert np.array_equal(sequence[2].image[..., 1], picture(2, 752, 480)[..., 0])

    def test_without_ground_truth(self, euroc):
        (euroc / 'mav0/state_groundtruth_estimate0/data.csv').unlink()
        assert open_sequence(euroc).poses is None

    @pytest.mark.parametrize(
        'name, content, sentence',
        [
            ('cam0/data.csv', '#\n', "data.csv' names no images"),
            ('cam0/data.csv', 'x,y.png\n', 'has a stamp that is no integer of nanoseconds'),
            ('cam0/data.csv', '5\n', "has a line that is not 'nanoseconds,file'"),
            ('cam0/sensor.yaml', 'a: 1\nb: ]\n', "sensor.yaml' is not valid YAML in line 2"),
            ('cam0/sensor.yaml', 'a: 1\n', "sensor.yaml' lacks intrinsics"),
            ('state_groundtruth_estimate0/data.csv', '# only a comment\n', "data.csv' holds no poses"),
        ],
    )
    def test_damage(self, euroc, name, content, sentence):
        (euroc / 'mav0' / name).write_text(content)
        with pytest.raises(SequenceError, match=sentence):
            open_sequence(euroc)

    def test_unknown_distortion_and_missing_extrinsics(self, euroc):
        path = euroc / 'mav0/cam0/sensor.yaml'
        text = path.read_text()
        path.write_text(text.replace('radial-tangential', 'fov'))
        with pytest.raises(SequenceError, match="distortion model 'fov', not one of radial-tangential"):
            open_sequence(euroc)
        path.write_text(text.replace('T_BS', 'T_SB'))
        with pytest.raises(SequenceError, match='lacks T_BS'):
            open_sequence(euroc)


class TestImages:
    def test_natural_order_and_formats(self, tmp_path):
        for i, name in ((10, 'a10.png'), (9, 'a9.png'), (100, 'a100.bmp'), (2, 'A2.PNG')):
            save(tmp_path / 'set' / name, picture(i))
        (tmp_path / 'set' / 'notes.md').write_text('no image')
        sequence = open_sequence(tmp_path / 'set')
        expected = [2, 9, 10, 100]
        assert [np.array_equal(f.image, picture(i)) for f, i in zip(sequence, expected)] == [True] * 4
        assert sequence.camera is None
        assert np.allclose(sequence.stamps, [0, 0.1, 0.2, 0.3])
        assert sequence.name == 'set'

    def test_sidecars(self, tmp_path):
        for i in range(2):
            save(tmp_path / f'{i}.png', picture(i))
        content = {
            'image_width': WIDTH,
            'image_height': HEIGHT,
            'camera_name': 'front',
            'camera_matrix': {'rows': 3, 'cols': 3, 'data': [50, 0, 31, 0, 50, 23, 0, 0, 1]},
            'distortion_model': 'rational_polynomial',
            'distortion_coefficients': {'rows': 1, 'cols': 8, 'data': [0.1] * 8},
        }
        (tmp_path / 'camera.yaml').write_text(yaml.safe_dump(content))
        (tmp_path / 'times.txt').write_text('5\n7\n')
        (tmp_path / 'poses.txt').write_text(rows([pose(0), pose(1)]))
        frame = open_sequence(tmp_path)[1]
        assert (frame.stamp, frame.camera.model, frame.camera.fx) == (7.0, 'rational_polynomial', 50)
        assert np.allclose(frame.pose, pose(1))

    @pytest.mark.parametrize(
        'content, sentence',
        [
            ('fx: 1\ncx: 2\n', "lacks the key 'cy'"),
            ('fx: wide\ncx: 1\ncy: 1\n', 'has a value that is not a number'),
            ('fx: -5\ncx: 1\ncy: 1\n', 'holds no usable calibration'),
            ('just words', 'holds no keys and values'),
            ('camera_matrix: {data: [1, 2]}', 'has a value that is not a number where one is needed'),
        ],
    )
    def test_bad_calibration(self, tmp_path, content, sentence):
        save(tmp_path / '0.png', picture(0))
        (tmp_path / 'camera.yaml').write_text(content)
        with pytest.raises(SequenceError, match=f"camera.yaml' {sentence}"):
            open_sequence(tmp_path)

    def test_16_bit_and_transparent(self, tmp_path):
        wide = np.random.default_rng(0).integers(0, 65535, (HEIGHT, WIDTH), dtype=np.uint16)
        save(tmp_path / '0.png', wide)
        cv2.imwrite(
            str(tmp_path / '1.png'), np.dstack([picture(1)[..., ::-1], np.full((HEIGHT, WIDTH), 7, np.uint8)])
        )
        sequence = open_sequence(tmp_path)
        assert np.abs(sequence[0].image[..., 0] - wide / 257).max() < 1.01
        assert np.array_equal(sequence[1].image, picture(1))


class TestNothingToOpen:
    def test_missing(self, tmp_path):
        with pytest.raises(SequenceError, match=f"there is no sequence '{tmp_path}/nowhere'; check the path"):
            open_sequence(tmp_path / 'nowhere')

    def test_empty_name(self):
        with pytest.raises(SequenceError, match='no sequence was named'):
            open_sequence('')

    def test_empty_folder(self, tmp_path):
        with pytest.raises(SequenceError, match='is empty; a sequence folder holds images or a bag'):
            open_sequence(tmp_path)

    def test_something_else(self, tmp_path):
        (tmp_path / 'letter.txt').write_text('dear reader')
        with pytest.raises(SequenceError, match='holds no sequence: neither image_0/'):
            open_sequence(tmp_path)
        with pytest.raises(SequenceError, match="letter.txt' is neither a video"):
            open_sequence(tmp_path / 'letter.txt')

    def test_options_that_mean_nothing(self, kitti):
        with pytest.raises(SequenceError, match='is no bag and takes no topic'):
            open_sequence(kitti, topic='/image')


class TestRealData:
    def test_kitti(self, shared):
        sequence = open_sequence(shared / 'data' / 'kitti_03')
        assert (len(sequence), len(sequence.poses)) == (400, 400)
        assert sequence[399].image.shape == (375, 1242, 3)
        forward = np.array([p[:3, 3] for p in sequence.poses])
        assert forward[399, 2] > 100  # it drives along its first z axis

    def test_kitchen_depth_lies_on_the_image(self, shared):
        """Edges of the registered depth coincide with edges of the image better than without registration."""
        folder = shared / 'data' / 'rgbd_kitchen'
        sequence = open_sequence(folder)
        better = 0
        for i in (0, 80, 160, 240, 320):
            frame = sequence[i]
            raw = cv2.imread(str(folder / f'frame-{i:06d}.depth.png'), -1).astype(np.float32) / 1000
            gray = cv2.cvtColor(frame.image, cv2.COLOR_RGB2GRAY)
            distance = cv2.distanceTransform(255 - cv2.Canny(gray, 60, 160), cv2.DIST_L2, 3)
            better += edge_distance(frame.depth, distance) < edge_distance(raw, distance)
        assert better >= 4
        assert 0.5 < np.nanmedian(frame.depth) < 4

    def test_folder_of_street_images(self, shared):
        assert len(open_sequence(shared / 'data' / 'camvid' / 'val' / 'images')) == 101


def edge_distance(depth, distance):
    """Mean distance (capped) of depth's jumps to the nearest edge of the image."""
    filled = np.nan_to_num(depth)
    jump = np.abs(np.diff(filled, axis=1)[:-1])
    jump = (jump > 0.15) & (filled[:-1, 1:] > 0) & (filled[:-1, :-1] > 0)
    return np.minimum(distance[:-1, 1:][jump], 12).mean()


def test_comments_and_blank_lines_are_tolerated(tmp_path):
    for i in range(2):
        save(tmp_path / f'{i}.png', picture(i))
    (tmp_path / 'times.txt').write_text('# seconds\n\n1.5\n  2.5  \n\n')
    assert open_sequence(tmp_path).stamps.tolist() == [1.5, 2.5]
