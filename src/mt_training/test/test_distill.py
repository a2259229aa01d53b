"""``distill``: which teacher teaches what, and that the student learns it."""

import pytest

torch = pytest.importorskip('torch', reason='needs the training environment: ./mt build --training')
pytest.importorskip('lightning', reason='needs the training environment: ./mt build --training')

from mt_perception.errors import MtError  # noqa: E402
from mt_training.distill import main, sections, student_heads  # noqa: E402
from mt_training.export import load_net  # noqa: E402
from mt_training.losses.teachers import ScriptTeacher  # noqa: E402
from tiny_checkpoint import write_checkpoint  # noqa: E402
from tiny_experiment import figures, tiny_config, write_config, write_data  # noqa: E402
from tiny_model import write_tiny_model  # noqa: E402

ALL = ['segmentation', 'depth', 'keypoints', 'descriptors', 'place']


def test_heads_are_what_both_have(tmp_path):
    student = student_heads(tiny_config())
    assert student == ALL
    big = write_tiny_model(tmp_path / 'big.onnx', tasks=['depth', 'keypoints'])
    found = sections([[str(big)], [str(big), 'depth=0.5']], student, 3.0, True)
    assert found[0]['tasks'] == {'depth': 1.0, 'keypoints': 1.0, 'descriptors': 1.0}
    assert found[1] == {
        'model': str(big.resolve()), 'tasks': {'depth': 0.5}, 'temperature': 3.0, 'relative_depth': True
    }  # fmt: skip
    only = student_heads({'architecture': 'fastsegnet', 'model': {'classes': 11}})
    with pytest.raises(MtError, match='share no head'):
        sections([[str(big)]], only)
    with pytest.raises(MtError, match="the student has no 'depth'"):
        sections([[str(big), 'depth']], only)
    script = ScriptTeacher(torch.nn.Identity())
    with pytest.raises(MtError, match='name its heads'):
        sections([['x.ts']], student, load=lambda path: script)
    assert sections([['x.ts', 'depth']], student, load=lambda path: script)[0]['tasks'] == {'depth': 1.0}


def test_a_student_learns_from_a_checkpoint(tmp_path):
    torch.set_num_threads(1)
    data = write_data(tmp_path / 'data')
    teacher = write_checkpoint(tmp_path / 'teacher')
    student = tiny_config(epochs=1, steps_per_epoch=2, schedule=[['camvid']], validation={})
    words = ['--teacher', teacher, 'segmentation', 'depth=0.5', 'seed=3', '--config']
    words += [write_config(tmp_path / 's.yaml', student), '--data', data, '--pretrained', data / 'pretrained']
    words += ['--output', tmp_path / 'out', '--without-labels', '--threads', '1']
    assert main([str(word) for word in words]) == 0
    rows = figures(tmp_path / 'out')
    assert {'distill/segmentation', 'distill/depth', 'loss'} <= set(rows[0]) and 'segmentation' not in rows[0]
    assert rows[0]['loss'] == pytest.approx(
        rows[0]['distill/segmentation'] + rows[0]['distill/depth'], rel=1e-4
    )
    _, config = load_net(tmp_path / 'out/last.ckpt')
    assert config['distillation'][0]['tasks'] == {'segmentation': 1.0, 'depth': 0.5} and config['seed'] == 3


@pytest.mark.parametrize(
    ('words', 'sentence'),
    [
        (('nowhere.ckpt',), 'nowhere.ckpt'),
        (('{model}', 'deph'), "unknown head 'deph'"),
        (('{model}', 'depth=-1'), 'weight above 0'),
        (('{model}', 'segmentation'), "has no 'segmentation'"),
        (('{model}', '--config', 'nothing'), "no experiment 'nothing'"),
        (('{model}', '--temperature', '0'), '--temperature 0'),
    ],
)
def test_mistakes_are_one_sentence(words, sentence, tmp_path, capsys):
    model = write_tiny_model(tmp_path / 'm.onnx', tasks=['depth'])
    words = [word.format(model=model) for word in words]
    assert main(['--teacher', *words, '--pretrained', 'x', '--output', str(tmp_path / 'out')]) == 1
    message = capsys.readouterr().err
    assert message.startswith('distill: ') and sentence in message and message.count('\n') == 1
    assert not (tmp_path / 'out').exists()
