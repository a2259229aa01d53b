"""What a student learns from a teacher, by hand, and from teachers of every form."""

import math

import pytest

torch = pytest.importorskip('torch', reason='needs the training environment: ./mt build --training')
pytest.importorskip('onnxruntime')

from mt_perception.errors import MtError  # noqa: E402
from mt_training.losses.distillation import (  # noqa: E402
    descriptors,
    distillation_losses,
    hard_segmentation,
    keypoint_scores,
    log_depth_l1,
    place,
    points_to_cells,
    relation,
    soft_segmentation,
)
from mt_training.losses.keypoints import sample_descriptors  # noqa: E402
from mt_training.losses.teachers import NetworkTeacher, Teachers, load_teacher  # noqa: E402
from mt_training.models.mtnet import MtNet  # noqa: E402


def test_soft_segmentation_by_hand():
    # one pixel, two classes; softened by T = 2 the logits 2 ln 3 and 0 are probabilities ¾ and ¼
    teacher = torch.tensor([2 * math.log(3), 0.0]).view(1, 2, 1, 1)
    student = torch.zeros(1, 2, 1, 1)
    expected = 4 * (0.75 * math.log(0.75 / 0.5) + 0.25 * math.log(0.25 / 0.5))
    assert soft_segmentation(student, teacher, 2.0).item() == pytest.approx(expected, rel=1e-5)
    assert soft_segmentation(teacher, teacher, 2.0).item() == pytest.approx(0, abs=1e-7)


def test_confidence_weighs_pixels():
    logits, ids = torch.zeros(1, 2, 1, 3), torch.tensor([[[0, 1, 255]]])
    logits[0, 0, 0, 0] = math.log(3)  # 3:1 for the right class
    confidence = torch.tensor([[[1.0, 0.5, 1.0]]])
    expected = (math.log(4 / 3) + 0.5 * math.log(2)) / 1.5
    assert hard_segmentation(logits, ids, confidence).item() == pytest.approx(expected, rel=1e-5)
    log_depth = torch.zeros(1, 1, 1, 3)
    teacher = torch.tensor([[[[0.2, -0.6, math.nan]]]])
    assert log_depth_l1(log_depth, teacher, confidence[:, None]).item() == pytest.approx((0.2 + 0.3) / 1.5)
    assert log_depth_l1(log_depth, teacher).item() == pytest.approx(0.4)


def test_relative_depth_does_not_see_the_scale():
    torch.manual_seed(0)
    log_depth = torch.randn(2, 1, 6, 6)
    assert log_depth_l1(log_depth, log_depth + 0.8, relative=True).item() == pytest.approx(0, abs=1e-6)
    assert log_depth_l1(log_depth, log_depth + 0.8).item() == pytest.approx(0.8, rel=1e-5)


def test_relation_by_hand():
    student = torch.tensor([[[1.0, 0.0], [0.0, 2.0]]])  # cosine 0
    teacher = torch.tensor([[[1.0, 0, 0], [3.0, 4.0, 0]]])  # cosine 0.6
    assert relation(student, teacher).item() == pytest.approx(0.36)
    rotated = torch.tensor([[[0.0, 0, 2], [0, -1, 0]]])
    assert relation(student, rotated).item() == 0, 'a rotation keeps all relations'
    valid = torch.tensor([[True, False]])
    assert relation(student, teacher, valid).item() == 0


def test_place_by_hand():
    student, teacher = torch.eye(2), torch.tensor([[1.0, 0.0], [0.6, 0.8]])
    assert place(student, teacher).item() == pytest.approx(0.36 + (0 + 0.2) / 2)
    assert place(student, torch.cat([teacher, torch.zeros(2, 1)], 1)).item() == pytest.approx(0.36)


def test_points_become_cells():
    points = torch.tensor([[[5.0, 6.0], [6.2, 4.9], [100.0, 3.0], [0.0, 0.0]]])
    scores = torch.tensor([[0.9, 0.2, 1.0, 0.0]])
    cells = points_to_cells(points, scores, (8, 16))
    assert cells.shape == (1, 2, 4)
    assert cells[0, 1, 1] == 2 * 4 + 1 and (cells == 16).sum() == 7


def test_scores_of_a_finer_teacher_are_pooled():
    teacher = torch.zeros(1, 1, 4, 4)
    teacher[0, 0, 1, 1] = 1
    scores = torch.tensor([[[[0.9, 0.1], [0.1, 0.1]]]])
    assert keypoint_scores(scores, teacher).item() == pytest.approx(-math.log(0.9), rel=1e-5)


@pytest.fixture(scope='module')
def nets():
    """Make a teacher and a student that are not the same."""
    torch.manual_seed(0)
    return [MtNet(width=16, keypoint_width=16, global_dim=dim) for dim in (32, 24)]


ALL = {'segmentation': 1.0, 'depth': 0.5, 'keypoints': 1.0, 'descriptors': 1.0, 'place': 2.0}


def test_a_student_equal_to_its_teacher_has_nothing_to_learn(nets):
    teacher, student = nets
    images = torch.rand(2, 3, 64, 64) * 255
    teachers = Teachers([{'model': 'x', 'tasks': ALL}], load=lambda path: NetworkTeacher(teacher))
    taught = teachers.teach(images)
    same = teachers.losses(teacher.eval()(images), taught, (64, 64))
    other = teachers.losses(student.eval()(images), taught, (64, 64))
    assert set(same) == {f'distill/{task}' for task in ALL}
    assert all(same[k].item() == pytest.approx(0, abs=1e-5) for k in same)
    # to random networks all places look alike
    assert all(other[f'distill/{k}'].item() > 1e-3 for k in ALL if k != 'place')
    assert all(value.requires_grad for value in other.values())
    plain = distillation_losses(student(images), taught[0], (64, 64), {})
    torch.testing.assert_close(other['distill/place'], 2 * plain['place'])


def test_teachers_from_files(nets, tmp_path):
    from mt_training.export import export
    from mt_training.train import load_config

    teacher, student = nets
    config = load_config('mtnet_small')
    config['model'].update(width=16, keypoint_width=16, global_dim=32)
    config['export']['max_keypoints'] = 32
    export(teacher.eval(), config, tmp_path / 'teacher.onnx', size=(64, 64))
    onnx = load_teacher(tmp_path / 'teacher.onnx')
    images = (torch.rand(2, 3, 64, 64) * 255).round()
    said = onnx(images, ('segmentation', 'depth', 'keypoints', 'global_descriptor'))
    out = teacher(images)
    torch.testing.assert_close(said['global_descriptor'], out['global_descriptor'], atol=1e-3, rtol=0)
    labels = torch.nn.functional.interpolate(out['segmentation'], scale_factor=4.0, mode='bilinear').argmax(1)
    assert (said['segmentation_ids'] == labels).float().mean() > 0.99
    found = sample_descriptors(out['descriptors'], said['points'])
    valid = said['scores'] > 0
    torch.testing.assert_close(found[valid], said['point_descriptors'][valid], atol=1e-3, rtol=0)
    assert descriptors(out['descriptors'], said['points'], said['point_descriptors'], valid).item() < 1e-4
    losses = distillation_losses(student.train()(images), said, (64, 64), {})
    assert set(losses) == set(ALL)
    sum(losses.values()).backward()
    assert all(torch.isfinite(p.grad).all() for p in student.parameters() if p.grad is not None)

    class Segmenter(torch.nn.Module):
        def forward(self, image):
            return image[:, :, ::4, ::4] / 255

    torch.jit.script(Segmenter()).save(str(tmp_path / 'teacher.ts'))
    script = load_teacher(tmp_path / 'teacher.ts')
    torch.testing.assert_close(script(images, ['segmentation'])['segmentation'], images[:, :, ::4, ::4] / 255)


@pytest.mark.parametrize(
    ('section', 'sentence'),
    [
        ({'model': '/nowhere.onnx', 'tasks': {'depth': 1}}, 'nowhere.onnx does not exist'),
        ({'model': 'x', 'task': {}}, r'distillation\[0\] needs model and tasks'),
        ({'model': 'x', 'tasks': {'deph': 1}}, r'distillation\[0\].tasks: unknown deph'),
    ],
)
def test_wrong_teachers_get_one_sentence(section, sentence):
    with pytest.raises(MtError, match=sentence):
        Teachers([section])


@pytest.mark.parametrize('name', ['bad.onnx', 'bad.ts', 'bad.txt'])
def test_files_that_are_no_teachers_get_one_sentence(name, tmp_path):
    (tmp_path / name).write_bytes(b'nothing of use')
    with pytest.raises(MtError, match=name):
        load_teacher(tmp_path / name)


@pytest.mark.parametrize('kind', ['logits', 'ids'])
def test_a_teacher_of_other_classes_is_one_sentence(kind):
    def teach(images, tasks):
        logits = torch.zeros(len(images), 19, 8, 8)
        logits[:, 18] = 1
        return {'segmentation': logits} if kind == 'logits' else {'segmentation_ids': logits.argmax(1)}

    teachers = Teachers([{'model': 'city.ckpt', 'tasks': {'segmentation': 1.0}}], load=lambda path: teach)
    out = {'segmentation': torch.zeros(2, 11, 8, 8)}
    words = teachers.teach(torch.zeros(2, 3, 32, 32))
    with pytest.raises(MtError, match=r'city\.ckpt tells 19 classes apart, this network 11'):
        teachers.losses(out, words, (32, 32))
    out['segmentation'] = torch.zeros(2, 19, 8, 8)
    assert teachers.losses(out, words, (32, 32))['distill/segmentation'] >= 0
