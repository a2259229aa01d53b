"""
Every TensorRT name and argument the engine uses exists in TensorRT 10.3 and 11.4.

data/tensorrt_names.json holds what the real bindings say; it is compared with the bindings themselves
wherever they can be downloaded. The engine's source is checked against it, and so is the stand-in the other
tests use, so that neither can name what TensorRT does not have.
"""

import ast
import enum
import inspect
import json
import tempfile
from pathlib import Path

import pytest

import standin_tensorrt
import tensorrt_reader
from mt_perception.inference import tensorrt_builder, tensorrt_engine

NAMES = json.loads(tensorrt_reader.NAMES.read_text())
FILES = (tensorrt_builder, tensorrt_engine)

# what the variables of the two files hold
VARIABLES = {
    'builder': 'Builder',
    'network': 'INetworkDefinition',
    'parser': 'OnnxParser',
    'config': 'IBuilderConfig',
    'profile': 'IOptimizationProfile',
    'tensor': 'ITensor',
    'kinds': 'NetworkDefinitionCreationFlag',
    'self._runtime': 'Runtime',
    'self._engine': 'ICudaEngine',
    'self._execution': 'IExecutionContext',
    'parser.get_error()': 'ParserError',
}
# not in every version; the code asks before it uses them
GUARDED = {
    ('NetworkDefinitionCreationFlag', 'EXPLICIT_BATCH'),  # TensorRT 8.6, where there is no STRONGLY_TYPED
    ('BuilderFlag', 'FP16'),  # likewise
}


@pytest.mark.parametrize('version', tensorrt_reader.WHEELS)
def test_the_committed_names_are_the_real_ones(version):
    try:
        found = tensorrt_reader.real_names(version, Path(tempfile.gettempdir()) / 'tensorrt_bindings')
    except tensorrt_reader.Unavailable as error:
        pytest.skip(str(error))
    assert found == NAMES[version]


def text_of(node):
    """Return 'a.b.c()' of an expression made of names, attributes and calls, '' of any other."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        left = text_of(node.value)
        return f'{left}.{node.attr}' if left else ''
    if isinstance(node, ast.Call):
        left = text_of(node.func)
        return f'{left}()' if left else ''
    return ''


def uses():
    """Yield (class, member, call or None) for everything of TensorRT the two files use; '' = the module."""
    for module in FILES:
        tree = ast.parse(inspect.getsource(module))
        calls = {id(node.func): node for node in ast.walk(tree) if isinstance(node, ast.Call)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute):
                left = text_of(node.value)
                left = left.replace('self._trt', 'trt')
                if left == 'trt':
                    yield '', node.attr, calls.get(id(node))
                elif left.startswith('trt.'):
                    yield left[4:], node.attr, calls.get(id(node))
                elif left in VARIABLES:
                    yield VARIABLES[left], node.attr, calls.get(id(node))
            if isinstance(node, ast.Call) and text_of(node.func) == 'hasattr':
                left = text_of(node.args[0])
                if left.startswith('trt'):
                    yield left[4:], node.args[1].value, None


def accepts(overloads, positional, keywords):
    """Return whether one of the overloads takes that many arguments and these keywords."""
    for arguments in overloads:
        names = [argument.rstrip('=') for argument in arguments]
        given = set(names[:positional]) | set(keywords)
        required = {argument for argument in arguments if not argument.endswith('=')}
        if positional <= len(names) and set(keywords) <= set(names) and required <= given:
            return True
    return False


@pytest.mark.parametrize('version', NAMES)
def test_every_name_in_the_source_is_real(version):
    names = NAMES[version]
    seen = set()
    for owner, member, call in uses():
        if owner == '' and member == '__version__':
            continue
        seen.add((owner, member))
        if owner == '':
            assert member in names, f'tensorrt.{member}'
            if call is not None:
                member, owner = '__init__', member
        else:
            known = names
            for part in owner.split('.'):
                known = known[part]
            if (owner, member) in GUARDED:
                continue
            assert member in known, f'{owner}.{member} is not in TensorRT {version}'
        if call is not None and owner.split('.')[0] in names:
            overloads = names[owner][member]
            keywords = [keyword.arg for keyword in call.keywords]
            bound = len(call.args) - (
                text_of(call.func) == f'trt.{owner}.__init__'
            )  # there self is written out
            assert accepts(overloads, bound, keywords), f'{owner}.{member}{overloads} called otherwise'
    for owner in VARIABLES.values():
        assert any(pair[0] == owner for pair in seen), f'no {owner} is used: bring VARIABLES up to date'
    assert GUARDED <= seen


@pytest.mark.parametrize('version', NAMES)
def test_methods_called_by_tensorrt_have_its_arguments(version):
    """TensorRT calls our logger and progress monitor with these."""
    module = standin_tensorrt.make('10.3.0')
    progress = tensorrt_builder._progress_monitor(module, print)
    for item, owner, methods in (
        (tensorrt_builder.make_logger(module), 'ILogger', ['log']),
        (progress, 'IProgressMonitor', ['phase_start', 'step_complete', 'phase_finish']),
    ):
        for method in methods:
            assert (
                list(inspect.signature(getattr(item, method)).parameters) == NAMES[version][owner][method][0]
            )


@pytest.mark.parametrize(('version', 'made'), [('10.3.0', '10.3.0'), ('11.4.0', '11.4.0')])
def test_the_stand_in_has_only_real_names(version, made):
    names = NAMES[version]
    module = standin_tensorrt.make(made)
    for name, item in vars(module).items():
        if name.startswith('_'):
            continue
        assert name in names, name
        if issubclass(item, enum.Enum):
            assert set(item.__members__) <= set(names[name]), name
            continue
        for member, value in vars(item).items():
            if member.startswith('_') or member in ('builds', 'Severity'):
                continue
            assert member in names[name], f'{name}.{member}'
            if inspect.isfunction(value):
                parameters = list(inspect.signature(value).parameters.values())[1:]
                mine = [p.name + ('=' if p.default is not p.empty else '') for p in parameters]
                real = names[name][member]
                assert any(fits(mine, arguments) for arguments in real), (
                    f'{name}.{member}{mine} is not {real}'
                )
    assert set(module.ILogger.Severity.__members__) == set(names['ILogger']['Severity'])


def fits(mine, real):
    """Return whether the stand-in takes the real arguments; it may leave out ones that have a default."""
    return [a.rstrip('=') for a in mine] == [a.rstrip('=') for a in real[: len(mine)]] and all(
        argument.endswith('=') for argument in real[len(mine) :]
    )
