"""Image files in memory."""

import cv2


def encode(image, extension='.png', quality=90):
    """Return an RGB image as the bytes of a PNG or JPEG file."""
    options = [cv2.IMWRITE_JPEG_QUALITY, quality] if extension == '.jpg' else []
    _, data = cv2.imencode(extension, cv2.cvtColor(image, cv2.COLOR_RGB2BGR), options)
    return data.tobytes()


def fit_width(image, width):
    """Return the image, reduced to ``width`` pixels if it is wider."""
    if image.shape[1] <= width:
        return image
    height = round(image.shape[0] * width / image.shape[1])
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
