"""`python -m dreamer.doctor`: what on this machine keeps training from working, and the command that mends it.

A check takes its name and returns a `Finding`; `dreamer.doctor.__main__.CHECKS` lists them. FAIL is what makes a
command of the README fail here or leaves a GPU idle; a warning is what slows training, or what somebody chose. This
process imports neither JAX nor a simulator: what can hang or crash is tried in another one (`dreamer.doctor.probes`).

Files, in reading order: `findings` (the vocabulary and the runner), `probes` (what other processes try), then the
checks: `packages`, `devices`, `parts` (rendering, ROMs, workers), `machine` (memory, disk, pages, cache).
"""
