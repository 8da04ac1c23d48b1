"""`python -m dispatchd`, and what the command `dispatchd` calls."""

import sys


def main() -> int:
    """Run the command line of this process; returns its exit status."""
    words = sys.argv[1:]
    if words[:1] == ["healthcheck"]:  # has to be over before gevent would have been imported
        from dispatchd import healthcheck

        return healthcheck.run(words[1:])
    if words[:1] == ["rabbitmqctl"]:  # for scripts that were written for RabbitMQ
        from dispatchd import rabbitmqctl

        return rabbitmqctl.run(words[1:])
    if words[:1] == ["rabbitmqadmin"]:  # likewise
        from dispatchd import rabbitmqadmin

        return rabbitmqadmin.run(words[1:])

    _patch_all()  # before anything else is imported
    if words[:1] == ["perf"]:  # a client, which needs nothing of the broker; its -h and -s mean other things
        from dispatchd.perf.run import run_perf

        return run_perf(words[1:])
    from dispatchd import cli

    return cli.main(words)


def _patch_all() -> None:
    """Have gevent patch what it can, and look through the installed packages for its plugins 5 times instead of 25.

    It asks again at each step. With 70 packages that is a tenth of a second of each start.
    """
    from functools import cache
    from importlib import metadata

    from gevent import monkey

    find = metadata.entry_points
    metadata.entry_points = cache(find)  # type: ignore[assignment]
    monkey.patch_all()
    metadata.entry_points = find


if __name__ == "__main__":
    raise SystemExit(main())
