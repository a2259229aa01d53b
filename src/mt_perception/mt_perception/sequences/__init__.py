"""Sequences of images: on disk in the formats of the field, in bags and videos, or rendered."""


def open_sequence(source, frames=None, **options):
    """Open a sequence; see :func:`mt_perception.sequences.opening.open_sequence`."""
    from mt_perception.sequences import opening  # late: readers bring OpenCV, rosbags and the renderer

    return opening.open_sequence(source, frames, **options)


__all__ = ['open_sequence']
