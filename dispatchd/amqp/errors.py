"""AMQP's reply codes as exceptions: raise one, and whoever answers the client closes its channel or connection with it.

Which codes close a channel and which a connection is the specification's table of reply codes (section 1.1), read as
RabbitMQ reads it.
"""

from typing import ClassVar, Final

REPLY_SUCCESS: Final = 200
NO_ROUTE: Final = 312
"""Reply code of basic.return for a mandatory message that no queue took."""


class AmqpError(Exception):
    """What close methods carry: `code`, `text`, and the class and method that failed.

    `detail` is the part of the reply text after the dash: `NotFound("no queue 'x' in vhost '/'").text` is
    `"NOT_FOUND - no queue 'x' in vhost '/'"`. `class_id` and `method_id` stay 0 until somebody who knows sets them.
    """

    code: ClassVar[int] = 0
    constant: ClassVar[str] = ""

    def __init__(self, detail: str) -> None:
        self.text: str = f"{self.constant} - {detail}"
        self.class_id: int = 0
        self.method_id: int = 0
        super().__init__(self.text)

    def blame(self, class_id: int, method_id: int) -> None:
        """Name the method that failed, unless somebody who knew better has named it."""
        if not self.class_id:
            self.class_id, self.method_id = class_id, method_id


class ChannelException(AmqpError):  # noqa: N818 - a channel exception is what the specification calls it
    """Closes the channel with channel.close; the connection goes on."""


class ConnectionException(AmqpError):  # noqa: N818 - likewise
    """Closes the connection with connection.close."""


class ContentTooLarge(ChannelException):
    """The content cannot be taken now; the client may try again later."""

    code: ClassVar[int] = 311
    constant: ClassVar[str] = "CONTENT_TOO_LARGE"


class NoConsumers(ChannelException):
    """An immediate message that no consumer could take at once."""

    code: ClassVar[int] = 313
    constant: ClassVar[str] = "NO_CONSUMERS"


class AccessRefused(ChannelException):
    """The user may not do this."""

    code: ClassVar[int] = 403
    constant: ClassVar[str] = "ACCESS_REFUSED"


class NotFound(ChannelException):
    """The named exchange, queue or binding does not exist."""

    code: ClassVar[int] = 404
    constant: ClassVar[str] = "NOT_FOUND"


class ResourceLocked(ChannelException):
    """Another connection has the queue for itself."""

    code: ClassVar[int] = 405
    constant: ClassVar[str] = "RESOURCE_LOCKED"


class PreconditionFailed(ChannelException):
    """Something that the method relies on is not so."""

    code: ClassVar[int] = 406
    constant: ClassVar[str] = "PRECONDITION_FAILED"


class Unavailable(ChannelException):
    """Something in the server that a method needs has failed: INTERNAL_ERROR, but for this channel alone."""

    code: ClassVar[int] = 541
    constant: ClassVar[str] = "INTERNAL_ERROR"


class ConnectionForced(ConnectionException):
    """An operator closes the connection."""

    code: ClassVar[int] = 320
    constant: ClassVar[str] = "CONNECTION_FORCED"


class InvalidPath(ConnectionException):
    """The client asked for a virtual host that does not exist."""

    code: ClassVar[int] = 402
    constant: ClassVar[str] = "INVALID_PATH"


class LoginRefused(ConnectionException):
    """Credentials that are not accepted: the reply code of a channel's ACCESS_REFUSED, but for the connection."""

    code: ClassVar[int] = 403
    constant: ClassVar[str] = "ACCESS_REFUSED"


class FrameError(ConnectionException):
    """A frame that cannot be decoded."""

    code: ClassVar[int] = 501
    constant: ClassVar[str] = "FRAME_ERROR"


class AmqpSyntaxError(ConnectionException):
    """A frame whose fields have values that they cannot have."""

    code: ClassVar[int] = 502
    constant: ClassVar[str] = "SYNTAX_ERROR"


class CommandInvalid(ConnectionException):
    """A method that makes no sense in this place."""

    code: ClassVar[int] = 503
    constant: ClassVar[str] = "COMMAND_INVALID"


class ChannelError(ConnectionException):
    """A channel that is not open, or cannot be opened."""

    code: ClassVar[int] = 504
    constant: ClassVar[str] = "CHANNEL_ERROR"


class UnexpectedFrame(ConnectionException):
    """A frame that was not expected here, such as content without a method before it."""

    code: ClassVar[int] = 505
    constant: ClassVar[str] = "UNEXPECTED_FRAME"


class ResourceError(ConnectionException):
    """The server lacks what it needs to go on."""

    code: ClassVar[int] = 506
    constant: ClassVar[str] = "RESOURCE_ERROR"


class NotAllowed(ConnectionException):
    """A limit or a rule forbids it, whoever asks."""

    code: ClassVar[int] = 530
    constant: ClassVar[str] = "NOT_ALLOWED"


class NotImplementedByServer(ConnectionException):
    """Something of AMQP that the server does not have."""

    code: ClassVar[int] = 540
    constant: ClassVar[str] = "NOT_IMPLEMENTED"


class InternalError(ConnectionException):
    """The server failed."""

    code: ClassVar[int] = 541
    constant: ClassVar[str] = "INTERNAL_ERROR"
