"""What ends a load early."""


class PerfError(Exception):
    """The broker can't be reached, or refuses something; the message says what."""
