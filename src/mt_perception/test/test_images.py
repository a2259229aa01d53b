"""Camera buffers become the right pixels, whatever their layout; what does not fit is one sentence."""

import array

import cv2
import numpy as np
import pytest

from mt_perception.errors import ImageError
from mt_perception.perception.images import ENCODINGS, decode_compressed, decode_pixels, resize

HEIGHT, WIDTH = 6, 10


def picture(height=HEIGHT, width=WIDTH):
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


def message(pixels, padding=0, fill=0xAA):
    """Return (height, width, step, data) of pixels [H,W,...] with ``padding`` bytes behind each row."""
    rows = np.ascontiguousarray(pixels).view(np.uint8).reshape(pixels.shape[0], -1)
    rows = np.pad(rows, ((0, 0), (0, padding)), constant_values=fill)
    return pixels.shape[0], pixels.shape[1], rows.shape[1], array.array('B', rows.tobytes())


def convert(encoding, pixels, padding=0, **options):
    height, width, step, data = message(pixels, padding)
    return decode_pixels(data, encoding, width, height, step, **options)


@pytest.mark.parametrize('padding', [0, 1, 7])
@pytest.mark.parametrize('encoding', ['rgb8', 'bgr8', '8UC3', 'rgba8', 'bgra8', '8UC4'])
def test_color(encoding, padding):
    rgb = picture()
    alpha = np.full((HEIGHT, WIDTH, 1), 77, np.uint8)
    pixels = rgb if encoding.startswith('rgb') else rgb[..., ::-1]
    if ENCODINGS[encoding].channels == 4:
        pixels = np.concatenate([pixels, alpha], 2)
    out = convert(encoding, pixels, padding)
    assert out.dtype == np.uint8
    np.testing.assert_array_equal(out, rgb)


@pytest.mark.parametrize('padding', [0, 3])
@pytest.mark.parametrize('encoding', ['mono8', '8UC1'])
def test_gray(encoding, padding):
    gray = picture()[..., 0]
    np.testing.assert_array_equal(convert(encoding, gray, padding), np.repeat(gray[..., None], 3, 2))


@pytest.mark.parametrize('padding', [0, 1, 2])
@pytest.mark.parametrize('big_endian', [False, True])
@pytest.mark.parametrize('encoding', ['mono16', '16UC1'])
def test_gray_16(encoding, big_endian, padding):
    gray = np.random.default_rng(1).integers(0, 65536, (HEIGHT, WIDTH)).astype(np.uint16)
    out = convert(encoding, gray.astype('>u2' if big_endian else '<u2'), padding, big_endian=big_endian)
    expected = np.rint(gray / 65535 * 255).astype(np.uint8)
    np.testing.assert_array_equal(out, np.repeat(expected[..., None], 3, 2))


def test_white_level():
    gray = np.array([[0, 16, 4095, 5000, 65535]], '<u2')
    np.testing.assert_array_equal(convert('mono16', gray, white_level=4095)[0, :, 0], [0, 1, 255, 255, 255])
    np.testing.assert_array_equal(convert('mono16', gray)[0, :, 0], [0, 0, 16, 19, 255])
    with pytest.raises(ImageError, match='has to be positive'):
        convert('mono16', gray, white_level=0)


@pytest.mark.parametrize(('encoding', 'luma'), [('yuv422', 1), ('uyvy', 1), ('yuv422_yuy2', 0), ('yuyv', 0)])
def test_yuv(encoding, luma):
    """Gray pixels (chroma 128) keep their brightness; BT.601 limited range: 16 is black, 235 white."""
    pixels = np.full((HEIGHT, WIDTH, 2), 128, np.uint8)
    pixels[..., luma] = np.where(np.arange(WIDTH) < WIDTH // 2, 16, 235)
    out = convert(encoding, pixels, padding=4)
    assert np.abs(out[:, : WIDTH // 2].astype(int)).max() <= 1
    assert np.abs(out[:, WIDTH // 2 :].astype(int) - 255).max() <= 1
    with pytest.raises(ImageError, match='needs an even width, it is 9'):
        convert(encoding, pixels[:, :-1])


@pytest.mark.parametrize('encoding', ['bayer_rggb8', 'bayer_bggr8', 'bayer_gbrg8', 'bayer_grbg8'])
@pytest.mark.parametrize('color', [(200, 0, 0), (0, 200, 0), (0, 0, 200)])
def test_bayer(encoding, color):
    """A picture of one colour comes back as that colour."""
    mosaic = np.zeros((16, 16), np.uint8)
    for index, letter in enumerate(encoding.split('_')[1][:4]):
        mosaic[index // 2 :: 2, index % 2 :: 2] = color['rgb'.index(letter)]
    out = convert(encoding, mosaic)[4:-4, 4:-4].reshape(-1, 3)
    np.testing.assert_array_equal(out, np.tile(color, (len(out), 1)))


def test_rgb_is_not_copied():
    height, width, step, data = message(picture(), 5)
    out = decode_pixels(data, 'rgb8', width, height, step)
    data[0] = (data[0] + 1) % 256
    assert out[0, 0, 0] == data[0]
    with pytest.raises(ValueError):
        out[0, 0, 0] = 1  # the message must not be changed by accident


@pytest.mark.parametrize('kind', [bytes, bytearray, memoryview, lambda data: np.frombuffer(data, np.uint8)])
def test_any_buffer(kind):
    height, width, step, data = message(picture())
    np.testing.assert_array_equal(decode_pixels(kind(bytes(data)), 'rgb8', width, height, step), picture())


def test_the_last_row_may_lack_its_padding():
    height, width, step, data = message(picture(), 5)
    np.testing.assert_array_equal(decode_pixels(data[:-5], 'rgb8', width, height, step), picture())


@pytest.mark.parametrize('encoding', ['32FC1', 'jpeg', '', 'RGB8'])
def test_unknown_encoding(encoding):
    with pytest.raises(
        ImageError, match=f"encoding '{encoding}' is not supported; publish one of rgb8, bgr8"
    ):
        convert(encoding, picture())


@pytest.mark.parametrize(
    ('fields', 'words'),
    [
        (dict(height=0), '10×0 pixels'),
        (dict(width=0), '0×6 pixels'),
        (dict(step=29), 'step is 29 bytes, 10 pixels need at least 30'),
        (dict(step=0), 'step is 0 bytes'),
        (dict(height=7), 'has 180 bytes, 10×7 pixels with row step 30 need 210'),
        (dict(data=b''), 'has 0 bytes'),
        (dict(encoding='bgra8'), 'step is 30 bytes, 10 pixels need at least 40'),
    ],
)
def test_fields_that_do_not_fit(fields, words):
    height, width, step, data = message(picture())
    good = dict(data=data, encoding='rgb8', width=width, height=height, step=step)
    with pytest.raises(ImageError) as error:
        decode_pixels(**{**good, **fields})
    assert words in str(error.value) and '\n' not in str(error.value)


def test_png_is_lossless():
    rgb = picture()
    data = cv2.imencode('.png', rgb[..., ::-1])[1].tobytes()
    np.testing.assert_array_equal(decode_compressed(data, 'bgr8; png compressed bgr8'), rgb)
    np.testing.assert_array_equal(decode_compressed(array.array('B', data)), rgb)


def test_gray_and_16_bit_png():
    gray = picture()[..., 0]
    data = cv2.imencode('.png', gray)[1].tobytes()
    np.testing.assert_array_equal(decode_compressed(data), np.repeat(gray[..., None], 3, 2))
    data = cv2.imencode('.png', gray.astype(np.uint16) * 257)[1].tobytes()
    np.testing.assert_array_equal(decode_compressed(data), np.repeat(gray[..., None], 3, 2))


def test_jpeg_colors_are_not_swapped():
    rgb = np.zeros((32, 32, 3), np.uint8)
    rgb[:] = (200, 100, 20)
    data = cv2.imencode('.jpg', rgb[..., ::-1])[1].tobytes()
    out = decode_compressed(data, 'jpeg')
    assert np.abs(out.astype(int) - rgb).max() <= 4
    assert decode_compressed(data + bytes(100)).shape == (32, 32, 3)  # some cameras fill their buffer


@pytest.mark.parametrize('ending', ['.jpg', '.png'])
@pytest.mark.parametrize('part', [0.0, 0.01, 0.5, 0.95])
def test_truncated_files_are_refused(ending, part):
    data = cv2.imencode(ending, picture(64, 64))[1].tobytes()
    with pytest.raises(ImageError) as error:
        decode_compressed(data[: int(len(data) * part)], 'jpeg')
    assert 'cut short' in str(error.value) or 'no complete JPEG or PNG' in str(error.value)


def test_compressed_depth():
    with pytest.raises(ImageError, match='depth image'):
        decode_compressed(b'', '16UC1; compressedDepth png')


def test_no_image():
    with pytest.raises(ImageError, match="format 'theora'"):
        decode_compressed(b'this is no image', 'theora')


def test_resize_keeps_what_fits():
    rgb = picture(32, 32)
    assert resize(rgb, (32, 32)) is rgb


@pytest.mark.parametrize('size', [(48, 40), (16, 64), (5, 7), (32, 1), (1, 1), (31, 33), (8, 16)])
def test_resize_gives_the_size(size):
    assert resize(picture(32, 32), size).shape == (size[1], size[0], 3)


@pytest.mark.parametrize('factor', [2, 4, 8])
def test_shrinking_averages_all_pixels(factor):
    rgb = picture(64, 64)
    n = 64 // factor
    mean = rgb.reshape(n, factor, n, factor, 3).mean((1, 3))
    assert np.abs(resize(rgb, (n, n)) - mean).max() <= 1.51  # rounded at each halving


@pytest.mark.parametrize('shape', [(480, 640), (720, 1280), (1080, 1920), (375, 1242), (999, 1999)])
def test_shrinking_does_not_alias(shape):
    """A fine pattern becomes gray, not a coarse pattern."""
    y, x = np.indices(shape)
    pattern = (255 * ((x // 2 + y // 2) % 2)).astype(np.uint8)
    small = resize(np.repeat(pattern[..., None], 3, 2), (320, 192))
    area = cv2.resize(pattern, (320, 192), interpolation=cv2.INTER_AREA)
    assert abs(small.mean() - 127.5) < 2
    assert small[4:-4, 4:-4].std() < 1.3 * area[4:-4, 4:-4].std() + 3


@pytest.mark.parametrize(
    ('shape', 'size'), [((480, 640), (512, 384)), ((720, 1280), (320, 192)), ((60, 80), (96, 96))]
)
def test_resize_keeps_the_place_of_things(shape, size):
    """The centre of a blob moves as pixel centres do."""
    y, x = np.indices(shape)
    blob = 255 * np.exp(
        -((x - 0.7 * shape[1]) ** 2 + (y - 0.3 * shape[0]) ** 2) / (2 * (0.05 * shape[0]) ** 2)
    )
    small = resize(np.repeat(blob.astype(np.uint8)[..., None], 3, 2), size)[..., 0].astype(float)
    v, u = np.indices(small.shape)
    center = np.array([(u * small).sum(), (v * small).sum()]) / small.sum()
    scale = np.array(size) / np.array(shape[::-1])
    expected = (np.array([0.7 * shape[1], 0.3 * shape[0]]) + 0.5) * scale - 0.5
    np.testing.assert_allclose(center, expected, atol=0.05)
