"""Frames of one sequence to evaluate on; class ids are CamVid's, as of rendered streets."""

from mt_perception.errors import EvaluationError
from mt_perception.sequences import open_sequence
from mt_training.data.readers.camvid import CLASS_COLORS, CLASS_NAMES
from mt_training.data.readers.sample import Sample

LACKS = {
    'labels': 'no class labels',
    'depth': 'no depth; evaluate depth needs an RGB-D or a rendered sequence',
}


class SequenceFrames:
    """
    Frames of a sequence that has labels or depth.

    :param source: what :func:`mt_perception.sequences.open_sequence` opens: an RGB-D folder
        (``frame-*.color.jpg``, ``.depth.png``), a TUM RGB-D folder, ``rendered:street:7``.
    :param frames: 'A:B' or None.
    :param needed: what every frame must have, 'labels' or 'depth'.
    :raises SequenceError: no such sequence.
    """

    class_names = CLASS_NAMES
    class_colors = CLASS_COLORS

    def __init__(self, source, frames, needed):
        self.sequence, self.needed = open_sequence(source, frames), needed

    def __len__(self):
        """Return the number of frames."""
        return len(self.sequence)

    def __getitem__(self, index):
        """Return frame ``index`` as a :class:`Sample`; EvaluationError when it lacks what is needed."""
        frame = self.sequence[index]
        if getattr(frame, self.needed) is None:
            raise EvaluationError(
                f"frame {frame.index} of sequence '{self.sequence.name}' has {LACKS[self.needed]}"
            )
        name = f'{frame.index:06d}'
        return Sample(name, frame.image, frame.labels, frame.depth, frame.camera, index=frame.index)
