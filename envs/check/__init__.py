"""`python -m envs.check ENV`: is this environment fit to be learned?

Files, in reading order: `finding` (an answer), `player` (an environment as a stream of moments), `evidence`
(recordings, each made once), `branches` (futures under other actions), then the checks: `contract` (single moments),
`cost`, `seeding`, `episodes` (ends), `causes` (forks, effects, timing), `adapted` (our `Environment`). `catalogue`
lists them, `watchdog` runs them in a process that may hang or die, `report` and `__main__` print.

What cannot be seen from outside, whatever the check: a permutation of the actions, a wrong sign or weight of a reward,
a reward that the rule itself delays, a seed that was always fixed in an environment whose every episode starts alike,
a termination that comes where it should not. Only the author knows the rule.
"""
