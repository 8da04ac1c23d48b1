"""A durable AMQP 0-9-1 message broker, built as actors around a compiled model.

Nothing is imported here: `dispatchd.__main__` must patch the standard library for gevent before anything else loads.
"""

__version__ = "0.1.0"


def is_compiled() -> bool:
    """Tell whether the wire and the model run as modules compiled by mypyc rather than interpreted."""
    from importlib.machinery import ExtensionFileLoader
    from importlib.util import find_spec

    spec = find_spec("dispatchd.amqp.frame_parser")
    return spec is not None and isinstance(spec.loader, ExtensionFileLoader)
