"""The browser player: a world model and the truth side by side, under the same actions. `python -m dreamer.play RUN`.

`__main__` composes: the worlds (`dreamer.dream`), the agent's eyes (`pilot`) and what they have in common with a person
(`keymap`) make a `session`, which knows neither sockets nor JAX; `player` gives it a pace and `server` a page.
"""
