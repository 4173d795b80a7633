"""Everything that a GPU is to tell, in one unattended command: `python -m experiments.gpu.measure`."""
