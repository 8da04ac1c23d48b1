"""The arguments of a delayed exchange (RabbitMQ's plugin): it routes as another type does, later."""

from typing import Any, Final

from dispatchd.amqp.errors import PreconditionFailed

DELAYED_MESSAGE: Final = "x-delayed-message"
DELAYED_TYPE: Final = "x-delayed-type"


def routing_type(type_name: str, arguments: dict[str, Any]) -> str:
    """The type by which an exchange of the type `type_name` routes: its own, unless it is a delayed exchange."""
    return _delayed_type(arguments) if type_name == DELAYED_MESSAGE else type_name


def check_delayed_type(arguments: dict[str, Any]) -> None:
    """Raises PreconditionFailed (406) with the plugin's texts if no type to route by is named.

    Whether there is a type of that name is not checked here.
    """
    name = _delayed_type(arguments)
    if name == DELAYED_MESSAGE:
        raise PreconditionFailed(f"Invalid argument, '{DELAYED_MESSAGE}' can't be used for '{DELAYED_TYPE}'")
    if not isinstance(arguments.get(DELAYED_TYPE), str | bytes):
        raise PreconditionFailed(f"Invalid argument, '{DELAYED_TYPE}' must be an existing exchange type")


def _delayed_type(arguments: dict[str, Any]) -> str:
    name = arguments.get(DELAYED_TYPE)
    if isinstance(name, bytes):
        return name.decode("utf-8", "backslashreplace")
    return name if isinstance(name, str) else ""
