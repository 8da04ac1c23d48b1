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

    from gevent import monkey

    monkey.patch_all()  # before anything else is imported
    if words[:1] == ["perf"]:  # a client, which needs nothing of the broker; its -h and -s mean other things
        from dispatchd.perf.run import run_perf

        return run_perf(words[1:])
    from dispatchd import cli

    return cli.main(words)


if __name__ == "__main__":
    raise SystemExit(main())
