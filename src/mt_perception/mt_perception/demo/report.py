"""The page that shows what a run of the system gave, its pictures and ``metrics.json``."""

import datetime
from html import escape
from pathlib import Path
from string import Template

import cv2
import numpy as np

import mt_perception
from mt_perception.demo import analysis, html, pictures, plots
from mt_perception.demo.run import MATCH_GAP, SPARE_FRAMES
from mt_perception.evaluation.machine import describe_machine
from mt_perception.evaluation.output import plain, write_json
from mt_perception.matching import Matches, create_matcher
from mt_perception.perception import visualize
from mt_perception.writing import write_bytes

PICTURE_WIDTH = 760
PAIRS = 3
LINES = 120  # matches drawn in one picture, so that one sees where they go
PICTURE_FILES = ('frame_[0-9][0-9][0-9][0-9][0-9]_*.png', 'matches_[0-9][0-9][0-9][0-9][0-9]_*.png')
SLOWED = 0.9  # of the rate asked for
TASK_NAMES = {
    'segmentation': 'Segmentation',
    'depth': 'Depth',
    'keypoints': 'Keypoints',
    'global_descriptor': 'Global descriptor',
}


def write_report(recording, folder, seconds):
    """
    Write ``report.html``, the pictures and ``metrics.json`` of a :class:`~mt_perception.demo.run.Recording`.

    Everything is made in memory first and then written beside its place and renamed, the page last.

    :param folder: existing folder.
    :param seconds: how long the whole run took.
    :return: path of ``report.html``.
    """
    files = {}
    machine = describe_machine()
    trajectory = analysis.trajectory(recording)
    metrics = collect_metrics(recording, trajectory, machine)
    sections = [
        perception_section(recording, files),
        matches_section(recording, files),
        trajectory_section(recording, trajectory, files),
        places_section(recording, files),
        latency_section(recording, files),
        facts_section(recording, machine),
    ]
    sections = [entry for entry in sections if entry is not None]
    page = page_of(recording, metrics, sections, seconds)
    for name, data in files.items():
        write_bytes(folder / name, data)
    for pattern in PICTURE_FILES:  # of an earlier run
        for path in folder.glob(pattern):
            if path.name not in files:
                path.unlink()
    write_json(folder / 'metrics.json', metrics)
    write_bytes(folder / 'report.html', page.encode())
    return folder / 'report.html'


def collect_metrics(recording, trajectory, machine):
    """Return the content of ``metrics.json``."""
    metrics = {'sequence': recording.source, 'name': recording.sequence.name, **analysis.coverage(recording)}
    metrics.update(analysis.latency_metrics(recording))
    metrics['inference_ms'] = recording.stage_ms.get('perception', {}).get('inference', {})
    metrics['stage_ms'] = {node: stages for node, stages in recording.stage_ms.items() if stages}
    if trajectory is not None:
        metrics['odometry'] = {
            'scale': recording.values.get('visual_odometry', {}).get('scale'),
            'path_length_estimated_m': analysis.travelled(trajectory),
            **(trajectory.metrics or {}),
        }
    metrics['model'] = recording.metadata.model_id
    metrics['engine'] = recording.values.get('perception', {}).get('engine')
    metrics['machine'] = machine
    return plain(metrics)


def page_of(recording, metrics, sections, seconds):
    """Return the whole page."""
    template = Template(Path(__file__).with_name('template.html').read_text(encoding='utf-8'))
    now = datetime.datetime.now().astimezone()
    played = f'{metrics["input_hz"]:.1f} images a second'
    engine = metrics['engine'] or 'an unknown engine'
    return template.substitute(
        title=escape(f'{recording.sequence.name}: one network, four tasks'),
        lead=escape(
            f'{metrics["frames"]} images of {recording.source} went through the real ROS 2 nodes over DDS, '
            f'{played}. '
            f'{recording.metadata.model_id} ran on {engine}.'
        ),
        nav=''.join(f'<a href="#{key}">{escape(name)}</a>' for key, name, _ in sections),
        tiles=''.join(html.tile(*entry) for entry in tiles(recording, metrics)),
        notes=''.join(html.note(text) for text in warnings(recording, metrics)),
        sections='\n'.join(body for _, _, body in sections),
        footer=escape(
            f'mt_perception {mt_perception.__version__}, {now:%Y-%m-%d %H:%M %Z}, made in {seconds:.0f} s. '
            'The numbers of this page are in metrics.json beside it.'
        ),
    )


def tiles(recording, metrics):
    """Return the (value, meaning) of the numbers at the top."""
    frames = metrics['frames']
    out = []
    if 'keypoints' in recording.metadata.tasks:
        out.append(
            (f'{100 * metrics["frames_perceived"] / frames:.0f} %', 'of the images through perception')
        )
    if metrics['frames_with_odometry']:
        out.append((f'{100 * metrics["frames_tracked"] / frames:.0f} %', 'of the images with a known pose'))
    for key, meaning in (('end_to_end_ms', 'keypoints'), ('odometry_end_to_end_ms', 'odometry')):
        if key in metrics:
            out.append(
                (f'{metrics[key]["p95"]:.0f} ms', f'from image to {meaning}, 95 % of the images are faster')
            )
    odometry = metrics.get('odometry', {})
    if 'ate_rmse_m' in odometry:
        scaled = odometry['scale'] == 'metric'
        value = odometry['ate_rmse_m' if scaled else 'ate_rmse_sim3_m']
        kind = 'in metres' if scaled else 'scale aligned'
        out.append(
            (f'{value:.2f} m', f'trajectory error (RMSE, {kind}) over {odometry["path_length_m"]:.0f} m')
        )
    return out


def warnings(recording, metrics):
    """Return sentences a reader must know to judge the page."""
    frames = metrics['frames']
    if 'keypoints' in recording.metadata.tasks and metrics['frames_perceived'] < 0.9 * frames:
        yield (
            f'Only {metrics["frames_perceived"]} of {frames} images came out of perception: the machine is '
            'too slow for this rate, so the newest image won and older ones were dropped. Try it '
            'without --live.'
        )
    if not recording.live and metrics['input_hz'] < SLOWED * recording.rate:
        yield (
            f'This machine works on {metrics["input_hz"]:.1f} images a second; the sequence has '
            f'{recording.rate:.1f}, so it was played slower.'
        )
    if recording.sequence.camera is None:
        yield 'The sequence has no camera calibration, so odometry did not run.'
    elif metrics['frames_with_odometry'] and metrics['frames_tracked'] < 0.5 * frames:
        yield f'Odometry knew the pose in {metrics["frames_tracked"]} of {frames} images only.'


def shown_frames(recording, needs):
    """Return for each picture the first frame near its place that has all of ``needs``."""
    out = []
    for index in recording.pictures:
        for number in range(index, min(index + SPARE_FRAMES, len(recording.frames))):
            if all(getattr(recording.frames[number], name) is not None for name in needs):
                out.append(number)
                break
    return out


def perception_section(recording, files):
    """Show keypoints, segmentation and depth of some frames."""
    tasks = [task for task in ('keypoints', 'segmentation', 'depth') if task in recording.metadata.tasks]
    numbers = shown_frames(recording, ['image', *tasks])
    if not tasks or not numbers:
        return None
    limits = None
    if 'depth' in tasks:
        limits = visualize.depth_range(np.concatenate([recording.frames[n].depth.ravel() for n in numbers]))
    metric = recording.metadata.depth_kind == 'metric'
    cells = [f'<div class="head">{TASK_NAMES[task]}</div>' for task in tasks]
    for number in numbers:
        frame = recording.frames[number]
        image = frame.image
        seconds = recording.sequence.stamps[number] - recording.sequence.stamps[0]
        cells.append(f'<div class="row-name">frame {number}, {seconds:.1f} s</div>')
        for task in tasks:
            if task == 'segmentation':
                table = recording.metadata.color_table
                picture = visualize.overlay_segmentation(image, frame.segmentation, table)
            elif task == 'depth':
                picture = visualize.color_depth(cv2.resize(frame.depth, image.shape[1::-1]), limits)
            else:
                picture = visualize.draw_keypoints(image, frame.keypoints)
            files[f'frame_{number:05d}_{task}.png'] = pictures.encode(picture)
            small = pictures.encode(pictures.fit_width(picture, PICTURE_WIDTH), '.jpg')
            caption = f'{len(frame.keypoints)} keypoints' if task == 'keypoints' else ''
            cells.append(html.figure(small, caption, f'{TASK_NAMES[task]} of frame {number}'))
    body = (
        f'<div class="frames" style="grid-template-columns: repeat({len(tasks)}, 1fr)">{"".join(cells)}</div>'
    )
    if 'segmentation' in tasks:
        metadata = recording.metadata
        body += (
            '<div class="legend">'
            + ''.join(
                f'<span><i style="background: rgb({r}, {g}, {b})"></i>{escape(name.replace("_", " "))}</span>'
                for name, (r, g, b) in zip(metadata.class_names, metadata.class_colors, strict=True)
            )
            + '</div>'
        )
    if 'depth' in tasks:
        scale = html.image(plots.depth_scale(limits), 'colours of depth')
        body += f'<div class="legend"><span>{"depth" if metric else "relative depth"}</span>{scale}</div>'
    lead = (
        'Everything in a row comes from one forward pass, as it arrived on the topics perception/keypoints, '
        'perception/segmentation and perception/depth. The stronger a keypoint, the warmer its colour.'
    )
    return 'perception', 'Perception', html.section('perception', 'What the network sees', lead, body)


def matches_section(recording, files):
    """Show keypoint matches between frames, and how many agree with one motion."""
    if 'keypoints' not in recording.metadata.tasks:
        return None
    pairs = []
    for number in shown_frames(recording, ['image', 'keypoints']):
        for other in range(number + MATCH_GAP, min(number + MATCH_GAP + SPARE_FRAMES, len(recording.frames))):
            if recording.frames[other].keypoints is not None and recording.frames[other].image is not None:
                pairs.append((number, other))
                break
    if not pairs:
        return None
    pairs = pairs[:: max(1, -(-len(pairs) // PAIRS))]
    name, model = recording.matcher
    matcher = create_matcher(name, model, engine='auto')
    figures = []
    for number, other in pairs:
        first, second = recording.frames[number].keypoints, recording.frames[other].keypoints
        matches = matcher.match(first, second)
        inlier = analysis.agree_with_motion(
            first.xy[matches.index[:, 0]], second.xy[matches.index[:, 1]], recording.sequence.camera
        )
        images = recording.frames[number].image, recording.frames[other].image
        share = f'{100 * inlier.mean():.0f} %' if len(inlier) else 'none'
        caption = f'frames {number} and {other}: {len(matches)} matches, {share} agree with one motion'
        drawn = slice(None, None, max(1, -(-len(matches) // LINES)))
        if drawn.step > 1:
            caption += f' (one in {drawn.step} is drawn)'
        shown = Matches(matches.index[drawn], matches.scores[drawn])
        width, height = first.image_size
        picture = visualize.draw_matches(
            images[0], first, images[1], second, shown, inlier[drawn], vertical=width > 2 * height
        )
        files[f'matches_{number:05d}_{other:05d}.png'] = pictures.encode(picture)
        small = pictures.encode(pictures.fit_width(picture, 2 * PICTURE_WIDTH), '.jpg')
        figures.append(html.figure(small, caption))
    lead = (
        f'Keypoints of two frames matched by {name}. Matches that agree with one motion of the camera '
        '(essential matrix, RANSAC) are blue to yellow, the surer the brighter; red ones do not agree.'
    )
    body = f'<div class="pairs">{"".join(figures)}</div>'
    return 'matches', 'Matches', html.section('matches', 'Matches between frames', lead, body)


def trajectory_section(recording, result, files):
    """Show the path and its error."""
    if recording.sequence.camera is None or 'visual_odometry' not in recording.values:
        return None
    title = 'Visual odometry'
    if result is None:
        sentence = recording.sentences.get('visual_odometry', '')
        return (
            'odometry',
            title,
            html.section('odometry', title, f'No pose came out. The node says: {sentence}.', ''),
        )
    files['trajectory.png'] = plots.trajectory_plot(result)
    body = html.image(files['trajectory.png'], 'trajectory', 'class="plot"')
    values = recording.values['visual_odometry']
    rows = [
        (
            'scale',
            'metres, from the depth at the keypoints' if values.get('scale') == 'metric' else 'arbitrary',
        )
    ]
    rows.append(('length of the estimated path', f'{analysis.travelled(result):.2f} m'))
    if result.metrics:
        m = result.metrics
        rows += [
            ('length of the true path', f'{m["path_length_m"]:.2f} m'),
            ('absolute trajectory error, SE(3)-aligned, RMSE', f'{m["ate_rmse_m"]:.3f} m'),
            ('absolute trajectory error, Sim(3)-aligned, RMSE', f'{m["ate_rmse_sim3_m"]:.3f} m'),
            ('estimated over true scale', f'{m["scale_ratio"]:.3f}' if m['scale_ratio'] else 'unknown'),
            ('relative error from frame to frame', f'{m["rpe_trans_m"]:.4f} m, {m["rpe_rot_deg"]:.3f}°'),
        ]
        if m['t_rel_percent'] is not None:  # defined for paths above 100 m
            rows.append(
                ('KITTI drift', f'{m["t_rel_percent"]:.2f} %, {m["r_rel_deg_per_100m"]:.2f}° in 100 m')
            )
    body += html.table(rows, numbers=True)
    if result.note:
        body += html.note(result.note)
    lead = 'Poses as they arrived on visual_odometry/odometry while the sequence played.'
    if result.alignment:
        lead += f' For the picture the path is aligned with the truth ({result.alignment}).'
    return 'odometry', title, html.section('odometry', title, lead, body)


def places_section(recording, files):
    """Show how alike the global descriptors say the frames are."""
    found = analysis.similarity(recording)
    if found is None:
        return None
    files['places.png'] = plots.similarity_plot(*found)
    body = html.image(
        files['places.png'],
        'similarity of places',
        'class="plot"' if found[2] is not None else 'class="plot narrow"',
    )
    lead = (
        'One vector per image says where it was taken: bright where two images look like the same place. '
        'A bright line beside the diagonal is a place seen again.'
    )
    return 'places', 'Places', html.section('places', 'Place recognition', lead, body)


def latency_section(recording, files):
    """Show how long everything took."""
    series = {}
    for name, attribute in (('image → keypoints', 'keypoints_ns'), ('image → odometry', 'odometry_ns')):
        numbers, values = analysis.latency_ms(recording, attribute)
        if len(values):
            series[name] = (numbers, values)
    stage_ms = {node: stages for node, stages in recording.stage_ms.items() if stages}
    if not series or not stage_ms:
        return None
    files['latency.png'] = plots.latency_plot(series)
    files['stages.png'] = plots.stages_plot(stage_ms)
    body = html.image(files['latency.png'], 'latency', 'class="plot"') + html.image(
        files['stages.png'], 'stages', 'class="plot"'
    )
    tables = [
        html.table(
            [
                (stage, *(f'{values[p]:.1f}' for p in ('p50', 'p95', 'p99', 'mean')))
                for stage, values in stages.items()
            ],
            (node.replace('_', ' '), 'p50 ms', 'p95 ms', 'p99 ms', 'mean ms a frame'),
            numbers=True,
        )
        for node, stages in stage_ms.items()
    ]
    body += f'<div class="columns">{"".join(tables)}</div>'
    lead = (
        'From the moment the image is published to the moment its result arrives here: serialising, shared '
        'memory, waiting and computing. Below, the time inside each node.'
    )
    return 'latency', 'Latency', html.section('latency', 'Latency', lead, body)


def facts_section(recording, machine):
    """Show the model card's facts, and the machine."""
    m = recording.metadata
    data = m.training_data if isinstance(m.training_data, str) else '; '.join(map(str, m.training_data))
    model = [
        ('model', f'{m.model_id} ({m.architecture})'),
        ('tasks', ', '.join(TASK_NAMES[task].lower() for task in m.tasks)),
        ('network input', f'{m.input_size[0]} × {m.input_size[1]} pixels by default'),
        ('trained on', data or 'not stated'),
        ('licence', m.license or 'not stated'),
    ]
    model += [(f'accuracy: {name}', format_number(value)) for name, value in flatten(m.accuracy)]
    engines = [
        (node.replace('_', ' '), values['engine'])
        for node, values in recording.values.items()
        if values.get('engine')
    ]
    system = [('mt_perception', mt_perception.__version__), *machine.items(), *engines]
    body = f'<div class="columns"><div><h3>Model</h3>{html.table(model)}</div>'
    body += f'<div><h3>Machine and versions</h3>{html.table(system)}</div></div>'
    lead = 'What made these results. Numbers without their machine and their model mean nothing.'
    return 'facts', 'Model and machine', html.section('facts', 'Model and machine', lead, body)


def flatten(values, prefix=''):
    """Return the (name, value) pairs of nested dicts."""
    for name, value in values.items():
        if isinstance(value, dict):
            yield from flatten(value, f'{prefix}{name} ')
        else:
            yield f'{prefix}{name}', value


def format_number(value):
    """Return a number with four digits, anything else as it is."""
    return f'{value:.4g}' if isinstance(value, float) else str(value)
