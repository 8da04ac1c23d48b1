"""`python -m dispatchd`, and what the command `dispatchd` calls."""

from gevent import monkey

monkey.patch_all()

import sys

from dispatchd import cli


def main() -> int:
    """Run the command line of this process; returns its exit status."""
    return cli.main(sys.argv[1:])


if __name__ == "__main__":
    raise SystemExit(main())
