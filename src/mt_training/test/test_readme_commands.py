"""Every command of mt_training's README, run on miniature data with small settings."""

import importlib
import re
import shlex
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip('torch', reason='needs the training environment: ./mt build --training')
pytest.importorskip('lightning', reason='needs the training environment: ./mt build --training')
pytest.importorskip('transformers', reason='needs the training environment: ./mt build --training')

from miniature import write_data, write_images
from miniature_sets import write_cityscapes, write_hpatches, write_pittsburgh, write_vistas
from tiny_panoptic import write_coco

PACKAGE = Path(__file__).parents[1]
DATASETS = """
cityscapes: cityscapes
coco_panoptic: coco
mapillary: vistas
pittsburgh: pitts
hpatches: hpatches
"""
CAMVID = ['schedule=[[camvid]]', 'validation={camvid: {root: camvid/val, every: 2, size: [64, 64]}}']
CAMVID += ['sets.camvid.batch=1', 'sets.camvid.teacher_every=0']
TINY_KP2D = ['model.channels=[8, 8, 16, 16]', 'model.width=16', 'model.global_dim=16', *CAMVID]
CITYSCAPES = ['sets.cityscapes.batch=1', 'validation.cityscapes.size=[64, 64]']
TINY_MASKS = ['model.width=32', 'model.feedforward=32', 'model.pixel_feedforward=32', 'model.queries=8']
TINY_MASKS += ['model.pixel_layers=1', 'model.decoder_layers=2', 'losses={masks: {hungarian: {points: 64}}}']
TINY_MASKS += ['sets.coco.batch=1', 'validation.coco.size=[64, 64]', "validation.coco.frames=':1'"]
# what makes an experiment small
SMALL = {
    'mtan_cityscapes': ['model.width=16', *CITYSCAPES],
    'mtan_edge': ['model.width=16', *CAMVID],
    'fastsegnet_cityscapes': ['model.width=16', *CITYSCAPES],
    'fastsegnet': ['model.width=16', *CAMVID],
    'mask2former': ['model.encoder=swin_nano', 'model.depths=[1, 1, 1, 1]', *TINY_MASKS],
    'mask2former_light': TINY_MASKS,
    'kp2dtiny_s': TINY_KP2D,
    'kp2dtiny_mcu': TINY_KP2D,
    'camvid_mtnet_small': ['model.width=16', 'model.coarse=24', *CAMVID],
    'camvid_mtan': ['model.width=16', *CAMVID],
    'camvid_fastsegnet': ['model.width=16', *CAMVID],
    'camvid_kp2dtiny_s': ['model.channels=[8, 8, 16, 16]', *CAMVID],
    'mask2former_camvid': [*TINY_MASKS[:-2], *CAMVID],
}
STEPS = ['epochs=1', 'steps_per_epoch=1', 'validate_every=1', 'log_every=1', 'workers=0', 'progress=none']
STEPS += ['size=[64, 64]', 'optimizer.warmup=1']
SMALL_MATCHER = ['size=[96, 64]', 'pairs=4', 'validation_pairs=2', 'keypoints=48', 'points=32', 'batch=2']
SMALL_MATCHER += ['epochs=1', 'steps_per_epoch=1', 'mixture={camvid: 1}', 'sets.camvid.teacher_every=0']
SMALL_MATCHER += ['model.layers=1', 'model.width=32']
SIZE = '96x64'  # in the place of every --size
ONE = ['--count', '1', '--held-out', '1', '--rounds', '1', '--threads', '1']
# what makes a tool quick
QUICK = {
    'speed': ['--rounds', '1', '--threads', '1'],
    'benchmark': ['--rounds', '1', '--threads', '1', '--count', '1'],
    'quantize': ONE,
    'prune': [*ONE, '--size', SIZE],
}
# tools that train an experiment which their command does not name: that of their checkpoint
CONTINUES = 'fastsegnet'


def read_commands():
    """Return the commands of the README's code blocks, lists of words from the executable's name on."""
    text = (PACKAGE / 'README.md').read_text(encoding='utf-8')
    lines = [
        line for block in re.findall(r'^```\n(.*?)^```', text, re.M | re.S) for line in block.splitlines()
    ]
    words = [shlex.split(line) for line in lines if line.startswith('./mt run mt_training ')]
    return [line[3:] for line in words]


COMMANDS = read_commands()


def option(words, name):
    """Return the value of an option, or None."""
    return words[words.index(name) + 1] if name in words else None


def makers():
    """Return dict: a checkpoint or model that a command uses → the command that makes it."""
    made = {}
    for words in COMMANDS:
        output = option(words, '--output')
        made[f'{output}/last.ckpt' if words[0] == 'train' else output] = words
    return made


def needs(words):
    """Return the checkpoints and models that a command reads."""
    text = ' '.join(word for word in words if word != option(words, '--output'))
    return re.findall(r'runs/\w+/last\.ckpt|(?<![\w./])\w[\w.]*\.onnx', text)


def shrink(words):
    """Return the words of a command for miniature data."""
    places = {'ROOT': 'data', 'DIR': 'data/pretrained', 'FOLDER': 'images', 'ROOT/camvid': 'data/camvid'}
    out = [places.get(word, word) for word in words]
    if '--size' in out:
        out[out.index('--size') + 1] = SIZE
    quick = list(QUICK.get(words[0], [])) if '--summary' not in words else []
    if words[0] == 'quantize' and 'static' not in words:
        quick += ['--images', 'images'] if '--images' not in words else []
    if '--finetune' in words:
        out[out.index('--finetune') + 1] = '1'
    if words[0] in ('train', 'distill') or {'--finetune', 'qat'} & set(words):
        config = option(words, '--config') or CONTINUES
        more = SMALL_MATCHER if config == 'lightglue' else [*SMALL[config], *STEPS]
        quick += ['--epochs', '1', '--size', SIZE] if 'qat' in words else []
        return [*out[1:], *quick, *more]
    if quick:
        return [*out[1:], *quick]
    if words[:2] == ['evaluate', 'keypoints']:
        return [*out[1:], '--draws', '1', '--size', '160x128', '--keypoints', '50']
    return out[1:]


@pytest.fixture(scope='module')
def world(tmp_path_factory):
    """Write the data, go there, and run what later commands need once; return the function that does."""
    root = tmp_path_factory.mktemp('world')
    write_data_at(root)
    patch = pytest.MonkeyPatch()
    patch.chdir(root)
    patch.delenv('MT_DATASETS', raising=False)
    patch.setattr('mt_training.train.START_VIEWS', 2)
    patch.setattr('mt_training.train.BALANCE_SAMPLES', 2)
    executables = dict(re.findall(r"'(\w+) = ([\w.]+):main'", (PACKAGE / 'setup.py').read_text()))
    done = set()

    def run(words):
        if tuple(words) in done:
            return
        for file in needs(words):
            assert file in MAKERS, f'the README says nowhere how {file} is made'
            run(MAKERS[file])
        status = importlib.import_module(executables[words[0]]).main(shrink(words))
        expected = (0, 1) if words[0] == 'build_engine' else (0,)  # 1 where there is no TensorRT or no GPU
        assert status in expected, f'./mt run mt_training {shlex.join(words)}'
        done.add(tuple(words))

    yield run
    patch.undo()


def write_data_at(root):
    """Write everything that the README's commands read."""
    (root / 'data').mkdir()
    write_data(root / 'data')
    write_images(root / 'images', 2, (96, 64), np.random.default_rng(0))
    write_cityscapes(root / 'cityscapes')
    write_coco(root / 'coco')
    write_vistas(root / 'vistas', 'validation')
    write_pittsburgh(root / 'pitts')
    write_hpatches(root / 'hpatches')
    (root / 'datasets.yaml').write_text(DATASETS)


MAKERS = makers()


@pytest.mark.timeout(1200)
@pytest.mark.parametrize('words', COMMANDS, ids=lambda words: f'{words[0]}-{Path(words[-1]).name[:20]}')
def test_a_command_of_the_readme_runs(words, world, capsys):
    world(words)
    output = option(words, '--output')
    assert output is None or Path(output).exists()
    if words[0] == 'build_engine':
        said = capsys.readouterr()
        assert '.engine' in said.out or 'TensorRT' in said.err


def test_files_that_the_readme_names_are_there():
    text = (PACKAGE / 'README.md').read_text(encoding='utf-8')
    links = re.findall(r'\]\((mt_training/[^)]+)\)', text)
    assert links and all((PACKAGE / path).exists() for path in links)
