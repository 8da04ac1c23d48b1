"""Tests by chance: few cases and one seed as a rule, many and a new seed with DISPATCHD_SOAK=1 in the environment."""

import os
import random

SOAK = "DISPATCHD_SOAK" in os.environ
_SEED = "DISPATCHD_SEED"


def cases(usual: int, soak: int) -> int:
    """How many."""
    return soak if SOAK else usual


def seeded(usual: int) -> random.Random:
    """A generator whose seed pytest shows when the test fails; DISPATCHD_SEED is one to try again."""
    seed = int(os.environ[_SEED]) if _SEED in os.environ else random.getrandbits(32) if SOAK else usual
    print(f"{_SEED}={seed}")
    return random.Random(seed)
