"""The headers exchange: the binding's arguments are compared with the message's headers."""

from decimal import Decimal
from typing import Any, Final

from dispatchd.amqp.errors import AmqpSyntaxError, PreconditionFailed
from dispatchd.amqp.field_table import read_table
from dispatchd.amqp.message import Message
from dispatchd.amqp.properties import headers_table
from dispatchd.amqp.wire_types import Reader
from dispatchd.model.arguments import field_type
from dispatchd.model.binding import Binding, BindingKey, Destination, canonical
from dispatchd.model.exchanges.matched import Matched
from dispatchd.model.exchanges.table import RoutingTable

ALL: Final = "all"
ANY: Final = "any"
ALL_WITH_X: Final = "all-with-x"
ANY_WITH_X: Final = "any-with-x"
X_MATCHES: Final = (ALL, ANY, ALL_WITH_X, ANY_WITH_X)


def check_headers_binding(arguments: dict[str, Any]) -> None:
    """Raises PreconditionFailed (406) for an `x-match` that RabbitMQ refuses, with its text. The default is `all`."""
    if "x-match" not in arguments:
        return
    x_match = arguments["x-match"]
    if not isinstance(x_match, str):
        raise PreconditionFailed(
            f"Invalid x-match field type {field_type(x_match)} (value {x_match!r}); expected longstr"
        )
    if x_match not in X_MATCHES:
        raise PreconditionFailed(
            f'Invalid x-match field value <<"{x_match}">>; expected all, any, all-with-x, or any-with-x'
        )


def comparable(value: Any) -> object:
    """What RabbitMQ compares of a field value: numbers by value, strings by their bytes, the rest with their types.

    It ignores the field's type (rabbit_exchange_type_headers): 1 equals 1.0 and a timestamp its seconds, but true is
    not 1, and "1" is not 1.
    """
    if isinstance(value, str):
        return value.encode()
    if isinstance(value, (bool, dict, list)) or value is None:
        return canonical(value)
    if isinstance(value, Decimal):
        return ("decimal", *value.as_tuple())
    result: object = value
    return result


class HeadersPattern:
    """What one binding asks of the headers."""

    __slots__ = ("any_is_enough", "present", "values")

    def __init__(self, arguments: dict[str, Any]) -> None:
        x_match = arguments.get("x-match", ALL)
        with_x = x_match in (ALL_WITH_X, ANY_WITH_X)
        self.any_is_enough: bool = x_match in (ANY, ANY_WITH_X)
        self.present: list[str] = []  # a void value asks for any value
        self.values: list[tuple[str, object]] = []
        for name, value in arguments.items():
            if name == "x-match" or (name.startswith("x-") and not with_x):
                continue
            if value is None:
                self.present.append(name)
            else:
                self.values.append((name, comparable(value)))

    def matches(self, headers: dict[str, object]) -> bool:
        """Whether headers, their values made comparable, fulfil any or all of it. Nothing fulfils any of nothing."""
        wanted = self.any_is_enough
        for name in self.present:
            if (name in headers) == wanted:
                return wanted
        for name, value in self.values:
            if (name in headers and headers[name] == value) == wanted:
                return wanted
        return not wanted


class HeadersTable(RoutingTable):
    """Every destination with a binding whose arguments fit the message's headers."""

    by_key_only: bool = False

    def __init__(self) -> None:
        super().__init__()
        self._patterns: dict[BindingKey, tuple[HeadersPattern, Destination]] = {}
        self._matched = Matched()

    def added(self, binding: Binding) -> None:
        """Reads the binding's arguments."""
        self._patterns[binding.key] = (HeadersPattern(binding.arguments), binding.destination)
        self._matched.forget()

    def removed(self, binding: Binding) -> None:
        """Forgets the binding."""
        del self._patterns[binding.key]
        self._matched.forget()

    def match(self, message: Message) -> list[Destination]:
        """The destinations whose arguments fit; malformed properties count as no headers."""
        try:
            table = headers_table(message.header)
        except AmqpSyntaxError:
            table = b""
        found = self._matched.get(table)
        if found is None:
            found = self._match(table)
            self._matched.keep(table, len(table), found)
        return found

    def _match(self, table: bytes) -> list[Destination]:
        try:
            headers = read_table(Reader(table, 0, len(table))) if table else {}
        except AmqpSyntaxError:
            headers = {}
        compared = {name: comparable(value) for name, value in headers.items()}
        found: dict[Destination, None] = {}
        for pattern, destination in self._patterns.values():
            if destination not in found and pattern.matches(compared):
                found[destination] = None
        return list(found)
