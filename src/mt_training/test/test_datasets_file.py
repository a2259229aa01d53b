"""datasets.yaml: where it is looked for, what it may say, and one sentence for each mistake."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml

from mt_perception.errors import EvaluationError
from mt_training.data.datasets_file import TEMPLATE, Datasets, main
from mt_training.data.readers import registry


def write_camvid(root):
    """Write a CamVid of one image."""
    for kind, value in (('images', 50), ('labels', 3)):
        (root / 'val' / kind).mkdir(parents=True)
        shape = (6, 8, 3) if kind == 'images' else (6, 8)
        cv2.imwrite(str(root / 'val' / kind / 'a.png'), np.full(shape, value, np.uint8))


def write_file(path, **content):
    """Write a datasets.yaml."""
    path.write_text(yaml.safe_dump(content))
    return path


def test_the_file_is_chosen_by_argument_variable_and_folder(tmp_path, monkeypatch):
    files = {name: write_file(tmp_path / f'{name}.yaml', camvid=f'/{name}') for name in ('one', 'two')}
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv('MT_DATASETS', raising=False)
    with pytest.raises(EvaluationError, match='not known where .camvid'):
        Datasets().source('camvid')
    write_file(tmp_path / 'datasets.yaml', camvid='/here')
    assert Datasets().source('camvid').root == '/here'
    monkeypatch.setenv('MT_DATASETS', str(files['one']))
    assert Datasets().source('camvid').root == '/one'
    assert Datasets(files['two']).source('camvid').root == '/two'
    monkeypatch.setenv('MT_DATASETS', 'gone.yaml')
    with pytest.raises(EvaluationError, match="MT_DATASETS names 'gone.yaml', which is not there"):
        Datasets()


def test_folders_names_and_options(tmp_path, monkeypatch):
    """Folders start at the file, variables are filled in, options reach the reader."""
    write_camvid(tmp_path / 'data/camvid')
    monkeypatch.setenv('DATA', str(tmp_path / 'data'))
    path = write_file(
        tmp_path / 'datasets.yaml',
        camvid='data/camvid',
        mine={'dataset': 'camvid', 'root': '$DATA/camvid', 'split': 'val'},
        rendered={'worlds': {'room': [1, 2]}, 'length': 2, 'width': 64, 'height': 48},
    )
    datasets = Datasets(path)
    assert len(datasets.open('camvid', split='val')) == len(datasets.open('mine')) == 1
    assert len(datasets.open('rendered')) == 2
    with pytest.raises(EvaluationError, match="no split 'train'"):
        datasets.open('mine', split='train')
    with pytest.raises(
        EvaluationError, match="'ours', neither in .*camvid, mine, rendered.* nor among cityscapes"
    ):
        datasets.open('ours')
    with pytest.raises(EvaluationError, match='missing'):
        datasets.open('camvid', root=tmp_path / 'elsewhere')


@pytest.mark.parametrize(
    'text, message',
    [
        ('camvid: [1]', 'camvid is neither a folder nor a mapping'),
        ('mine: /data', "no data set 'mine'; a name of your own says with dataset:"),
        ('- camvid', 'not a mapping of names to folders'),
        ('camvid: {', 'cannot be read'),
    ],
)
def test_mistakes_in_the_file(tmp_path, text, message):
    path = tmp_path / 'datasets.yaml'
    path.write_text(text)
    with pytest.raises(EvaluationError, match=message):
        Datasets(path)


def test_template_is_read_and_names_every_set(tmp_path):
    """The documented template is a valid file and has every data set, at least as a comment."""
    assert {'cityscapes', 'tokyo247', 'my_street'} <= set(Datasets(TEMPLATE).sources)
    text = Path(TEMPLATE).read_text()
    assert [name for name in registry.ENTRIES if f'{name}' not in text and name != 'sequence'] == []


def test_checking_the_file_prints_every_set(tmp_path, capsys):
    write_camvid(tmp_path / 'camvid')
    path = write_file(
        tmp_path / 'datasets.yaml',
        camvid={'root': 'camvid', 'split': 'val'},
        cityscapes='nothing',
    )
    assert main(['--datasets', str(path)]) == 1
    camvid, cityscapes = capsys.readouterr().out.strip().splitlines()
    assert camvid == 'camvid: 1 images, segmentation, 11 classes'
    assert 'missing; expected there: leftImg8bit/SPLIT' in cityscapes
