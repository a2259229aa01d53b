"""
Names and arguments of the real TensorRT Python bindings, read without TensorRT and without a GPU.

The bindings' wheels hold no library: they load three of them. Here gcc makes three empty ones that export
the symbols the bindings look for, so that the module can be imported in a process of its own and asked for
its names.
Run this file to write data/tensorrt_names.json anew.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

NAMES = Path(__file__).parent / 'data' / 'tensorrt_names.json'
WHEELS = {  # version of TensorRT: what to ask PyPI for
    '10.3.0': ('tensorrt-cu12-bindings', '10.3.0'),
    '11.4.0': ('tensorrt-cu13-bindings', '11.4.0.106'),
}
CLASSES = (
    'Builder',
    'BuilderFlag',
    'DataType',
    'IBuilderConfig',
    'ICudaEngine',
    'IExecutionContext',
    'ILogger',
    'INetworkDefinition',
    'IOptimizationProfile',
    'IProgressMonitor',
    'ITensor',
    'MemoryPoolType',
    'NetworkDefinitionCreationFlag',
    'OnnxParser',
    'ParserError',
    'Runtime',
    'TensorIOMode',
)
LIBRARIES = ('nvinfer', 'nvinfer_plugin', 'nvonnxparser')
SYMBOLS = (
    'createInferBuilder_INTERNAL',
    'createInferRefitter_INTERNAL',
    'createInferRuntime_INTERNAL',
    'createNvOnnxParser_INTERNAL',
    'createNvOnnxParserRefitter_INTERNAL',
    'getNvOnnxParserVersion',
    'getBuilderPluginRegistry',
    'getPluginRegistry',
    'initLibNvInferPlugins',
)


class Unavailable(Exception):
    """The bindings cannot be had on this machine; says why."""


def real_names(version, cache):
    """
    Return {class: {member: arguments}} of the real bindings.

    Arguments are a list of lists of names, one for each overload, with '=' behind those that have a default;
    null for a property; for an enum the value.

    :param version: a key of ``WHEELS``.
    :param cache: folder where wheels are kept.
    :raises Unavailable: no network, no gcc, or no wheel for this Python.
    """
    folder = Path(cache) / f'tensorrt-{version}-{sys.implementation.cache_tag}'
    if not (folder / 'tensorrt_bindings').is_dir():
        _download(version, folder)
    _stub_libraries(folder, version.split('.')[0])
    libraries = f'{folder}{os.pathsep}{os.environ.get("LD_LIBRARY_PATH", "")}'
    environment = {**os.environ, 'LD_LIBRARY_PATH': libraries, 'PYTHONPATH': str(folder)}
    process = subprocess.run(
        [sys.executable, __file__, '--print-names'],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    if process.returncode:
        raise Unavailable(f'the bindings cannot be imported: {process.stderr.strip().splitlines()[-1]}')
    return json.loads(process.stdout)


def _download(version, folder):
    name, exact = WHEELS[version]
    command = [sys.executable, '-m', 'pip', 'download', '--quiet', '--no-deps', '--only-binary', ':all:']
    with tempfile.TemporaryDirectory() as temporary:
        command += ['--dest', temporary, f'{name}=={exact}']
        try:
            process = subprocess.run(command, capture_output=True, text=True, timeout=120)
        except subprocess.TimeoutExpired:
            raise Unavailable(f'{name} {exact} cannot be downloaded: no answer in 120 s') from None
        wheels = list(Path(temporary).glob('*.whl'))
        if process.returncode or not wheels:
            reason = (process.stderr.strip().splitlines() or ['no wheel'])[-1]
            raise Unavailable(f'{name} {exact} cannot be downloaded: {reason}')
        beside = Path(tempfile.mkdtemp(dir=_made(folder.parent)))
        zipfile.ZipFile(wheels[0]).extractall(beside)
        beside.rename(folder)


def _stub_libraries(folder, major):
    source = '\n'.join(f'void *{symbol}(void) {{ return 0; }}' for symbol in SYMBOLS)
    for library in LIBRARIES:
        name = f'lib{library}.so.{major}'
        if (folder / name).exists():
            continue
        command = ['gcc', '-shared', '-fPIC', '-x', 'c', '-', '-o', str(folder / name), f'-Wl,-soname,{name}']
        try:
            subprocess.run(command, input=source, text=True, check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError) as error:
            raise Unavailable(f'gcc cannot make {name}: {error}') from None


def _made(folder):
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _read_names():
    """Return the names; runs inside the process that has the bindings."""
    import tensorrt_bindings as package
    from tensorrt_bindings import tensorrt

    out = {'': {'__version__': package.__version__}}
    for name in CLASSES:
        item = getattr(tensorrt, name)
        if hasattr(item, '__members__'):
            out[name] = {key: int(value) for key, value in item.__members__.items()}
            continue
        out[name] = {}
        for member in dir(item):
            if member.startswith('_') and member != '__init__':
                continue
            value = getattr(item, member)
            if isinstance(value, property):
                out[name][member] = None
            elif hasattr(value, '__members__'):
                out[name][member] = {key: int(number) for key, number in value.__members__.items()}
            else:
                out[name][member] = _overloads(member, value.__doc__ or '')
    return out


def _overloads(name, doc):
    """Argument names of every overload in a pybind11 docstring, self left out."""
    found = []
    for line in doc.splitlines():
        match = re.match(rf'(?:\d+\. )?{name}\((.*)\) ->', line.strip())
        if match:
            plain = re.sub(r'<[^>]*>|\[[^\[\]]*\]', '', match.group(1))
            arguments = [part.strip() for part in plain.split(',')]
            names = [a.split(':')[0] + ('=' if '=' in a else '') for a in arguments]
            found.append([name for name in names if name not in ('', 'self')])
    return found


if __name__ == '__main__':
    if '--print-names' in sys.argv:
        print(json.dumps(_read_names()))
    else:
        names = {
            version: real_names(version, Path(tempfile.gettempdir()) / 'tensorrt_bindings')
            for version in WHEELS
        }
        _made(NAMES.parent)
        lines = []
        for version, classes in names.items():
            rows = [f'    {json.dumps(key)}: {json.dumps(value)}' for key, value in classes.items()]
            lines.append(f'  {json.dumps(version)}: {{\n' + ',\n'.join(rows) + '\n  }')
        NAMES.write_text('{\n' + ',\n'.join(lines) + '\n}\n')
