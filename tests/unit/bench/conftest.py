import sys
from pathlib import Path

# The benchmarks are scripts beside each other; last, so that none of them is taken for another module.
sys.path.append(str(Path(__file__).parents[3] / "bench"))
