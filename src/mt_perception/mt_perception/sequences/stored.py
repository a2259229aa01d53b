"""What all sequences on disk share: random access, checks of the image size, and parts of a sequence."""

import re

from mt_perception.errors import SequenceError
from mt_perception.sequences.base import Sequence, SequenceFrame


class StoredSequence(Sequence):
    """
    A sequence with one source per frame; subclasses set ``name``, ``camera``, ``stamps`` and ``poses``.

    Subclasses implement ``read_image(i)`` and, where there is depth, ``read_depth(i)``.
    """

    name = ''
    camera = None
    stamps = ()
    poses = None
    _skips_depth = False

    def __len__(self):
        """Return the number of frames."""
        return len(self.stamps)

    def skip_depth(self):
        """Leave the depth of all frames unread."""
        self._skips_depth = True

    def __getitem__(self, index):
        """Read frame ``index`` (negative ones count from the end)."""
        i = range(len(self))[index]
        image = self.read_image(i)
        camera = self.camera
        if camera is not None and (image.shape[1], image.shape[0]) != (camera.width, camera.height):
            raise SequenceError(
                f"frame {i} of '{self.name}' is {image.shape[1]}×{image.shape[0]} pixels but its calibration "
                f'is for {camera.width}×{camera.height}; all images of a sequence need one size'
            )
        pose = None if self.poses is None or self.poses[i] is None else self.poses[i].copy()
        depth = None if self._skips_depth else self.read_depth(i)
        return SequenceFrame(i, float(self.stamps[i]), image, camera, pose, depth)

    def read_image(self, i):
        """Return image ``i`` as [H,W,3] uint8 RGB."""
        raise NotImplementedError

    def read_depth(self, i):
        """Return the depth of frame ``i`` as [H,W] float32 metres with NaN, or None."""
        return None


class Part(Sequence):
    """
    Some consecutive frames of a sequence; ``SequenceFrame.index`` stays that of the whole.

    :param whole: the sequence.
    :param first: first frame.
    :param last: frame after the last one.
    """

    def __init__(self, whole, first, last):
        self.whole = whole
        self.first = first
        self.name = whole.name
        self.camera = whole.camera
        self.stamps = whole.stamps[first:last]
        self.poses = None if whole.poses is None else whole.poses[first:last]

    def __len__(self):
        """Return the number of frames."""
        return len(self.stamps)

    def skip_depth(self):
        """Leave the depth of the whole sequence unread."""
        self.whole.skip_depth()

    def __getitem__(self, index):
        """Return frame ``index`` of the part."""
        return self.whole[self.first + range(len(self))[index]]


def select(sequence, frames):
    """
    Return the part ``frames`` = 'A:B' of a sequence, with open and negative ends as Python slices.

    :raises SequenceError: not of that form, or nothing left.
    """
    if frames is None or frames == '':
        return sequence
    match = re.fullmatch(r'\s*(-?\d+)?\s*:\s*(-?\d+)?\s*', str(frames))
    if match is None:
        raise SequenceError(f"frames '{frames}' is not of the form A:B, for example 0:100, 50: or :-10")
    first, last, _ = slice(*(None if g is None else int(g) for g in match.groups())).indices(len(sequence))
    if first >= last:
        raise SequenceError(
            f"frames '{frames}' selects nothing of '{sequence.name}', which has {len(sequence)} frames"
        )
    return Part(sequence, first, last)
