"""Environments on other machines, through Ray (extra `ray`): `--ray.collectors 8 --ray.address auto`.

Files, in reading order: `worker` (what acts in each of the other processes), `fleet` (all of them together, restarts
included), `collector` (the fleet as the trainer sees it), `cluster` (the one importer of Ray).
"""
