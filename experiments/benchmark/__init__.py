"""Speed against the floor of the machine: `python -m experiments.benchmark`."""
