"""RGB-D sequences as depth data: frames with colour, registered depth and calibration."""

from mt_perception.errors import EvaluationError
from mt_perception.sequences import open_sequence


class DepthFrames:
    """
    Frames of a sequence that has depth, registered to the colour image.

    :param source: what :func:`mt_perception.sequences.open_sequence` opens: an RGB-D folder
        (``frame-*.color.jpg``, ``.depth.png``), a TUM RGB-D folder, ``rendered:street:7``.
    :param frames: 'A:B' or None.
    :raises SequenceError: no such sequence.
    """

    def __init__(self, source, frames=None):
        self.sequence = open_sequence(source, frames)

    def __len__(self):
        """Return the number of frames."""
        return len(self.sequence)

    def __getitem__(self, index):
        """Return frame ``index`` as a :class:`mt_perception.sequences.base.SequenceFrame` with depth."""
        frame = self.sequence[index]
        if frame.depth is None:
            raise EvaluationError(
                f"frame {frame.index} of sequence '{self.sequence.name}' has no depth; "
                'evaluate depth needs an RGB-D or a rendered sequence'
            )
        return frame
