"""Sky panoramas."""

import numpy as np

from mt_perception.rendering.noise import fractal_noise, to_uint8


def sky(rng, kind, columns=2048, rows=512):
    """
    Return a panorama: columns are azimuth (wrapping), rows elevation +90° … −10°.

    :param kind: 'clear', 'clouds' or 'overcast'.
    """
    elevation = np.linspace(90, -10, rows, dtype=np.float32)[:, None, None]
    t = np.clip(elevation / 60, 0, 1) ** 0.6
    zenith = np.array({'clear': (92, 142, 206), 'clouds': (110, 150, 200), 'overcast': (190, 196, 204)}[kind])
    horizon = np.array(
        {'clear': (216, 228, 240), 'clouds': (222, 228, 236), 'overcast': (226, 228, 230)}[kind]
    )
    image = np.broadcast_to(horizon * (1 - t) + zenith * t, (rows, columns, 3)).astype(np.float32)
    noise = fractal_noise(
        rng, rows, columns, ((96, 320), (40, 120), (16, 44), (6, 14)), (1.2, 1, 0.6, 0.35), wrap=True
    )
    cover = {'clear': 1.5, 'clouds': 0.2, 'overcast': -0.6}[kind]
    clouds = np.clip((noise - cover) * 0.9, 0, 1)[..., None] * np.clip((elevation + 2) / 14, 0, 1)
    lit = 1 - 0.10 * np.clip(noise - np.roll(noise, -10, axis=0) + 0.4, 0, 2.2)[..., None]
    tone = np.array((244, 245, 247)) if kind != 'overcast' else np.array((206, 208, 212))
    image = image * (1 - clouds) + tone * lit * clouds
    return to_uint8(image)
