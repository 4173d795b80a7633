"""Scores of runs and of the literature: reading, protocols, statistics. `experiments.table` and `.plot` show them."""
