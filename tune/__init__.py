"""The search: space, journal, ASHA, and Ray Tune that executes them."""
