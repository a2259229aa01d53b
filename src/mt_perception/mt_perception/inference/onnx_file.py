"""
Read what an ONNX file says about itself, without an ONNX library.

An ONNX file is one protobuf message (onnx.proto, ``ModelProto``). Its metadata and the names, types and
shapes of its inputs and outputs are a few fields of it; everything else (nodes, weights) is stepped over, so
reading takes about a millisecond and works on a machine that has TensorRT and no ONNX Runtime.
"""

import mmap
from dataclasses import dataclass
from pathlib import Path

from mt_perception.errors import ModelError

# TensorProto.DataType
ELEMENT_TYPES = {
    1: 'float32',
    2: 'uint8',
    3: 'int8',
    4: 'uint16',
    5: 'int16',
    6: 'int32',
    7: 'int64',
    8: 'string',
    9: 'bool',
    10: 'float16',
    11: 'float64',
    16: 'bfloat16',
}
GIT_LFS_POINTER = b'version https://git-lfs'


class WireError(ValueError):
    """Bytes that are not a protobuf message."""


@dataclass(frozen=True)
class TensorInfo:
    """
    An input or output of the graph.

    :param dtype: numpy name of the element type, '' when it is no tensor.
    :param shape: tuple with one entry per axis: a size, or the axis' name ('' when it has none) when dynamic.
    """

    dtype: str
    shape: tuple

    def __str__(self):
        """Write as ``uint8 [1, height, width, 3]``."""
        return f'{self.dtype} [{", ".join(str(size) or "?" for size in self.shape)}]'


@dataclass(frozen=True)
class OnnxHeader:
    """
    What a file says about itself.

    :param metadata: {key: value} of ``metadata_props``.
    :param inputs: {name: :class:`TensorInfo`} without those that have a default value.
    :param outputs: {name: :class:`TensorInfo`}.
    """

    metadata: dict
    inputs: dict
    outputs: dict


def read_onnx_header(path):
    """
    Read metadata, inputs and outputs of an ONNX file.

    :param path: file path.
    :return: :class:`OnnxHeader`.
    :raises ModelError: no such file, or not a complete ONNX file.
    """
    try:
        with open(path, 'rb') as file:
            if file.read(len(GIT_LFS_POINTER)) == GIT_LFS_POINTER:
                raise ModelError(f"model '{path}' is a Git LFS pointer, not the model: run 'git lfs pull'")
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                return _model(data)
    except FileNotFoundError:
        raise ModelError(f"model '{path}' does not exist") from None
    except IsADirectoryError:
        raise ModelError(f"model '{path}' is a folder, not an ONNX file") from None
    except OSError as error:
        raise ModelError(f"model '{path}' cannot be read: {error.strerror}") from None
    except ValueError as error:  # WireError, an empty file (mmap), text that is not UTF-8
        raise ModelError(f"model '{path}' is not an ONNX file, or not a complete one ({error})") from None


def _model(data):
    """Parse a ModelProto: graph = 7, metadata_props = 14 {key = 1, value = 2}."""
    metadata, graph = {}, None
    for number, value in _fields(data, 0, len(data)):
        if number == 7:
            graph = value
        elif number == 14:
            entry = dict(_fields(data, *_span(value)))
            metadata[_text(data, entry.get(1))] = _text(data, entry.get(2))
    if graph is None:
        raise WireError('it has no graph')
    inputs, outputs, initializers = {}, {}, set()
    for number, value in _fields(data, *_span(graph)):  # GraphProto
        if number == 5:
            initializers.add(_initializer_name(data, _span(value)))
        elif number in (11, 12):
            name, info = _value_info(data, _span(value))
            (inputs if number == 11 else outputs)[name] = info
    if not outputs:
        raise WireError('its graph has no outputs')
    return OnnxHeader(metadata, {k: v for k, v in inputs.items() if k not in initializers}, outputs)


def _initializer_name(data, span):
    """Return TensorProto.name (8)."""
    for number, value in _fields(data, *span):
        if number == 8:
            return _text(data, value)
    return ''


def _value_info(data, span):
    """Parse a ValueInfoProto {name = 1, type = 2 {tensor_type = 1 {elem_type = 1, shape = 2 {dim = 1}}}}."""
    info = dict(_fields(data, *span))
    dtype, shape = '', []
    types = dict(_fields(data, *_span(info[2]))) if 2 in info else {}
    if 1 in types:
        tensor = dict(_fields(data, *_span(types[1])))
        dtype = ELEMENT_TYPES.get(tensor.get(1), f'type {tensor.get(1)}')
        for number, value in _fields(data, *_span(tensor[2])) if 2 in tensor else ():
            if number == 1:  # Dimension {dim_value = 1, dim_param = 2}
                size = dict(_fields(data, *_span(value)))
                shape.append(size[1] if 1 in size else _text(data, size.get(2)))
    return _text(data, info.get(1)), TensorInfo(dtype, tuple(shape))


def _fields(data, start, end):
    """
    Yield (field number, value) of the message in ``data[start:end]``.

    A value is an int, or the (start, end) span of a length-delimited field.
    """
    while start < end:
        key, start = _varint(data, start, end)
        number, wire = key >> 3, key & 7
        if number == 0:
            raise WireError(f'no field number at byte {start}')
        if wire == 0:
            value, start = _varint(data, start, end)
        elif wire == 2:
            length, start = _varint(data, start, end)
            value, start = (start, start + length), start + length
        elif wire in (1, 5):
            value, start = None, start + (8 if wire == 1 else 4)
        else:
            raise WireError(f'unknown wire type {wire} at byte {start}')
        if start > end:
            raise WireError(f'it ends {start - end} bytes too early')
        yield number, value


def _varint(data, start, end):
    """Return (value, position after it) of the base-128 number at ``start``."""
    value = shift = 0
    while start < end and shift < 64:
        byte = data[start]
        value |= (byte & 0x7F) << shift
        start += 1
        if byte < 0x80:
            return value, start
        shift += 7
    raise WireError('it ends within a number')


def _span(value):
    """Return a (start, end) span, or say that a message was expected."""
    if not isinstance(value, tuple):
        raise WireError('a number stands where a message belongs')
    return value


def _text(data, value):
    """Return the UTF-8 string of a span; '' when the field is absent."""
    return '' if value is None else data[slice(*_span(value))].decode()


def cut_to_outputs(path, outputs):
    """
    Return the ONNX file without the nodes that ``outputs`` do not need.

    :param path: ONNX file.
    :param outputs: names of the graph outputs to keep.
    :return: bytes of an ONNX file; the kept parts are copied as they are.
    :raises ModelError: the file cannot be read or is no ONNX file.
    """
    try:
        data = Path(path).read_bytes()
        graph = next(value for number, value in _fields(data, 0, len(data)) if number == 7)
        parts = [(number, value) for number, value in _fields(data, *graph)]
        nodes = [_node(data, value) for number, value in parts if number == 1]
        keep, wanted = set(), set(outputs)
        for index in range(len(nodes) - 1, -1, -1):  # ONNX nodes are in topological order
            makes, uses = nodes[index]
            if wanted & makes:
                keep.add(index)
                wanted |= uses
        kept, index = [], -1
        for number, value in parts:
            index += number == 1
            if number == 1 and index not in keep:
                continue
            if number == 5 and _initializer_name(data, value) not in wanted:
                continue
            if number == 12 and _value_info(data, value)[0] not in outputs:
                continue
            kept.append((number, value))
        body = b''.join(_length_delimited(number, data[slice(*_span(value))]) for number, value in kept)
        # a message may be given in parts: fields before and after the graph stay as they are
        start = graph[0] - len(_length_delimited(7, b'', graph[1] - graph[0]))
        return data[:start] + _length_delimited(7, body) + data[graph[1] :]
    except OSError as error:
        raise ModelError(f"model '{path}' cannot be read: {error.strerror}") from None
    except (ValueError, StopIteration) as error:
        raise ModelError(f"model '{path}' is not an ONNX file, or not a complete one ({error})") from None


def _node(data, span):
    """Return (names a NodeProto makes, names it uses, those of graphs inside it included)."""
    makes, uses = set(), set()
    for number, value in _fields(data, *span):
        if number == 1:
            uses.add(_text(data, value))
        elif number == 2:
            makes.add(_text(data, value))
        elif number == 5:  # AttributeProto: g = 6, graphs = 11
            for inner, graph in _fields(data, *_span(value)):
                if inner in (6, 11):
                    for field, part in _fields(data, *_span(graph)):
                        if field == 1:
                            uses |= _node(data, _span(part))[1]
                        elif field == 12:  # an outer value handed through
                            uses.add(_value_info(data, _span(part))[0])
    return makes - {''}, uses - {''}


def _length_delimited(number, body, length=None):
    """Return field ``number`` holding ``body``; its key and length only when ``length`` is given."""
    out, value = bytearray(), len(body) if length is None else length
    for rest in (number << 3 | 2, value):
        while rest > 0x7F:
            out.append(rest & 0x7F | 0x80)
            rest >>= 7
        out.append(rest)
    return bytes(out) + body
