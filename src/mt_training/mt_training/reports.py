"""What a changed model costs and what it saves: head by head, megabytes, milliseconds in one run."""

from pathlib import Path

from mt_training.comparison import compare, describe, onnx_runner
from mt_training.evaluation.tables import format_table
from mt_training.timing import alternate, summarise


def report(before, after, images, rounds=20, threads=0):
    """
    Compare two files of a model on the CPU.

    :param before: ONNX file that is taken as right.
    :param after: the changed one.
    :param images: list of [1,H,W,3] uint8, none of which the change was made with.
    :param rounds: timed runs of either, in turns.
    :param threads: of ONNX Runtime, 0 = one per core.
    :return: dict ``differences``, ``megabytes`` [before, after], ``ms`` {'before', 'after'} as
        :func:`mt_training.timing.summarise`, ``images``.
    """
    runners = {'before': onnx_runner(before, threads), 'after': onnx_runner(after, threads)}
    return {
        'differences': compare(runners['before'], runners['after'], images),
        'megabytes': [Path(p).stat().st_size / 1e6 for p in (before, after)],
        'ms': summarise(alternate(runners, images, rounds)) if rounds else {},
        'images': len(images),
    }


def print_report(found, words=('float', 'int8')):
    """Print what :func:`report` found."""
    count = found['images']
    print(format_table([f'difference, {count} images', ''], describe(found['differences'])))
    print()
    rows = [['MB', *found['megabytes'], found['megabytes'][1] / found['megabytes'][0]]]
    if found['ms']:
        before, after = found['ms']['before'], found['ms']['after']
        rows.append(['CPU ms, median', before['p50_ms'], after['p50_ms'], after['ratio']])
        rows.append(['CPU ms, p95', before['p95_ms'], after['p95_ms'], after['p95_ms'] / before['p95_ms']])
    print(format_table(['', *words, 'ratio'], rows))
    if found['ms'] and found['ms']['after']['ratio'] > 1:
        print(f'{words[1]} is slower than {words[0]} on this processor')
