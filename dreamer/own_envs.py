"""Make sure that `envs` means the package shipped beside this one.

`python -m` puts the working directory in front of everything, and a folder named `envs` is often found there.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path


def pin_own_envs() -> None:
    """Import our `envs` from beside this package, whatever the working directory holds.

    Raises:
        ImportError: where the program has already imported another package of that name.
    """
    beside = Path(__file__).resolve().parent.parent / "envs" / "__init__.py"
    loaded = sys.modules.get("envs")
    if loaded is not None:
        origin = getattr(loaded, "__file__", None) or next(iter(loaded.__path__), "unknown")
        if Path(origin).resolve() != beside:
            raise ImportError(f"dreamer needs the name `envs`, which {origin} already took: import dreamer first")
        return
    spec = importlib.util.spec_from_file_location("envs", beside, submodule_search_locations=[str(beside.parent)])
    if spec is None or spec.loader is None:
        raise ImportError(f"the package `envs` is missing from {beside.parent}: install dreamer-jax again")
    module = importlib.util.module_from_spec(spec)
    sys.modules["envs"] = module
    spec.loader.exec_module(module)
