"""Sweeps: `python -m experiments.sweep SUITE` trains every task of a suite with every seed, each in a run of its own.

Files, in reading order: `suites` (what is trained), `trials` (one training of it: command, folder, how far it is),
`queue` (what runs next, and what becomes of it), `processes` (trials on this machine), `on_ray` (on many), `board`
(what a person sees), `results` (what stays), `__main__` (the command).
"""
