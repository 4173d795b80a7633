"""A trained world model as an environment: dreamed in, measured, planned in and played.

Importing it registers `dreamer/Dream-v0` with gymnasium and loads no JAX. Files, in reading order: `simulation` (the
one interface), `model` (a world model behind it), `truth` (the real environment), `controls` (what knows nothing),
`starts` and `replayed` (where futures begin), `dreams` and `env` (gymnasium environments).
"""

import gymnasium

ENV_ID = "dreamer/Dream-v0"

if ENV_ID not in gymnasium.registry:
    gymnasium.register(
        ENV_ID, entry_point="dreamer.dream.env:DreamEnv", vector_entry_point="dreamer.dream.env:DreamVectorEnv"
    )
