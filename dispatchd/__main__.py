"""`python -m dispatchd`, and what the command `dispatchd` calls."""

from gevent import monkey

monkey.patch_all()

import sys


def main() -> int:
    """Run the command line of this process; returns its exit status."""
    if sys.argv[1:2] == ["perf"]:  # a client, which needs nothing of the broker; its -h and -s mean other things
        from dispatchd.perf.run import run_perf

        return run_perf(sys.argv[2:])
    from dispatchd import cli

    return cli.main(sys.argv[1:])


if __name__ == "__main__":
    raise SystemExit(main())
