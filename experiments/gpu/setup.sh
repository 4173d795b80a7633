# Sourced on the GPU machine, from the repository's root: installs the carried wheels (folder .bundle) beside what is there.
SITE=/tmp/site
if [ ! -d "$SITE" ]; then
  python3 -m pip install -q --no-index --no-deps --no-compile --target "$SITE" .bundle/*.whl || { rm -rf "$SITE"; return 1; }
fi
export PYTHONPATH="$PWD:$SITE:$PWD/.bundle/dm_control_suite" PYTHONUNBUFFERED=1 XLA_PYTHON_CLIENT_PREALLOCATE=false
