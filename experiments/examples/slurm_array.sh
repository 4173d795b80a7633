#!/bin/bash
# A suite as a Slurm array, one trial for each task of the array; flags behind the script are those of the sweep:
#   sbatch --array=0-129 experiments/examples/slurm_array.sh atari100k --size 200m
# The last number of the array is that of the lines which `python -m experiments.sweep atari100k --list` prints, less 1.
# A trial that ran out of time is saved and queued again. When all have ended, the command of the sweep itself
# (`python -m experiments.sweep atari100k --size 200m`) trains nothing more: it writes the results and prints the scores.
#SBATCH --gpus=1
#SBATCH --cpus-per-task=8
#SBATCH --time=12:00:00
#SBATCH --signal=B:USR1@300
#SBATCH --requeue
#SBATCH --open-mode=append
set -u

trials=$(python -m experiments.sweep "$@" --list) || exit
trial=$(sed -n "$((SLURM_ARRAY_TASK_ID + 1))p" <<<"$trials")
if [ -z "$trial" ]; then
  echo "error: the sweep has no trial $SLURM_ARRAY_TASK_ID: check --array" >&2
  exit 2
fi

eval "$trial &"
training=$!
trap 'kill -USR1 "$training"' USR1 TERM
wait "$training"
code=$?
while kill -0 "$training" 2>/dev/null; do  # the signal ended only the waiting; the trial is saving
  wait "$training"
  code=$?
done
if [ "$code" -gt 128 ]; then
  scontrol requeue "${SLURM_ARRAY_JOB_ID}_${SLURM_ARRAY_TASK_ID}"
fi
exit "$code"
