"""
The names of rendered sequences: ``rendered:SCENE[:SEED][:WORD…]``.

A word is a variant (``moving``), a variant with its amount (``blackout=2``) or an option (``fps=20``), in any
order: ``rendered:street_loop:3:moving:noise=2:frames=200``. They are the arguments of
:class:`mt_perception.sequences.rendered.RenderedSequence`.
"""

from mt_perception.errors import SequenceError

PREFIX = 'rendered:'

# what a variant's word alone means
VARIANTS = {
    'moving': True,  # things that move by themselves over about 30 % of the picture
    'blackout': 1.0,  # seconds of darkness in the middle
    'covered': 2.0,  # seconds that something covers the lens
    'motion_blur': 0.03,  # seconds that the shutter is open
    'noise': 3.0,  # sensor noise, 1 is a good small camera by day
    'exposure_jumps': True,  # the exposure jumps every one to three seconds
    'still': 60.0,  # seconds that the camera stands, after four of motion
    'rotation': 90.0,  # degrees that it turns on the spot and back, after four seconds of motion
    'low_texture': 0.1,  # share of the textures' contrast that is left
    'dropped': 0.2,  # share of the frames that are lost, and half a second in the middle
    'repeated': 0.2,  # share of the frames that show the picture before, and half a second in the middle
}
OPTIONS = {
    'frames': int,
    'width': int,
    'height': int,
    'fps': float,
    'focal': float,
    'speed': float,
    'traffic': int,
    'exposure': float,
    'blur': float,
}


def parse_name(source):
    """
    Take a name apart.

    :param source: ``rendered:SCENE[:SEED][:WORD…]``; the prefix may be missing.
    :return: (scene, seed, {argument of RenderedSequence: value}).
    :raises SequenceError: a word that is none of those, or a value that is no number.
    """
    scene, *words = source.removeprefix(PREFIX).split(':')
    seed, options = 0, {}
    if words and words[0].isdecimal():
        seed = int(words.pop(0))
    for word in words:
        name, equals, text = word.partition('=')
        if name in options:
            raise SequenceError(f"'{source}' has the word '{name}' twice")
        if name in VARIANTS and not equals:
            options[name] = VARIANTS[name]
        elif (name in VARIANTS and VARIANTS[name] is not True) or (name in OPTIONS and equals):
            options[name] = _number(source, name, text)
        else:
            raise SequenceError(
                f"'{source}' is not rendered:SCENE:SEED:WORD…: '{word}' is neither a whole number as seed "
                f'nor a variant ({", ".join(VARIANTS)}) nor an option with its value ({", ".join(OPTIONS)})'
            )
    return scene, seed, options


def _number(source, name, text):
    kind = OPTIONS.get(name, float)
    try:
        return kind(text)
    except ValueError:
        wanted = 'a whole number' if kind is int else 'a number'
        raise SequenceError(f"'{source}': {name} must be {wanted}, not '{text}'") from None


def folder_name(scene, seed, options):
    """Return a short name without signs that a file's name should not have: 'rendered_street_0_noise2'."""
    words = []
    for name, value in options.items():
        plain = name in VARIANTS and value == VARIANTS[name]
        words.append(name if plain else f'{name}{value:g}')
    return '_'.join(['rendered', scene, str(seed), *words])
