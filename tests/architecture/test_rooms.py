"""The design's table of rooms, read from the imports; and a few habits that keep the code readable."""

from __future__ import annotations

import ast
import re
import subprocess
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
SOURCES = sorted([*(REPOSITORY / "dreamer").rglob("*.py"), *(REPOSITORY / "envs").rglob("*.py")])

JAX = {"jax", "jaxlib", "flax", "optax", "chex"}
SIMULATORS = {"ale_py", "gymnasium", "dm_control", "dm_env", "mujoco"}
VOCABULARY = {"dreamer.config", "dreamer.types", "envs.spaces"}  # any room may speak it
ENTRY_POINTS = {
    "agent",
    "changes",
    "commands",
    "dream",
    "doctor",
    "evaluate",
    "evaluation",
    "exchange",
    "export",
    "play",
    "remote",
    "report",
    "train",
}  # these know the parts
BEFORE_JAX = {
    "cli",
    "config",
    "memory",
    "own_envs",
    "plan",
    "presets",
    "protocols",
    "provenance",
    "validation",
}  # these answer within a second

# room: what it may import of this project, beside the vocabulary and itself
ROOMS = {
    "nets": set(),
    "world": {"dreamer.nets"},
    "behavior": {"dreamer.nets", "dreamer.world"},
    "data": set(),
    "remote": {"dreamer.training", "envs"},
    "training": {"dreamer.nets", "dreamer.world", "dreamer.behavior", "dreamer.data"},
    "dream": {
        *("dreamer.nets", "dreamer.world", "dreamer.behavior", "dreamer.data", "dreamer.training", "envs"),
        *("dreamer.agent", "dreamer.evaluation"),  # what is dreamt with, and the environment that it was trained in
    },
    "play": {
        *("dreamer.nets", "dreamer.behavior", "dreamer.data", "dreamer.training", "dreamer.dream", "envs"),
        *("dreamer.agent", "dreamer.commands", "dreamer.evaluation"),
    },
}
SINGLE_IMPORTER = ("minari", "orbax", "ray", "safetensors", "tensorboard", "tyro", "wandb")
RUNS_CODE = {"pickle", "cloudpickle", "dill", "marshal", "shelve", "joblib"}
UNSAFE_LOADERS = {"unsafe_load", "full_load", "UnsafeLoader", "FullLoader"}  # of yaml
LONGEST_FILE, LONGEST_FUNCTION = 450, 80  # lines


def module_name(path: Path) -> str:
    parts = path.relative_to(REPOSITORY).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


def room_of(path: Path) -> str:
    """`world` for dreamer/world/rssm.py, `cli` for dreamer/cli.py, `` for dreamer/__init__.py and all of envs."""
    parts = module_name(path).split(".")
    return parts[1] if parts[0] == "dreamer" and len(parts) > 1 else ""


def imports_of(path: Path) -> set[str]:
    """Full names of the imported modules, those inside functions and `if TYPE_CHECKING` included."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            # `from dreamer import nets` imports a module of that name, `from envs.spaces import X` does not.
            whole = {f"{node.module}.{alias.name}" for alias in node.names}
            names |= whole if node.module in ("dreamer", "envs") else {str(node.module)}
    return names


def within(name: str, allowed: set[str]) -> bool:
    return any(name == room or name.startswith(f"{room}.") for room in allowed)


def label(path: Path) -> str:
    return str(path.relative_to(REPOSITORY))


@pytest.mark.parametrize("path", [path for path in SOURCES if room_of(path) in ROOMS], ids=label)
def test_rooms_import_only_what_the_table_allows(path):
    room = room_of(path)
    allowed = ROOMS[room] | VOCABULARY | {f"dreamer.{room}"}
    ours = {name for name in imports_of(path) if within(name, {"dreamer", "envs"})}
    assert {name for name in ours if not within(name, allowed)} == set()


@pytest.mark.parametrize("path", [path for path in SOURCES if module_name(path).startswith("envs")], ids=label)
def test_environments_know_neither_jax_nor_the_learner(path):
    assert {name for name in imports_of(path) if within(name, JAX | {"dreamer"})} == set()


@pytest.mark.parametrize("path", [path for path in SOURCES if room_of(path) == "data"], ids=label)
def test_data_is_numpy_and_only_prefetch_knows_the_device(path):
    forbidden = JAX if path.stem != "prefetch" else JAX - {"jax"}
    assert {name for name in imports_of(path) if within(name, forbidden | SIMULATORS)} == set()


@pytest.mark.parametrize("path", [path for path in SOURCES if room_of(path) in BEFORE_JAX], ids=label)
def test_the_command_line_answers_before_jax(path):
    heavy = JAX | SIMULATORS | {"orbax", "tensorboard", "dreamer.types"} | {f"dreamer.{room}" for room in ROOMS}
    assert {name for name in imports_of(path) if within(name, heavy)} == set()


@pytest.mark.parametrize("path", [path for path in SOURCES if module_name(path).startswith("dreamer")], ids=label)
def test_only_the_composition_knows_environments(path):
    if room_of(path) in ENTRY_POINTS:
        return
    ours = {name for name in imports_of(path) if within(name, {"envs"})}
    assert {name for name in ours if not within(name, {"envs.spaces"})} == set()


@pytest.mark.parametrize("library", SINGLE_IMPORTER)
def test_one_file_imports_each_library_that_may_be_replaced(library):
    importers = [label(path) for path in SOURCES if any(within(name, {library}) for name in imports_of(path))]
    assert len(importers) == 1, importers


def test_only_the_player_and_its_browser_speak_over_sockets():
    importers = {label(path) for path in SOURCES if any(within(name, {"aiohttp"}) for name in imports_of(path))}
    assert importers == {"dreamer/play/browser.py", "dreamer/play/server.py"}


@pytest.mark.parametrize("path", SOURCES, ids=label)
def test_nothing_that_runs_code_when_it_is_read_is_used_for_files(path):
    """Pickled things go from a process to its own workers, and nowhere else."""
    tree = ast.parse(path.read_text())
    found = {name.partition(".")[0] for name in imports_of(path)} & RUNS_CODE
    assert found == (RUNS_CODE & {"pickle", "cloudpickle"} if label(path) == "envs/worker.py" else set())
    names = [node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)]
    assert {name for name in names if name in UNSAFE_LOADERS} == set()
    keywords = [node for node in ast.walk(tree) if isinstance(node, ast.keyword) and node.arg == "allow_pickle"]
    assert all(isinstance(node.value, ast.Constant) and node.value.value is False for node in keywords)


@pytest.mark.parametrize("path", SOURCES, ids=label)
def test_nothing_shipped_imports_experiments_or_tests(path):
    assert {name for name in imports_of(path) if within(name, {"experiments", "tests"})} == set()


@pytest.mark.parametrize("path", SOURCES, ids=label)
def test_files_and_functions_fit_a_reader(path):
    tree = ast.parse(path.read_text())
    assert len(path.read_text().splitlines()) <= LONGEST_FILE
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    long = {node.name: length for node in functions if (length := node.end_lineno - node.lineno + 1) > LONGEST_FUNCTION}
    assert long == {}


@pytest.mark.parametrize("path", SOURCES, ids=label)
def test_registry_strings_resolve(path):
    """A `"package.module:name"` in the code names a thing that exists: found by reading, so no simulator is needed."""
    constants = {node.value for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Constant)}
    for text in constants:
        if isinstance(text, str) and (found := re.fullmatch(r"((?:dreamer|envs)(?:\.\w+)*):(\w+)", text)):
            module, name = found.groups()
            assert name in top_level_names(module), text


def top_level_names(module: str) -> set[str]:
    base = REPOSITORY / module.replace(".", "/")
    path = base / "__init__.py" if base.is_dir() else base.with_suffix(".py")
    names: set[str] = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Assign):
            names |= {target.id for target in node.targets if isinstance(target, ast.Name)}
    return names


def test_no_machine_paths_are_committed():
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=REPOSITORY, capture_output=True, text=True, check=True,
    ).stdout.split("\0")  # fmt: skip
    private = re.compile(rb"(?<![\w.])/(?:home|root|Users|work|opt)/[\w.-]+")
    faults = [
        f"{name}: {found.group().decode()}"
        for name in listed
        if name and (REPOSITORY / name).is_file() and Path(name).suffix not in (".npz", ".png", ".gif", ".mp4")
        for found in private.finditer((REPOSITORY / name).read_bytes())
    ]
    assert faults == []
