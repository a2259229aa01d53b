"""
Train a small network to do what larger ones do.

::

    distill --teacher big.ckpt --config mtnet_nano --data ROOT --pretrained DIR --output runs/nano
    distill --teacher seg.ts segmentation --teacher mtnet_base.onnx depth=0.5 keypoints descriptors place \
        --config mtnet_small --data ROOT --pretrained DIR --output runs/small

A teacher is a checkpoint of train (.ckpt), an exported model (.onnx) or TorchScript (.ts, .pt); after it
stand the heads it teaches, each with its weight, by default all it has. The student is an experiment; its own
labels count too unless ``--without-labels``. This is ``train`` with the experiment's key ``distillation``
filled in: it goes on with the same command, and OUT is that of any other run.
"""

import argparse
import sys
from pathlib import Path

import torch

from mt_perception.errors import MtError
from mt_training.data.datasets_file import add_datasets_option
from mt_training.losses.teachers import NetworkTeacher, OnnxTeacher, load_teacher
from mt_training.models import NETWORKS, build_network
from mt_training.train import load_config, override, train

# task of a network → what can be taught of it
HEADS = {
    'segmentation': ('segmentation',),
    'depth': ('depth',),
    'keypoints': ('keypoints', 'descriptors'),
    'global_descriptor': ('place',),
}
ALL = tuple(head for heads in HEADS.values() for head in heads)


def parse_teacher(words, student):
    """
    Read what stands behind one ``--teacher``.

    :param words: [file, 'head' or 'head=weight', …].
    :param student: heads of the student.
    :return: (path of the file, {head: weight}), empty: all it shares with the student.
    :raises MtError: no such head, or a weight that is no positive number.
    """
    path, tasks = Path(words[0]), {}
    for word in words[1:]:
        head, equals, value = word.partition('=')
        if head not in ALL:
            raise MtError(f"--teacher {words[0]}: unknown head '{head}'; known: {', '.join(ALL)}")
        if head not in student:
            raise MtError(f"--teacher {words[0]}: the student has no '{head}'; it has {', '.join(student)}")
        try:
            tasks[head] = float(value) if equals else 1.0
        except ValueError:
            tasks[head] = 0.0
        if not tasks[head] > 0:
            raise MtError(f"--teacher {words[0]}: '{word}' is not HEAD=WEIGHT with a weight above 0")
    return path, tasks


def heads_of(teacher):
    """Return the heads a teacher has, or None when only running it would tell."""
    if isinstance(teacher, NetworkTeacher):
        return [head for task in teacher.tasks for head in HEADS[task]]
    if isinstance(teacher, OnnxTeacher):
        return [head for task, heads in HEADS.items() for head in heads if task in teacher.names]
    return None


def sections(teachers, student, temperature=2.0, relative_depth=False, load=load_teacher):
    """
    Return the value of ``distillation`` for an experiment.

    :param teachers: list of [file, 'head=weight', …]. :param student: heads of the student.
    :param load: opens a teacher's file.
    :raises MtError: a file that is no teacher, heads it does not have, or none in common.
    """
    found = []
    for words in teachers:
        path, tasks = parse_teacher(words, student)
        has = heads_of(load(path))
        if has is None and not tasks:
            raise MtError(f'--teacher {path}: TorchScript does not say what it does; name its heads after it')
        missing = [head for head in tasks if has is not None and head not in has]
        if missing:
            raise MtError(f"--teacher {path} has no '{missing[0]}'; it has {', '.join(has) or 'nothing'}")
        tasks = tasks or {head: 1.0 for head in student if head in has}
        if not tasks:
            raise MtError(f'--teacher {path} and the student share no head')
        found.append({
            'model': str(path.resolve()), 'tasks': tasks, 'temperature': temperature,
            'relative_depth': relative_depth,
        })  # fmt: skip
    return found


def student_heads(config):
    """Return the heads of an experiment's network."""
    if config['architecture'] not in NETWORKS:
        raise MtError(f"'{config['architecture']}' is not a network for images")
    with torch.device('meta'):
        net = build_network(config['architecture'], **config['model'])
    return [head for task in net.tasks for head in HEADS[task]]


def build_parser():
    """Return the parser of the command."""
    parser = argparse.ArgumentParser(
        prog='distill', description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        '--teacher', nargs='+', action='append', required=True, metavar=('FILE', 'HEAD[=WEIGHT]'),
        help=f'a file and what it teaches: {", ".join(ALL)} (default: all it has); may be repeated',
    )  # fmt: skip
    parser.add_argument(
        '--config', default='mtnet_nano', help='the student: an experiment (default: %(default)s)'
    )
    parser.add_argument('--output', required=True, help='folder for checkpoints and metrics')
    parser.add_argument('--temperature', type=float, default=2.0, help='of classes and keypoints')
    parser.add_argument('--relative-depth', action='store_true', help="the teachers' depth has no scale")
    parser.add_argument('--without-labels', action='store_true', help='learn from the teachers alone')
    parser.add_argument('--data', help='root folder of the data sets that an experiment names by folder')
    add_datasets_option(parser)
    parser.add_argument('--pretrained', required=True, help="folder of the encoder's weights")
    parser.add_argument('--init', help='weights to start from, as of train')
    parser.add_argument('--cache', help='data cache to share with other runs (default: OUT/cache)')
    parser.add_argument('--threads', type=int, default=0, help='CPU threads (0: all)')
    parser.add_argument(
        '--stop-after', type=int, help='stop after this epoch; the same command goes on later'
    )
    parser.add_argument('overrides', nargs='*', metavar='key=value', help='change a key of the experiment')
    return parser


def split_overrides(args):
    """Move ``key=value`` words that the last ``--teacher`` took to the overrides."""
    for words in args.teacher:
        taken = [w for w in words[1:] if '=' in w and w.partition('=')[0] not in ALL]
        args.overrides = [*args.overrides, *taken]
        words[:] = [words[0], *(w for w in words[1:] if w not in taken)]


def run(args):
    """
    Fill in the experiment and train; return the path of the last checkpoint.

    :raises MtError: teachers, an experiment or data that cannot be used.
    """
    split_overrides(args)
    if args.temperature <= 0:
        raise MtError(f'--temperature {args.temperature:g} is not above 0')
    if args.threads:
        torch.set_num_threads(args.threads)
    config = load_config(args.config)
    override(config, args.overrides)
    config['distillation'] = sections(
        args.teacher, student_heads(config), args.temperature, args.relative_depth
    )
    if args.without_labels:
        config['loss_weights'] = {}
    for section in config['distillation']:
        heads = ', '.join(f'{head} × {weight:g}' for head, weight in section['tasks'].items())
        print(f'{Path(section["model"]).name} teaches {heads}')
    return train(
        config, args.data, args.pretrained, args.output, args.init, args.cache, args.stop_after, args.datasets
    )


def main(argv=None):
    """Run the command; return 0, or 1 after a mistake of the user's."""
    args = build_parser().parse_args(argv)
    try:
        last = run(args)
    except MtError as error:
        print(f'distill: {error}', file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print('distill: interrupted; the same command goes on', file=sys.stderr)
        return 130
    print(f'trained; the last checkpoint is {last}')
    return 0


if __name__ == '__main__':
    sys.exit(main())
