"""A saved map: what comes back, and what is said about files that cannot be used."""

import json

import numpy as np
import pytest

from mt_perception.camera import Camera
from mt_perception.place_recognition import Keyframe, MapError, View
from mt_perception.place_recognition.map_file import load_map, save_map

N, DIM, GLOBAL = 5, 16, 24


def keyframes(seed=0, model_id='net-1'):
    rng = np.random.default_rng(seed)
    cameras = [
        Camera.from_focal(640, 480, 500),
        Camera(320, 240, np.array([[250, 0, 160], [0, 251, 120], [0, 0, 1]]), np.array([0.1, 0, 0, 0.01])),
    ]
    out = []
    for k in range(N):
        n = 3 * k  # the first has no keypoints
        view = View(
            k / 3,
            f'camera_{k % 2}',
            cameras[k % 2],
            model_id,
            unit(rng, GLOBAL),
            rng.uniform(0, 200, (n, 2)).astype(np.float32),
            rng.uniform(0, 1, n).astype(np.float16),
            rng.integers(-127, 128, (n, DIM)).astype(np.int8),
            np.where(rng.random(n) < 0.5, np.nan, 3.0).astype(np.float32),
        )
        pose = np.eye(4)
        pose[:3, :3] = np.linalg.qr(rng.normal(size=(3, 3)))[0]
        pose[:3, 3] = rng.normal(size=3)
        out.append(Keyframe(k / 3, pose, np.zeros((6, 6)), view, metric=True, fixed=True))
    return out


def unit(rng, n):
    vector = rng.normal(size=n)
    return (vector / np.linalg.norm(vector)).astype(np.float32)


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / 'kitchen.map'
    save_map(path, keyframes())
    return path


def rewritten(path, header=None, **changes):
    """Write the file again with changed arrays or header entries."""
    with np.load(path) as archive:
        arrays = dict(archive)
    if header is not None:
        values = {**json.loads(arrays['header'].tobytes()), **header}
        arrays['header'] = np.frombuffer(json.dumps(values).encode(), np.uint8)
    arrays.update(changes)
    with open(path, 'wb') as file:
        np.savez(file, **{name: value for name, value in arrays.items() if value is not None})


def test_everything_comes_back(saved):
    """Exactly, but for the global descriptors' half precision; at rest, in the frame it was saved in."""
    before, after = keyframes(), load_map(saved, 'net-1')
    assert len(after) == N
    for old, new in zip(before, after):
        assert new.fixed and new.metric and new.stamp == old.stamp
        np.testing.assert_array_equal(new.pose, old.pose)
        for name in ('xy', 'scores', 'packed', 'depth', 'rays'):
            np.testing.assert_array_equal(getattr(new.view, name), getattr(old.view, name))
        assert (new.view.frame_id, new.view.model_id) == (old.view.frame_id, 'net-1')
        assert new.view.global_descriptor @ old.view.global_descriptor > 0.99999
        assert np.linalg.norm(new.view.global_descriptor) == pytest.approx(1, abs=1e-6)
        camera = new.view.camera
        assert (camera.width, camera.height, camera.model) == (
            old.view.camera.width,
            old.view.camera.height,
            old.view.camera.model,
        )
        np.testing.assert_array_equal(camera.distortion, old.view.camera.distortion)


def test_the_same_map_is_the_same_file(saved, tmp_path):
    save_map(tmp_path / 'again', keyframes())
    assert (tmp_path / 'again').read_bytes() == saved.read_bytes()
    load_map(saved)
    assert sorted(path.name for path in tmp_path.iterdir()) == ['again', 'kitchen.map']


def test_a_truncated_file_is_refused_wherever_it_ends(saved):
    """Every length but the whole: never a part of a map, never a traceback."""
    data = saved.read_bytes()
    for length in (0, 1, 100, len(data) // 2, len(data) - 30, len(data) - 1):
        saved.write_bytes(data[:length])
        with pytest.raises(MapError, match='kitchen.map'):
            load_map(saved)


def test_damage_anywhere_is_found(saved):
    """A flipped byte in any array breaks its checksum."""
    data = bytearray(saved.read_bytes())
    for place in range(200, len(data) - 2500, 997):
        damaged = bytearray(data)
        damaged[place] ^= 0x55
        saved.write_bytes(damaged)
        try:
            after = load_map(saved)
        except MapError:
            continue
        before = keyframes()  # padding, or a name that nobody reads
        assert all(np.array_equal(a.view.packed, b.view.packed) for a, b in zip(after, before))


def test_other_versions_models_and_files(saved, tmp_path):
    """One sentence each, which names the file and what to do."""
    with pytest.raises(MapError, match="model 'net-1', not of 'net-2': run the model"):
        load_map(saved, 'net-2')
    rewritten(saved, header={'version': 2})
    with pytest.raises(MapError, match='has version 2, this program reads version 1'):
        load_map(saved)
    rewritten(saved, header={'version': 1, 'format': 'a picture'})
    with pytest.raises(MapError, match="it says that it is a 'a picture'"):
        load_map(saved)
    np.savez(tmp_path / 'no_json.npz', header=np.frombuffer(b'{"format": 3', np.uint8))
    with pytest.raises(MapError, match='is not a map of mt_perception'):
        load_map(tmp_path / 'no_json.npz')
    with pytest.raises(MapError, match='No such file'):
        load_map(tmp_path / 'nothing')
    with pytest.raises(MapError, match='cannot be read'):
        load_map(tmp_path)
    np.savez(tmp_path / 'other.npz', x=np.arange(3))
    with pytest.raises(MapError, match='is not a map of mt_perception'):
        load_map(tmp_path / 'other.npz')
    np.save(tmp_path / 'array.npy', np.arange(3))
    with pytest.raises(MapError, match='is not a map of mt_perception'):
        load_map(tmp_path / 'array.npy')
    (tmp_path / 'text').write_text('a map')
    with pytest.raises(MapError, match="text' is"):
        load_map(tmp_path / 'text')


def test_nothing_is_unpickled(tmp_path):
    """A file that holds objects is refused before any code in it could run."""
    np.savez(tmp_path / 'evil.npz', header=np.array([print], dtype=object))
    with pytest.raises(MapError, match='is not a map'):
        load_map(tmp_path / 'evil.npz')


@pytest.mark.parametrize(
    ('changes', 'part'),
    [
        ({'xy': np.zeros((3, 2), np.float32)}, "'xy' is float32 of shape"),
        ({'descriptors': np.zeros((30, DIM + 1), np.int8)}, "'descriptors'"),
        ({'poses': np.full((N, 3, 4), np.nan)}, "'poses' holds numbers that are not finite"),
        ({'poses': np.full((N, 3, 4), 2.0)}, 'not rotations'),
        ({'camera': np.full(N, 7, np.int32)}, "'camera' names entries"),
        ({'stamps': np.zeros(N, np.float32)}, "'stamps' is float32"),
        ({'counts': np.array([0, 3, 6, 9, -12], np.int32)}, 'damaged'),
        ({'depth': None}, 'is not a map of mt_perception'),
    ],
)
def test_contents_that_do_not_fit(saved, changes, part):
    """A file that was tampered with, or written by a broken program."""
    rewritten(saved, **changes)
    with pytest.raises(MapError, match=part):
        load_map(saved)


def test_a_failed_save_leaves_the_old_map(saved, tmp_path):
    """No keyframes, no folder: a sentence, and what was there stays."""
    data = saved.read_bytes()
    with pytest.raises(MapError, match='no keyframes yet'):
        save_map(saved, [])
    broken = keyframes()
    broken[2].view.xy = broken[2].view.xy[:1].reshape(1, 1, 2)
    with pytest.raises(ValueError):
        save_map(saved, broken)
    assert saved.read_bytes() == data and list(tmp_path.iterdir()) == [saved]
    with pytest.raises(MapError, match='cannot be written'):
        save_map(tmp_path / 'no' / 'folder', keyframes())
