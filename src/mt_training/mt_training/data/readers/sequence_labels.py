"""Labelled frames of a sequence as a segmentation data set; classes are CamVid's, as of rendered streets."""

from mt_perception.errors import EvaluationError
from mt_perception.sequences import open_sequence
from mt_training.data.readers.camvid import CLASS_COLORS, CLASS_NAMES
from mt_training.data.readers.sample import Sample


class SequenceLabels:
    """
    Frames of a sequence that has class ids.

    :param source: what :func:`mt_perception.sequences.open_sequence` opens, such as ``rendered:street:7``.
    :param frames: 'A:B' or None.
    :raises SequenceError: no such sequence.
    """

    class_names = CLASS_NAMES
    class_colors = CLASS_COLORS

    def __init__(self, source, frames=None):
        self.sequence = open_sequence(source, frames)

    def __len__(self):
        """Return the number of frames."""
        return len(self.sequence)

    def __getitem__(self, index):
        """Return frame ``index`` as a :class:`Sample`; EvaluationError when it has no labels."""
        frame = self.sequence[index]
        if frame.labels is None:
            raise EvaluationError(
                f"frame {frame.index} of sequence '{self.sequence.name}' has no class labels"
            )
        return Sample(f'{frame.index:06d}', frame.image, frame.labels)
