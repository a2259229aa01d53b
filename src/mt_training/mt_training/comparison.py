"""How far a changed model (quantised, pruned) is from the one it was made of, head by head, on images."""

import numpy as np

NEAR_PX = 1.0  # a keypoint is found again when there is one this close

# output of the model contract → [(key, what it says)]
MEANINGS = {
    'segmentation': [('classes_agreeing', 'segmentation: part of the pixels with the same class')],
    'depth': [('depth_relative', 'depth: mean |difference| / depth')],
    'keypoints': [
        ('keypoints_near', f'keypoints: part found again within {NEAR_PX:g} px'),
        ('descriptor_cosine', 'descriptors of these: mean cosine'),
    ],
    'global_descriptor': [('global_cosine', 'global descriptor: mean cosine')],
}


def head_differences(first, second):
    """
    Compare the arrays of two models for one image.

    :param first: {output of the model contract: array} of the model that is taken as right.
    :param second: the same of the other; outputs that only one has do not count.
    :return: {key of ``MEANINGS``: number}; NaN where there is nothing to compare (no keypoints).
    """
    shared = set(first) & set(second)
    out = {}
    if 'segmentation' in shared:
        out['classes_agreeing'] = float((first['segmentation'] == second['segmentation']).mean())
    if 'depth' in shared:
        reference = first['depth'].astype(np.float64)
        out['depth_relative'] = float((np.abs(second['depth'] - reference) / reference).mean())
    if {'keypoints', 'scores', 'descriptors'} <= shared:
        out.update(_keypoints(first, second))
    if 'global_descriptor' in shared:
        out['global_cosine'] = float((first['global_descriptor'] * second['global_descriptor']).sum())
    return out


def _keypoints(first, second):
    chosen = [np.flatnonzero(arrays['scores'][0] > 0) for arrays in (first, second)]
    if not all(len(index) for index in chosen):
        return {'keypoints_near': float('nan'), 'descriptor_cosine': float('nan')}
    points, others = (a['keypoints'][0][index] for a, index in zip((first, second), chosen))
    described, redescribed = (a['descriptors'][0][index] for a, index in zip((first, second), chosen))
    distance = np.linalg.norm(points[:, None] - others[None], axis=-1)
    partner = distance.argmin(1)
    near = distance[np.arange(len(points)), partner] <= NEAR_PX
    cosine = (described[near] * redescribed[partner[near]]).sum(1)
    return {
        'keypoints_near': float(near.mean()),
        'descriptor_cosine': float(cosine.mean()) if near.any() else float('nan'),
    }


def compare(first, second, images):
    """
    Compare two models on images.

    :param first: function of an image [1,H,W,3] uint8 that gives {output: array}; taken as right.
    :param second: the other.
    :param images: iterable of such images.
    :return: {key: mean over the images}.
    """
    rows = [head_differences(first(image), second(image)) for image in images]
    keys = list(dict.fromkeys(key for row in rows for key in row))
    return {key: _mean([row[key] for row in rows]) for key in keys}


def _mean(values):
    known = [value for value in values if np.isfinite(value)]
    return float(np.mean(known)) if known else float('nan')


def describe(differences):
    """Return rows [what, number] of a table, in the order of the contract."""
    return [
        [text, differences[key]]
        for entries in MEANINGS.values()
        for key, text in entries
        if key in differences
    ]


def onnx_runner(path, threads=0):
    """
    Open a model with ONNX Runtime on the CPU.

    :param path: ONNX file under the model contract, or its bytes.
    :param threads: per run, 0 = one per core.
    :return: function of an image [1,H,W,3] uint8 that gives {output: array}.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    source = path if isinstance(path, bytes) else str(path)
    session = onnxruntime.InferenceSession(source, options, providers=['CPUExecutionProvider'])
    names = [output.name for output in session.get_outputs()]
    return lambda image: dict(zip(names, session.run(None, {'image': image}), strict=True))
