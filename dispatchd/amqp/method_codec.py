"""Method frames: bytes to methods and back, by the table in `methods`."""

from typing import Any, Final

from librt.strings import BytesWriter

from dispatchd.amqp.constants import FRAME_END, FRAME_METHOD, SHORTSTR_MAX
from dispatchd.amqp.errors import AmqpError, AmqpSyntaxError, NotImplementedByServer
from dispatchd.amqp.field_table import read_table, write_table
from dispatchd.amqp.methods import METHODS, Method, field_names
from dispatchd.amqp.wire_types import Reader, write_longstr, write_shortstr, write_unsigned

_RESERVED_VALUES: Final[dict[str, Any]] = {"bit": False, "short": 0, "shortstr": "", "longstr": b""}
_ELLIPSIS: Final = "..."


class _Layout:
    """How one method looks on the wire: per argument its type and the name of its field, "" if it is reserved."""

    def __init__(self, class_id: int, method_id: int, method: type[Any], types: str) -> None:
        self.class_id: int = class_id
        self.method_id: int = method_id
        self.method: type[Any] = method
        names = iter(field_names(method))
        self.arguments: list[tuple[str, str]] = [
            (kind[1:], "") if kind.startswith("-") else (kind, next(names)) for kind in types.split()
        ]


_LAYOUTS: Final = [_Layout(*row) for row in METHODS]
_BY_IDS: Final = {(layout.class_id, layout.method_id): layout for layout in _LAYOUTS}
_BY_METHOD: Final = {layout.method: layout for layout in _LAYOUTS}


def decode_method(payload: bytes) -> Method:
    """The method that the payload of a method frame carries.

    Raises NotImplementedByServer for an unknown class or method, AmqpSyntaxError if the arguments are malformed or do
    not fill the payload exactly; both know the class and method ids then.
    """
    reader = Reader(payload, 0, len(payload))
    class_id, method_id = reader.short(), reader.short()
    layout = _BY_IDS.get((class_id, method_id))
    try:
        if layout is None:
            raise NotImplementedByServer(f"unknown method {method_id} of class {class_id}")
        method: Method = layout.method(**_read_arguments(reader, layout))
        if reader.at != reader.end:
            raise AmqpSyntaxError(f"{reader.end - reader.at} octets follow the arguments of {layout.method.__name__}")
    except AmqpError as error:
        error.blame(class_id, method_id)
        raise
    return method


def _read_arguments(reader: Reader, layout: _Layout) -> dict[str, Any]:
    values: dict[str, Any] = {}
    bits = 0
    bit = 0  # which one of the octet in `bits` comes next; adjacent bits share an octet, the lowest first
    for kind, name in layout.arguments:
        if kind == "bit":
            if bit == 0:
                bits = reader.octet()
            value: Any = bool(bits >> bit & 1)
            bit = (bit + 1) % 8
        else:
            bit = 0
            value = _read(reader, kind)
        if name:
            values[name] = value
    return values


def _read(reader: Reader, kind: str) -> Any:
    if kind == "shortstr":
        return reader.shortstr()
    if kind == "table":
        return read_table(reader)
    if kind == "short":
        return reader.short()
    if kind == "longlong":
        return reader.longlong()
    if kind == "long":
        return reader.long()
    if kind == "longstr":
        return reader.longstr()
    return reader.octet()


def encode_method(channel: int, method: Method) -> bytes:
    """A whole method frame.

    A reply text that is too long is cut; raises ValueError if any other value does not fit its wire type.
    """
    arguments = BytesWriter()
    layout = _BY_METHOD[type(method)]
    write_unsigned(arguments, layout.class_id, 2)
    write_unsigned(arguments, layout.method_id, 2)
    bits = 0
    bit = 0
    for kind, name in layout.arguments:
        value: Any = getattr(method, name) if name else _RESERVED_VALUES[kind]
        if kind == "bit":
            if bit == 8:
                arguments.append(bits)
                bits = bit = 0
            bits |= (1 if value else 0) << bit
            bit += 1
            continue
        if bit:
            arguments.append(bits)
            bits = bit = 0
        _write(arguments, kind, fit_reply_text(value) if name == "reply_text" else value)
    if bit:
        arguments.append(bits)
    out = BytesWriter()
    out.append(FRAME_METHOD)
    write_unsigned(out, channel, 2)
    write_longstr(out, arguments.getvalue())
    out.append(FRAME_END)
    return out.getvalue()


def _write(out: BytesWriter, kind: str, value: Any) -> None:
    if kind == "shortstr":
        write_shortstr(out, value)
    elif kind == "table":
        write_table(out, value)
    elif kind == "short":
        write_unsigned(out, value, 2)
    elif kind == "longlong":
        write_unsigned(out, value, 8)
    elif kind == "long":
        write_unsigned(out, value, 4)
    elif kind == "longstr":
        write_longstr(out, value)
    else:
        write_unsigned(out, value, 1)


def fit_reply_text(text: str) -> str:
    """The text, or as much of it as a short string holds, with dots after it."""
    octets = text.encode()
    if len(octets) <= SHORTSTR_MAX:
        return text
    return str(octets[: SHORTSTR_MAX - len(_ELLIPSIS)], "utf-8", "ignore") + _ELLIPSIS
