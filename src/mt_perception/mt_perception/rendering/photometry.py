"""What a real camera adds to a rendered picture: exposure, defocus, sensor noise."""

import cv2
import numpy as np

GAMMA = 2.2
FULL_WELL = 4000.0  # photo-electrons of a white pixel at noise 1


def expose(image, exposure=1.0, blur=0.0, noise=0.0, seed=0):
    """
    Return an image as a less than perfect camera would take it.

    :param image: [H,W,3] uint8.
    :param exposure: factor on the light; values above 1 saturate.
    :param blur: deviation of the point spread function in pixels.
    :param noise: amount of sensor noise: shot noise (grows with the square root of the light) and read noise;
        1 is a good small camera by day, 5 the same at dusk.
    :param seed: of the noise.
    :return: [H,W,3] uint8.
    """
    if exposure == 1.0 and blur == 0.0 and noise == 0.0:
        return image
    levels = np.linspace(0, 1, 256, dtype=np.float32) ** GAMMA * np.float32(exposure)
    light = levels[image]
    if blur > 0:
        light = cv2.GaussianBlur(light, (0, 0), blur)
    if noise > 0:
        grain = np.random.default_rng(seed).standard_normal(light.shape, dtype=np.float32)
        variance = np.maximum(light, 0) / FULL_WELL + (4 / FULL_WELL) ** 2
        light = light + np.float32(noise) * np.sqrt(variance) * grain
    return (np.clip(light, 0, 1) ** (1 / GAMMA) * 255 + 0.5).astype(np.uint8)
