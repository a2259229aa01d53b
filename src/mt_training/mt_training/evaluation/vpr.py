"""
Visual place recognition: Recall@1, 5, 10 of the global descriptor.

Every query is compared with every reference by the dot product of the unit vectors; a query counts at N when
one of its N most similar references is a true one. Queries without a true reference stay in the denominator.
Definitions: mt_training.metrics.retrieval.
"""

from pathlib import Path

import numpy as np
from tqdm import tqdm

from mt_perception.errors import EvaluationError
from mt_training.data.datasets_file import Datasets
from mt_training.data.readers import places, registry
from mt_training.data.readers.images import read_rgb
from mt_training.evaluation import options
from mt_training.evaluation.output import OutputFolder
from mt_training.evaluation.pictures import vpr as pictures
from mt_training.evaluation.pixels import PixelDescriptor
from mt_training.evaluation.tables import format_table
from mt_training.metrics import retrieval as metrics

FEATURES = ('model', 'pixels')
RECALL_AT = (1, 5, 10)
SHOWN_QUERIES = 4
DEFINITION = (
    'dot product of unit vectors (pixels: absolute difference); recall over all queries, those without a '
    'true reference included; extract_ms is the median over all images'
)


def add_arguments(parser):
    """Declare the options of ``evaluate vpr``."""
    options.add_dataset_options(parser, registry.names('places'), frames=False)
    parser.add_argument('--split', help='part of the data set (default: test, of those that have splits)')
    parser.add_argument(
        '--features', nargs='+', choices=FEATURES, default=['model'], help='one or both (default: model)'
    )
    parser.add_argument(
        '--tolerance',
        type=int,
        metavar='N',
        help='without ground_truth.csv: places before and after in name order that count too '
        f'(default: {places.DEFAULT_TOLERANCE})',
    )
    parser.add_argument(
        '--frames',
        type=options.parse_range,
        default=slice(None),
        metavar='A:B[:STEP]',
        help='part of the places',
    )
    parser.add_argument('--query', metavar='SEASON', help=f'nordland (default: {places.NORDLAND_QUERY})')
    parser.add_argument(
        '--reference', metavar='SEASON', help=f'nordland (default: {places.NORDLAND_REFERENCE})'
    )
    options.add_model_options(parser)
    options.add_output_option(parser, 'vpr')


def run(args):
    """
    Evaluate and write the results.

    :return: the content of ``metrics.json``.
    :raises MtError: data, model or output that cannot be used.
    """
    data = read_places(args)
    output = OutputFolder(args.output)
    results, similarities, weights = {}, {}, None
    for name in dict.fromkeys(args.features):
        if name == 'pixels':
            results[name], similarities[name], _ = evaluate(data, PixelDescriptor(), name)
            continue
        pipeline = options.open_pipeline(args, 'global_descriptor')
        with pipeline.engine:
            results[name], similarities[name], image_size = evaluate(data, pipeline, name)
            weights = options.describe_pipeline(pipeline, image_size)
    single = next(iter(results.values())) if len(results) == 1 else {}
    counts = {
        'queries': len(data.queries),
        'references': len(data.references),
        'queries_without_reference': sum(len(p) == 0 for p in data.positives),
    }
    result = {
        'task': 'vpr',
        **single,
        **({} if single else results),
        **counts,
        'features': list(results),
        'truth': data.truth,
        'dataset': {
            'name': args.dataset,
            'root': args.root,
            'split': args.split,
            'frames': [args.frames.start, args.frames.stop, args.frames.step],
        },
        'weights': weights,
        'machine': options.describe_machine(),
        'definition': DEFINITION,
    }
    for name, similarity in similarities.items():
        ranking = metrics.rank_references(similarity)
        output.write_figure(f'{name}_similarity.png', pictures.similarity(similarity, data.positives))
        output.write_figure(
            f'{name}_examples.png', pictures.examples(data, similarity, ranking, SHOWN_QUERIES)
        )
    output.write_figure('recall.png', pictures.recall_curves(similarities, data.positives))
    output.write_metrics(result)
    print_table(results, counts, data.truth, output)
    return result


def read_places(args):
    """Read the data set of the options, an EvaluationError where they do not fit together."""
    if args.tolerance is not None and args.tolerance < 0:
        raise EvaluationError('--tolerance is at least 0')
    seasons = {key: getattr(args, key) for key in ('query', 'reference')}
    source = Datasets(args.datasets).source(args.dataset, args.root)
    if any(seasons.values()) and source.dataset != 'nordland':
        raise EvaluationError('--query and --reference name seasons of nordland only')
    if args.tolerance is not None and (Path(source.root).expanduser() / places.GROUND_TRUTH).is_file():
        print(f'note: {places.GROUND_TRUTH} says which references are true, --tolerance is not used')
    return options.open_dataset(args, 'places', tolerance=args.tolerance, selection=args.frames, **seasons)


def evaluate(data, extractor, name):
    """
    Describe all images and rank the references of every query.

    :param data: :class:`mt_training.data.readers.places.Places`.
    :param extractor: object with ``process(image, tasks=…)``.
    :return: (dict of numbers, [Q,R] similarities, (width, height) of the first query).
    """
    first = read_rgb(data.queries[0])
    extractor.process(first, tasks=('global_descriptor',))  # the first call is slower than the others
    queries, query_ms = describe(data.queries, extractor, f'{name} queries')
    references, reference_ms = describe(data.references, extractor, f'{name} references')
    compare = getattr(extractor, 'similarity', np.inner)  # of unit vectors the cosine
    similarity = compare(queries, references)
    ranking = metrics.rank_references(similarity)
    recall = metrics.recall_at(ranking, data.positives, RECALL_AT)
    numbers = {
        'recall': {str(n): value for n, value in zip(RECALL_AT, recall)},
        'recall_at_full_precision': metrics.recall_at_full_precision(similarity, data.positives),
        'descriptor_dim': queries.shape[1],
        'extract_ms': float(np.median(query_ms + reference_ms)),
    }
    return numbers, similarity, (first.shape[1], first.shape[0])


def describe(paths, extractor, label):
    """Return the descriptors [N,G] float32 of images, and the milliseconds of each."""
    vectors, milliseconds = [], []
    for path in tqdm(paths, desc=label, unit='image', disable=None):
        perception = extractor.process(read_rgb(path), tasks=('global_descriptor',))
        vectors.append(perception.global_descriptor)
        milliseconds.append(sum(perception.timings_ms.values()))
    return np.stack(vectors).astype(np.float32), milliseconds


def print_table(results, counts, truth, output):
    """Print recall and cost of all features."""
    rows = []
    for name, r in results.items():
        recall = [r['recall'][str(n)] for n in RECALL_AT]
        rows.append([name, *recall, r['recall_at_full_precision'], r['descriptor_dim'], r['extract_ms']])
    print(format_table(['features', 'R@1', 'R@5', 'R@10', 'R@100% precision', 'dim', 'ms'], rows))
    without = counts['queries_without_reference']
    print(
        f'{counts["queries"]} queries ({without} without a true reference, counted as not found), '
        f'{counts["references"]} references; truth: {truth}; results in {output.path}'
    )
