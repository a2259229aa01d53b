"""
Keypoints and descriptors on planar scenes: the HPatches protocol, for several features side by side.

Both images of a pair are resized to one size (640x480), the k = 1000 strongest points of each are kept. The
model resizes them further, as it does at run time; ``--input-size 640x480`` shows it all pixels.
Repeatability, localization error, homography accuracy (mutual nearest neighbours or the matcher, RANSAC with
3 px, mean corner error) and matching score follow KP2D's evaluator, MMA follows D2-Net. Definitions:
mt_training.metrics.keypoints and mt_training.evaluation.planar_protocol.
"""

import cv2
import numpy as np
from tqdm import tqdm

from mt_perception.errors import EvaluationError
from mt_perception.features import create_features
from mt_perception.matching import MATCHERS, NearestMatcher, create_matcher
from mt_training.data.readers import registry
from mt_training.data.readers.images import read_rgb
from mt_training.evaluation import options
from mt_training.evaluation.aliked import AlikedFeatures
from mt_training.evaluation.output import OutputFolder
from mt_training.evaluation.pictures import keypoints as pictures
from mt_training.evaluation.planar_protocol import ACCURACY_PX, evaluate_pair, groups, summarise
from mt_training.evaluation.tables import format_table
from mt_training.metrics.homography import resized_homography

FEATURES = ('model', 'sift', 'orb', 'aliked')
SHOWN_SCENES = 6
# the accuracy of 20 pairs moves by 0.05 from draw to draw
MIN_DRAWS, ALL_DRAWS = 10, 2000
HEADERS = 'features|repeat.|loc. px|H @1|H @3|H @5|± @3|M-score|MMA @3|points|ms'.split('|')
NO_SIMILARITY = -1.0  # mutual nearest neighbours of the protocol: no threshold
DEFINITION = (
    'HPatches protocol of KP2D: k strongest points per image; repeatability, localization error and '
    'homography accuracy of the points both images show, 3 px; mutual nearest neighbours or the matcher, '
    'OpenCV RANSAC 3 px, mean corner error, mean of the draws; MMA of all matches; means over pairs'
)


def add_arguments(parser):
    """Declare the options of ``evaluate keypoints``."""
    options.add_dataset_options(parser, registry.names('planar'))
    parser.add_argument(
        '--features', nargs='+', choices=FEATURES, default=['model'], help='one or several (default: model)'
    )
    parser.add_argument(
        '--matcher',
        nargs='+',
        choices=MATCHERS,
        default=['nearest'],
        help='for the model: one or both (default: nearest)',
    )
    parser.add_argument(
        '--matcher-model', metavar='L.onnx', help='matcher model of lightglue; default: the shipped one'
    )
    parser.add_argument(
        '--aliked-weights', metavar='PATH', help='weights of aliked, such as aliked-n16rot.pth'
    )
    parser.add_argument(
        '--size',
        type=options.parse_size,
        default=(640, 480),
        metavar='WxH',
        help='both images (default: 640x480)',
    )
    parser.add_argument(
        '--keypoints', type=int, default=1000, metavar='K', help='strongest per image (default: 1000)'
    )
    parser.add_argument(
        '--min-score', type=float, default=0.0, help='model: smallest score of a keypoint (default: 0)'
    )
    parser.add_argument(
        '--draws',
        type=int,
        metavar='N',
        help=f'RANSAC draws that are averaged per pair (default: {MIN_DRAWS}, more where pairs are few, so '
        f'that there are {ALL_DRAWS} in all)',
    )
    parser.add_argument(
        '--skip-large', action='store_true', help='hpatches: without the 8 scenes that D2-Net leaves out'
    )
    options.add_model_options(parser)
    options.add_output_option(parser, 'keypoints')


def run(args):
    """
    Evaluate and write the results.

    :return: the content of ``metrics.json``.
    :raises MtError: data, model or output that cannot be used.
    """
    if args.keypoints < 1 or (args.draws is not None and args.draws < 1) or min(args.size) < 16:
        raise EvaluationError('--keypoints and --draws are at least 1, --size at least 16x16')
    scenes = options.open_dataset(args, 'planar', skip_large=args.skip_large or None)
    if args.frames:
        raise EvaluationError('--frames takes parts of sequences; planar scenes are evaluated whole')
    output = OutputFolder(args.output)
    extractors, matchers, weights = open_features(args)
    count = sum(len(scene.pairs) for scene in scenes)
    draws = args.draws or max(MIN_DRAWS, ALL_DRAWS // max(count, 1))
    pairs, extract_ms, drawings = evaluate(scenes, extractors, matchers, args.size, draws)

    results = {}
    for name, rows in pairs.items():
        results[name] = {
            **summarise(rows),
            'extract_ms': float(np.median(extract_ms[name.partition('+')[0]])),
            'groups': {group: summarise(members) for group, members in groups(rows).items()},
            'scenes': {
                scene.name: summarise([r for r in rows if r['scene'] == scene.name]) for scene in scenes
            },
        }
    single = next(iter(results.values())) if len(results) == 1 else {}
    result = {
        'task': 'keypoints',
        **single,
        **({} if single else results),
        'features': list(results),
        'protocol': {'size': args.size, 'keypoints': args.keypoints, 'draws': draws, 'ransac_px': 3.0},
        'dataset': {'name': args.dataset, 'root': args.root, 'scenes': len(scenes)},
        'weights': weights,
        'machine': options.describe_machine(),
        'definition': DEFINITION,
    }
    for name, scene, figure in pictures.matches_of_scenes(drawings, SHOWN_SCENES):
        output.write_figure(f'{name}_{scene}.png', figure)
    output.write_figure('comparison.png', pictures.comparison(results))
    output.write_csv('pairs.csv', csv_rows(pairs))
    output.write_metrics(result)
    print_tables(results, scenes)
    print(f'{single.get("pairs") or len(next(iter(pairs.values())))} pairs   results in {output.path}')
    return result


def open_features(args):
    """
    Make what ``--features`` and ``--matcher`` name.

    :return: ({features: extractor}, {result name: (features, matcher)}, {'model' or 'lightglue':
        description}).
    """
    extractors, matchers, weights = {}, {}, {}
    for name in dict.fromkeys(args.features):
        if name == 'model':
            pipeline = _open_model(args)
            weights[name] = options.describe_pipeline(pipeline, args.size)
            extractors[name] = pipeline
            for matcher in dict.fromkeys(args.matcher):
                key = name if matcher == 'nearest' else f'{name}+{matcher}'
                matchers[key] = (name, _open_matcher(matcher, args))
                if matcher != 'nearest':
                    weights[matcher] = options.describe_engine(matchers[key][1].engine)
            continue
        if name == 'aliked':
            extractors[name] = AlikedFeatures(args.aliked_weights, args.keypoints)
        else:
            extractors[name] = create_features(name, args.keypoints)
        matchers[name] = (name, NearestMatcher(NO_SIMILARITY))
    return extractors, matchers, weights


def _open_model(args):
    """Start the model; the network sees the size it sees at run time, or ``--input-size``."""
    pipeline = options.open_pipeline(args, 'keypoints', args.keypoints, args.min_score)
    most = pipeline.metadata.max_keypoints
    if most < args.keypoints:
        print(f'note: the model gives at most {most} of the {args.keypoints} keypoints asked for')
    return pipeline


def _open_matcher(name, args):
    if name == 'nearest':
        return NearestMatcher(NO_SIMILARITY)
    return create_matcher(
        name,
        args.matcher_model,
        max_keypoints=args.keypoints,
        engine=args.engine,
        precision=args.precision,
        threads=args.threads,
    )


def evaluate(scenes, extractors, matchers, size, draws):
    """
    Run all features over all scenes.

    :param scenes: list of :class:`mt_training.data.readers.planar.PlanarScene`.
    :param extractors: {features: object with ``process(image, tasks=…)``}.
    :param matchers: {result name: (features, matcher)}.
    :param size: (width, height) all images are resized to.
    :param draws: RANSAC draws per pair.
    :return: ({result name: rows of pairs}, {features: milliseconds of the images}, drawings of one pair per
        scene).
    """
    pairs = {name: [] for name in matchers}
    extract_ms = {name: [] for name in extractors}
    drawings = []
    for extractor in extractors.values():  # the first call is slower than the others
        extractor.process(np.zeros((size[1], size[0], 3), np.uint8), tasks=('keypoints',))
    with tqdm(
        total=sum(len(scene.images) for scene in scenes), desc='keypoints', unit='image', disable=None
    ) as progress:
        for scene in scenes:
            reference, sizes, found = None, [], {name: [] for name in extractors}
            drawn = scene.pairs[(len(scene.pairs) - 1) // 2][0]
            for index, path in enumerate(scene.images):
                image = read_rgb(path)
                sizes.append((image.shape[1], image.shape[0]))
                image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
                reference = image if index == 0 else reference
                for name, extractor in extractors.items():
                    perception = extractor.process(image, tasks=('keypoints',))
                    found[name].append(perception.keypoints)
                    extract_ms[name].append(sum(perception.timings_ms.values()))
                if index == 0:
                    progress.update()
                    continue
                homography = resized_homography(scene.homographies[index - 1], sizes[0], sizes[index], size)
                for name, (features, matcher) in matchers.items():
                    first, second = found[features][0], found[features][index]
                    row, matches = evaluate_pair(first, second, homography, matcher, draws)
                    pairs[name].append({'scene': scene.name, 'image': path.stem, **row})
                    if index == drawn:
                        drawings.append(
                            (name, scene.name, reference, image, first, second, matches, homography, row)
                        )
                progress.update()
    return pairs, extract_ms, drawings


def csv_rows(pairs):
    """One flat row per features and pair."""
    rows = []
    for name, members in pairs.items():
        for pair in members:
            flat = {key: value for key, value in pair.items() if key not in ('mma', 'corner_error_px')}
            flat.update({f'mma_{t}': pair['mma'][t - 1] for t in ACCURACY_PX})
            flat['corner_error_px_median'] = float(np.median(pair['corner_error_px']))
            rows.append({'features': name, **flat})
    return rows


def print_tables(results, scenes):
    """Print the comparison, and the homography accuracy of every scene when there are few."""
    rows = []
    for name, r in results.items():
        accuracy = [r['homography_accuracy'][str(t)] for t in ACCURACY_PX]
        quality = [r['homography_accuracy_std']['3'], r['matching_score'], r['mma']['3']]
        found = [r['repeatability'], r['localization_error_px']]
        rows.append([name, *found, *accuracy, *quality, round(r['keypoints_per_image']), r['extract_ms']])
    print(format_table(HEADERS, rows))
    parts = [scene.name for scene in scenes] if 1 < len(scenes) <= 12 else []
    group_names = list(next(iter(results.values()))['groups'])
    rows = []
    for name, r in results.items():
        members = [r['scenes'][part] for part in parts] + [r['groups'][group] for group in group_names]
        rows.append([name, *(member['homography_accuracy']['3'] for member in members)])
    print()
    print(format_table(['H @3', *parts, *group_names], rows))
