"""Mapillary Vistas in COCO's panoptic format, read back with the same classes and objects."""

import json

import numpy as np
import pytest

from miniature_sets import write_vistas
from mt_training.convert_mapillary import main
from mt_training.data.readers.coco_panoptic import CocoPanoptic
from mt_training.data.readers.mapillary import Mapillary


@pytest.fixture
def vistas(tmp_path):
    """Write two images: road, an unlabelled row, two cars of which one is in two parts."""
    write_vistas(tmp_path / 'vistas')
    return tmp_path / 'vistas'


def convert(root, output, *more):
    """Run the command on the training split."""
    return main(['--root', str(root), '--output', str(output), '--split', 'training', *more])


def test_format_and_round_trip(vistas, tmp_path):
    """Categories, areas and boxes by hand; the reader of COCO panoptic gives Mapillary's own labels."""
    output = tmp_path / 'coco'
    assert convert(vistas, output) == 0
    content = json.loads((output / 'annotations/panoptic_training.json').read_text())
    assert [(c['id'], c['name'], c['isthing'], c['supercategory']) for c in content['categories']] == [
        (1, 'road', 0, 'road'),
        (3, 'object--car', 1, 'object'),
    ]
    segments = {s['id']: s for s in content['annotations'][0]['segments_info']}
    assert {i: (s['category_id'], s['area'], s['bbox']) for i, s in segments.items()} == {
        256: (1, 35, [0, 0, 8, 5]),
        768: (3, 3, [1, 1, 3, 1]),
        769: (3, 2, [2, 1, 5, 3]),
    }
    assert content['images'][0] == {'id': 1, 'file_name': 'a.jpg', 'width': 8, 'height': 6}
    ours, theirs = Mapillary(vistas, 'train', panoptic=True)[1], CocoPanoptic(output, 'train')[1]
    assert theirs.name == 'b'
    np.testing.assert_array_equal(theirs.segment_ids, ours.segment_ids)
    names = np.array(['road', 'car'])
    np.testing.assert_array_equal(names[theirs.labels[:5]], np.where(ours.labels[:5] == 2, 'car', 'road'))
    assert (theirs.labels[5] == 255).all() and (ours.labels[5] == 255).all()
    np.testing.assert_array_equal(theirs.image, ours.image)


def test_an_interrupted_run_goes_on(vistas, tmp_path, capsys):
    """Masks that are there stay as they are; the JSON comes last, whole, and says the same."""
    output = tmp_path / 'coco'
    assert convert(vistas, output, '--images', 'copy') == 0
    whole = (output / 'annotations/panoptic_training.json').read_text()
    (output / 'annotations/panoptic_training.json').unlink()
    (output / 'annotations/panoptic_training/b.png').unlink()
    kept = (output / 'annotations/panoptic_training/a.png').stat().st_mtime_ns
    assert convert(vistas, output, '--images', 'copy') == 0
    assert (output / 'annotations/panoptic_training.json').read_text() == whole
    assert (output / 'annotations/panoptic_training/a.png').stat().st_mtime_ns == kept
    assert (output / 'annotations/panoptic_training/b.png').is_file()
    assert not (output / 'training/a.jpg').is_symlink()
    assert not list(output.rglob('*.part'))


def test_mistakes(vistas, tmp_path, capsys, monkeypatch):
    """A wrong folder is one sentence; without --root the folder comes from datasets.yaml."""
    assert convert(tmp_path / 'nowhere', tmp_path / 'coco') == 1
    assert 'missing; expected there: config.json' in capsys.readouterr().err
    (vistas / 'training/v2.0/instances/a.png').write_bytes(b'')
    assert convert(vistas, tmp_path / 'coco') == 1
    error = capsys.readouterr().err.strip()
    assert 'a.png' in error and len(error.splitlines()) == 1
    assert not (tmp_path / 'coco/annotations/panoptic_training.json').exists()
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'datasets.yaml').write_text('mapillary: {root: vistas, version: v1.2}\n')
    assert main(['--output', str(tmp_path / 'coco')]) == 1
    assert 'config_v1.2.json' in capsys.readouterr().err
