"""What leaves a run, and what comes in from elsewhere.

`python -m dreamer.export RUN` writes, each in a form that others read without this project:

    --policy FOLDER     the policy alone (encoder, RSSM, actor), for `dreamer.load`; 1.7 MB for CartPole at size 1m
    --hub FOLDER        the same as a Hugging Face repository holds it: safetensors, JSON, model card (extra `hub`)
    --stablehlo FILE    one step of the policy as a program for CPU, CUDA and TPU (extra `stablehlo`)
    --minari NAME       the run's replay as a Minari dataset (extra `minari`)

`python -m dreamer.train --offline NAME --env ENV --steps 20000` makes so many updates from a dataset alone; ENV is made
for its spaces and its protocol, and is never stepped. Then `python -m dreamer.evaluate RUN` plays in it.

An episode of T actions has T + 1 observations. In replay, step t holds the observation, the reward and the flags that
arrived together, and the action chosen after them; in a dataset, entry t holds observation, action, and the reward and
flags that followed. Hence `rewards[t]` is `reward[t + 1]`, and the action at an episode's last step, which nobody
executed, is in no dataset. Latents are not, either: training makes them anew.
"""
