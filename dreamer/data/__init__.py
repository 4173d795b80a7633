"""Stored experience: `replay` keeps the steps, `prefetch` brings batches to the device, `ratio` says when to train.

NumPy only. Reading order: `layout` (what a step holds), `chunk` and `timeline` (where it lies), `replay`, `prefetch`.
"""
