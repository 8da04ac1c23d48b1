import pytest

from dispatchd.amqp import errors
from dispatchd.amqp.errors import AmqpError, ChannelException, ConnectionException

# The specification's table of reply codes (1.1), with the kind that RabbitMQ gives them; 541 is for channels too.
REPLY_CODES = {
    ChannelException: {311, 313, 403, 404, 405, 406, 541},
    ConnectionException: {320, 402, 403, 501, 502, 503, 504, 505, 506, 530, 540, 541},
}


@pytest.mark.parametrize("kind", REPLY_CODES)
def test_every_reply_code_has_one_exception(kind: type[AmqpError]) -> None:
    assert sorted(each.code for each in kind.__subclasses__()) == sorted(REPLY_CODES[kind])


def test_what_a_close_method_carries() -> None:
    error = errors.NotFound("no queue 'x' in vhost '/'")
    assert (error.code, error.text) == (404, "NOT_FOUND - no queue 'x' in vhost '/'")
    assert str(error) == error.text
    assert (error.class_id, error.method_id) == (0, 0)
    error.class_id, error.method_id = 50, 10
    with pytest.raises(ChannelException) as caught:
        raise error
    assert (caught.value.class_id, caught.value.method_id) == (50, 10)


def test_a_refused_login_closes_the_connection() -> None:
    assert not issubclass(errors.LoginRefused, ChannelException)
    assert errors.LoginRefused("no").text == errors.AccessRefused("no").text == "ACCESS_REFUSED - no"
