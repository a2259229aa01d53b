"""Declared, described and checked parameters of a node."""

from dataclasses import dataclass

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor, SetParametersResult
from rclpy.exceptions import ParameterException

from mt_perception.errors import MtError

ANY_TIME = 'any time'
UNCONFIGURED = 'unconfigured'
NEVER = 'never'


class ParameterError(MtError):
    """A parameter with a value the node cannot work with."""


@dataclass(frozen=True)
class Parameter:
    """
    One parameter of a node.

    :param name: as users type it.
    :param default: also fixes the type.
    :param description: one sentence with the unit.
    :param minimum: least legal value of a number.
    :param maximum: greatest legal value of a number.
    :param choices: the legal values of a text.
    :param length: the legal lengths of a list.
    :param change: when it may be changed: at any time, while the node is unconfigured, or never
        (after the start).
    """

    name: str
    default: object
    description: str
    minimum: float | None = None
    maximum: float | None = None
    choices: tuple = ()
    length: tuple = ()
    change: str = ANY_TIME

    def descriptor(self):
        """Return the rcl_interfaces/ParameterDescriptor users see in ``ros2 param describe``."""
        constraints = []
        if self.choices:
            constraints.append('one of: ' + ', '.join(repr(choice) for choice in self.choices))
        if self.length:
            constraints.append('length ' + ' or '.join(str(length) for length in self.length))
        if self.change == UNCONFIGURED:
            constraints.append('can be changed while the node is unconfigured')
        descriptor = ParameterDescriptor(
            name=self.name,
            description=self.description,
            additional_constraints='; '.join(constraints),
            read_only=self.change == NEVER,
            # Whole numbers are welcome where a number is asked for: `rate:=10`.
            dynamic_typing=isinstance(self.default, float | list),
        )
        if self.minimum is not None:
            if isinstance(self.default, float):
                descriptor.floating_point_range = [
                    FloatingPointRange(from_value=float(self.minimum), to_value=float(self.maximum))
                ]
            else:
                descriptor.integer_range = [
                    IntegerRange(from_value=self.minimum, to_value=self.maximum, step=1)
                ]
        return descriptor

    def convert(self, value):
        """
        Return ``value`` as the default's type.

        :raises ParameterError: the value is not legal.
        """
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if isinstance(self.default, float):
            if not number:
                raise ParameterError(f"parameter '{self.name}' must be a number, it is {value!r}")
            value = float(value)
        elif isinstance(self.default, list) and self.default and isinstance(self.default[0], str):
            if not isinstance(value, list | tuple) or not all(isinstance(entry, str) for entry in value):
                raise ParameterError(f"parameter '{self.name}' must be a list of texts, it is {value!r}")
            value = list(value)
        elif isinstance(self.default, list):
            try:
                value = [float(entry) for entry in value]
            except (TypeError, ValueError):
                raise ParameterError(
                    f"parameter '{self.name}' must be a list of numbers, it is {value!r}"
                ) from None
        if self.minimum is not None and not self.minimum <= value <= self.maximum:
            raise ParameterError(
                f"parameter '{self.name}' must be between {self.minimum:g} and {self.maximum:g}, "
                f'it is {value:g}'
            )
        if self.choices and value not in self.choices:
            raise ParameterError(
                f"parameter '{self.name}' must be one of {', '.join(map(repr, self.choices))}, "
                f'it is {value!r}'
            )
        if self.length and len(value) not in self.length:
            raise ParameterError(
                f"parameter '{self.name}' must have {' or '.join(map(str, self.length))} values, "
                f'it has {len(value)}'
            )
        return value


class Parameters:
    """
    The parameters of one node, as attributes: ``parameters.max_keypoints``.

    :param node: the node that declares them.
    :param table: :class:`Parameter` entries.
    :param is_configured: tells whether the node is past ``configure``.
    :param on_change: called with (name, value) after a parameter has changed.
    :raises ParameterError: the value given at the start is not legal.
    """

    def __init__(self, node, table, is_configured, on_change):
        self._node = node
        self._table = {entry.name: entry for entry in table}
        self._is_configured = is_configured
        self._on_change = on_change
        self._values = {}
        for entry in table:
            try:
                declared = node.declare_parameter(entry.name, entry.default, entry.descriptor())
            except ParameterException as error:
                raise ParameterError(self._explain(entry, error)) from error
            self._values[entry.name] = entry.convert(declared.value)
        node.add_on_set_parameters_callback(self._on_set)

    def __getattr__(self, name):
        """Return the value of the parameter ``name``."""
        try:
            return self.__dict__['_values'][name]
        except KeyError:
            raise AttributeError(name) from None

    @staticmethod
    def _explain(entry, error):
        kind = {
            str: 'a text',
            bool: 'true or false',
            int: 'a whole number',
            float: 'a number',
            list: 'a list',
        }
        limits = f' between {entry.minimum} and {entry.maximum}' if entry.minimum is not None else ''
        reason = ' '.join(str(error).split())
        return f"parameter '{entry.name}' must be {kind[type(entry.default)]}{limits} ({reason})"

    def _on_set(self, changes):
        accepted = {}
        for change in changes:
            entry = self._table.get(change.name)
            if entry is None:
                continue
            if entry.change == UNCONFIGURED and self._is_configured():
                return SetParametersResult(
                    successful=False,
                    reason=f"parameter '{entry.name}' can be changed only while the node is unconfigured: "
                    'deactivate and clean it up first',
                )
            try:
                accepted[entry.name] = entry.convert(change.value)
            except ParameterError as error:
                return SetParametersResult(successful=False, reason=str(error))
        for name, value in accepted.items():
            self._values[name] = value
            self._on_change(name, value)
        return SetParametersResult(successful=True)
