"""
All tasks of a model on all data sets there are, in one run.

::

    evaluate all --model M.onnx --datasets datasets.yaml --output OUT
    evaluate all --model M.onnx --segmentation camvid=DIR --depth rgbd=DIR --keypoints oxford_affine=DIR \
        --vpr corridor=DIR --output OUT

Without sets of one's own every set of datasets.yaml is taken that suits a task of the model. Each evaluation
writes its metrics.json and pictures to OUT/TASK_NAME; OUT/metrics.json holds the main numbers of all. One
that fails does not stop the others. A run that was stopped goes on with the same command: what is there for
this model is kept.
"""

import hashlib
import json
import sys
from pathlib import Path

from mt_perception.errors import EvaluationError, MtError
from mt_perception.inference.contract import read_model
from mt_perception.inference.models import default_model
from mt_training.card import FIGURES, look_up
from mt_training.data.datasets_file import Datasets
from mt_training.data.readers import registry
from mt_training.evaluation import options
from mt_training.evaluation.output import OutputFolder
from mt_training.evaluation.tables import format_table

# task of the command → task of the model, kind of its sets, label they must have
TASKS = {
    'segmentation': ('segmentation', 'frames', 'segmentation'),
    'depth': ('depth', 'frames', 'depth'),
    'keypoints': ('keypoints', 'planar', None),
    'vpr': ('global_descriptor', 'places', None),
}


def add_arguments(parser):
    """Declare the options of ``evaluate all``."""
    for task in TASKS:
        parser.add_argument(
            f'--{task}',
            nargs='*',
            metavar='NAME[=DIR]',
            help='sets for it, with their folders; none: leave it out',
        )
    options.add_datasets_option(parser)
    parser.add_argument('--again', action='store_true', help='also what is there already')
    options.add_model_options(parser)
    options.add_output_option(parser, 'all')


def plan(args, tasks):
    """
    Choose what is evaluated.

    :param args: options. :param tasks: of the model.
    :return: list of (task of the command, name of the set, folder or None).
    :raises EvaluationError: nothing to evaluate, or a task that the model does not have.
    """
    chosen = []
    given = any(getattr(args, task) is not None for task in TASKS)
    datasets = Datasets(args.datasets)
    for task, (needed, kind, label) in TASKS.items():
        entries = getattr(args, task)
        if entries and needed not in tasks:
            raise EvaluationError(f'--{task}: the model has no task {needed}; it has {", ".join(tasks)}')
        for entry in entries or ():
            name, _, folder = entry.partition('=')
            chosen.append((task, name, folder or None))
        if not given and needed in tasks:
            for name, source in datasets.sources.items():
                found = registry.entry_of(source.dataset)
                if found.kind == kind and (label is None or label in found.labels):
                    chosen.append((task, name, None))
    if not chosen:
        raise EvaluationError(
            f"nothing to evaluate: '{datasets.path}' names no set that suits the model; say --segmentation "
            'NAME=DIR, --depth NAME=DIR, --keypoints NAME=DIR or --vpr NAME=DIR'
        )
    return chosen


def words_for(args, task, name, folder, output):
    """Return the command line of one evaluation."""
    words = [task, '--dataset', name, '--output', str(output), '--engine', args.engine]
    words += ['--precision', args.precision, '--threads', str(args.threads)]
    for option, value in (('--model', args.model), ('--root', folder), ('--datasets', args.datasets)):
        words += [option, str(value)] if value else []
    if args.input_size != (0, 0):
        words += ['--input-size', '{}x{}'.format(*args.input_size)]
    return words + (['--debug', str(args.debug)] if args.debug else [])


def kept(output, digest):
    """Return what an earlier run wrote to a folder for the model with this hash, else None."""
    try:
        metrics = json.loads((output / 'metrics.json').read_text(encoding='utf-8'))
    except (OSError, ValueError):
        return None
    weights = metrics.get('weights') or {}
    return metrics if digest in (weights.get('sha256'), weights.get('model', {}).get('sha256')) else None


def run(args):
    """
    Evaluate everything and write the results.

    :return: the content of ``metrics.json``.
    :raises MtError: a model that cannot be used, nothing to evaluate, or an evaluation that failed.
    """
    from mt_training.evaluation.cli import build_parser, evaluate

    model = read_model(default_model() if args.model is None else args.model, 'perception')
    digest = hashlib.sha256(model.path.read_bytes()).hexdigest()
    chosen = plan(args, model.metadata.tasks)
    output = OutputFolder(args.output)
    found, failed = {}, {}
    for number, (task, name, folder) in enumerate(chosen, 1):
        key = f'{task}_{Path(name).name}'
        print(f'[{number}/{len(chosen)}] {task} on {name}', file=sys.stderr)
        metrics = None if args.again else kept(output.path / key, digest)
        if metrics is None:
            try:
                metrics = evaluate(
                    build_parser().parse_args(words_for(args, task, name, folder, output.path / key))
                )
            except MtError as error:
                failed[key] = str(error)
                print(f'evaluate {task}: {error}', file=sys.stderr)
                continue
        found[key] = {path: look_up(metrics, path) for path, _, _ in FIGURES[task][1]}
    result = {
        'task': 'all',
        'model_id': model.metadata.model_id,
        'evaluations': found,
        'failed': failed,
        'machine': options.describe_machine(),
    }
    output.write_metrics(result)
    rows = [[key, f'{value:.3f}' if value is not None else '-'] for key, value in flat(found)]
    print(format_table(['', ''], rows) if rows else 'nothing could be evaluated')
    print(f'results in {output.path}')
    if failed:
        raise EvaluationError(f'{len(failed)} of {len(chosen)} failed: {", ".join(failed)}')
    return result


def flat(found):
    """Return the numbers of all evaluations as pairs (name, value)."""
    return [(f'{key}: {path}', value) for key, numbers in found.items() for path, value in numbers.items()]
