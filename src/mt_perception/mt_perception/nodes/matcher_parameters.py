"""Parameters that every node with a matcher and a camera has."""

from mt_perception.inference.factory import ENGINES, PRECISIONS
from mt_perception.matching import MATCHERS, create_matcher
from mt_perception.nodes.parameters import UNCONFIGURED, Parameter

MATCHER_PARAMETERS = (
    Parameter(
        'matcher',
        'lightglue',
        'What matches the keypoints.',
        choices=tuple(MATCHERS),
        change=UNCONFIGURED,
    ),
    Parameter(
        'matcher_model',
        '',
        "Path of LightGlue's ONNX model; empty = the one shipped, for the model shipped.",
        change=UNCONFIGURED,
    ),
    Parameter(
        'engine',
        'auto',
        'What runs the matcher; auto = TensorRT where it and a GPU are, else ONNX Runtime.',
        choices=ENGINES,
        change=UNCONFIGURED,
    ),
    Parameter(
        'precision', 'fp16', 'Arithmetic of a TensorRT engine.', choices=PRECISIONS, change=UNCONFIGURED
    ),
    Parameter(
        'cache_dir', '', 'Folder for built engines; empty = ~/.cache/mt_perception.', change=UNCONFIGURED
    ),
    Parameter('threads', 0, 'CPU threads of ONNX Runtime; 0 = one per core.', 0, 256, change=UNCONFIGURED),
)


def matcher_of(node):
    """Make the matcher that a node's parameters name; what is worth a warning goes to its diagnostics."""
    p = node.parameters
    matcher = create_matcher(
        p.matcher,
        p.matcher_model or None,
        engine=p.engine,
        precision=p.precision,
        cache_dir=p.cache_dir or None,
        threads=p.threads,
        logger=node.get_logger(),
    )
    for number, sentence in enumerate(getattr(matcher, 'warnings', ())):
        node.health.warn(f'engine {number}', sentence)
    return matcher
