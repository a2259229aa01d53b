"""Camera images as they come: pixel formats of sensor_msgs, compressed images, resizing."""

import contextlib
from dataclasses import dataclass

import cv2
import numpy as np

from mt_perception.errors import ImageError

WHITE_16_BIT = 65535


@dataclass(frozen=True)
class Encoding:
    """
    How one encoding lies in memory.

    :param dtype: numpy type of one channel, without byte order.
    :param channels: interleaved channels.
    :param conversion: OpenCV colour conversion to RGB, None when the channels are R, G, B already.
    """

    dtype: str
    channels: int
    conversion: int | None


# names of sensor_msgs/image_encodings.hpp
ENCODINGS = {
    'rgb8': Encoding('u1', 3, None),
    'bgr8': Encoding('u1', 3, cv2.COLOR_BGR2RGB),
    '8UC3': Encoding('u1', 3, cv2.COLOR_BGR2RGB),  # OpenCV's own order of channels
    'rgba8': Encoding('u1', 4, cv2.COLOR_RGBA2RGB),
    'bgra8': Encoding('u1', 4, cv2.COLOR_BGRA2RGB),
    '8UC4': Encoding('u1', 4, cv2.COLOR_BGRA2RGB),
    'mono8': Encoding('u1', 1, cv2.COLOR_GRAY2RGB),
    '8UC1': Encoding('u1', 1, cv2.COLOR_GRAY2RGB),
    'mono16': Encoding('u2', 1, cv2.COLOR_GRAY2RGB),
    '16UC1': Encoding('u2', 1, cv2.COLOR_GRAY2RGB),
    'yuv422': Encoding('u1', 2, cv2.COLOR_YUV2RGB_UYVY),
    'uyvy': Encoding('u1', 2, cv2.COLOR_YUV2RGB_UYVY),
    'yuv422_yuy2': Encoding('u1', 2, cv2.COLOR_YUV2RGB_YUY2),
    'yuyv': Encoding('u1', 2, cv2.COLOR_YUV2RGB_YUY2),
    # ROS spells the first two pixels of the first row, OpenCV those of the second row from the second column
    'bayer_rggb8': Encoding('u1', 1, cv2.COLOR_BayerBG2RGB),
    'bayer_bggr8': Encoding('u1', 1, cv2.COLOR_BayerRG2RGB),
    'bayer_gbrg8': Encoding('u1', 1, cv2.COLOR_BayerGR2RGB),
    'bayer_grbg8': Encoding('u1', 1, cv2.COLOR_BayerGB2RGB),
}

# the camera's calibration belongs to the pixels as they are stored: no rotation by EXIF
DECODE_FLAGS = cv2.IMREAD_ANYDEPTH | cv2.IMREAD_ANYCOLOR | cv2.IMREAD_IGNORE_ORIENTATION


def view_pixels(data, width, height, step, dtype, channels):
    """
    View a buffer with padded rows as an array, without copying.

    :param data: any buffer of bytes (array.array, bytes, memoryview, ndarray).
    :param width: pixels per row.
    :param height: rows.
    :param step: bytes from one row to the next, padding included; the last row needs none.
    :param dtype: numpy type of one channel, byte order included.
    :param channels: interleaved channels.
    :return: [height,width,channels] read-only view; rows are ``step`` bytes apart.
    :raises ImageError: the buffer is smaller than the sizes claim.
    """
    itemsize = np.dtype(dtype).itemsize
    row = width * channels * itemsize
    if width <= 0 or height <= 0:
        raise ImageError(f'image claims a size of {width}×{height} pixels')
    if step < row:
        raise ImageError(f'image row step is {step} bytes, {width} pixels need at least {row}')
    flat = np.frombuffer(data, np.uint8)
    needed = step * (height - 1) + row
    if flat.size < needed:
        raise ImageError(
            f'image buffer has {flat.size} bytes, {width}×{height} pixels with row step {step} need {needed}'
        )
    view = np.ndarray((height, width, channels), dtype, flat, 0, (step, channels * itemsize, itemsize))
    view.flags.writeable = False
    return view


def decode_pixels(data, encoding, width, height, step, big_endian=False, white_level=WHITE_16_BIT):
    """
    Turn the buffer of a sensor_msgs/Image into RGB.

    :param data: the buffer.
    :param encoding: one of ``ENCODINGS``.
    :param width: pixels per row.
    :param height: rows.
    :param step: bytes from one row to the next.
    :param big_endian: byte order of 16-bit channels.
    :param white_level: value of a 16-bit channel that becomes 255 (4095 for a 12-bit camera); brighter is
        white.
    :return: [height,width,3] uint8; a read-only view of ``data`` when the encoding is rgb8.
    :raises ImageError: an encoding not in ``ENCODINGS``, or a buffer that does not fit its size.
    """
    layout = ENCODINGS.get(encoding)
    if layout is None:
        raise ImageError(
            f"image encoding '{encoding}' is not supported; publish one of {', '.join(ENCODINGS)}"
        )
    dtype = ('>' if big_endian and layout.dtype == 'u2' else '<') + layout.dtype
    pixels = view_pixels(data, width, height, step, dtype, layout.channels)
    if layout.dtype == 'u2':
        pixels = to_8_bit(pixels, white_level)
    if layout.conversion is None:
        return pixels
    if layout.channels == 2 and width % 2:
        raise ImageError(f"image encoding '{encoding}' needs an even width, it is {width}")
    return cv2.cvtColor(np.ascontiguousarray(pixels), layout.conversion)


def to_8_bit(pixels, white_level=WHITE_16_BIT):
    """
    Scale 16-bit pixels so that ``white_level`` becomes 255; what is brighter saturates.

    :param pixels: [H,W,C] uint16 of either byte order.
    :param white_level: positive.
    :return: [H,W,C] uint8.
    :raises ImageError: ``white_level`` is not positive.
    """
    if white_level <= 0:
        raise ImageError(f'the white level of 16-bit images is {white_level}; it has to be positive')
    native = np.ascontiguousarray(pixels, np.uint16)
    return cv2.convertScaleAbs(native, alpha=255.0 / white_level).reshape(native.shape)


def decode_message(message, white_level=WHITE_16_BIT):
    """Turn a sensor_msgs/Image, of any library that has its fields, into RGB; see :func:`decode_pixels`."""
    return decode_pixels(
        message.data,
        message.encoding,
        message.width,
        message.height,
        message.step,
        bool(message.is_bigendian),
        white_level,
    )


def decode_compressed(data, image_format=''):
    """
    Turn the buffer of a sensor_msgs/CompressedImage (JPEG, PNG) into RGB.

    :param data: buffer of the file, which says itself what it is.
    :param image_format: the message's ``format``.
    :return: [H,W,3] uint8.
    :raises ImageError: no image, cut off, or a compressed depth image.
    """
    if 'compressedDepth' in image_format:
        raise ImageError('compressed image is a depth image (compressedDepth): publish a colour or gray one')
    data = bytes(data)
    # OpenCV would fill what is missing with gray, silently
    if data.startswith(b'\xff\xd8') and data.rfind(b'\xff\xd9') < 0:
        raise ImageError(
            f"compressed image with format '{image_format}' is cut short after {len(data)} bytes"
        )
    image = None
    if data:
        with contextlib.suppress(cv2.error):
            image = cv2.imdecode(np.frombuffer(data, np.uint8), DECODE_FLAGS)
    if image is None:
        raise ImageError(
            f"compressed image of {len(data)} bytes with format '{image_format}' cannot be decoded: "
            'it is no complete JPEG or PNG image'
        )
    if image.dtype == np.uint16:
        image = to_8_bit(image)
    return cv2.cvtColor(image, cv2.COLOR_GRAY2RGB if image.ndim == 2 else cv2.COLOR_BGR2RGB)


def resize(image, size):
    """
    Resize an image for the network; the aspect ratio may change.

    Shrinking averages: halves (INTER_AREA), as often as that fits, then bilinear for the rest. OpenCV's
    INTER_AREA for the whole way takes ten times as long unless the ratio is 2, and differs by half a gray
    level.

    :param image: [H,W,C] uint8.
    :param size: (width, height).
    :return: [height,width,C] uint8; ``image`` itself when it has that size.
    """
    size = tuple(size)
    height, width = image.shape[:2]
    while width >= 2 * size[0] and height >= 2 * size[1] and width % 2 == 0 and height % 2 == 0:
        width, height = width // 2, height // 2
        image = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
    if (width, height) == size:
        return image
    skips_pixels = width >= 2 * size[0] or height >= 2 * size[1]
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA if skips_pixels else cv2.INTER_LINEAR)
