"""The doctor on this machine, and on machines that are broken on purpose: what it says, and what it says mends them.

Failures are real where they can be made (a module that hides the real one, a backend that cannot draw, a folder that
cannot be written); tests named `simulated` stand for hardware that a test machine does not have.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from dreamer import huge_pages
from dreamer.config import Config, LogConfig
from dreamer.doctor import devices, machine, packages, parts
from dreamer.doctor.__main__ import CHECKS, main
from dreamer.doctor.findings import Answer, run_checks
from dreamer.train import warn_of_idle_gpu
from envs import rendering
from envs.check.finding import FAIL, OK, WARNING, Finding

REPOSITORY = Path(__file__).resolve().parents[2]
CPU = Answer({"platform": "cpu", "kind": "cpu", "count": 1}, "", "")
NEEDS_DM_CONTROL = pytest.mark.skipif(sys.version_info >= (3, 13), reason="dm-control does not install on Python 3.13")


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch):
    """Nothing that a developer has exported decides a test; other processes find this checkout."""
    for name in ("MUJOCO_GL", "DREAMER_MUJOCO_GL_PROVEN", "GLIBC_TUNABLES", "CUDA_VISIBLE_DEVICES"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))


@pytest.fixture
def shadow(tmp_path, monkeypatch):
    """Puts a module in front of the installed one of that name, in processes that the doctor starts."""

    def write(module: str, code: str) -> Path:
        folder = tmp_path / "shadows"
        path = folder / module
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(code)
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(folder), str(REPOSITORY)]))
        return path

    return write


def run(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments], cwd=folder, capture_output=True, text=True, timeout=60, check=False
    )


def assert_finding(finding: Finding, status: str, text: str, remedy: str) -> None:
    assert (finding.status, finding.remedy) == (status, remedy), finding
    assert text in finding.text
    assert "\n" not in finding.text


# The command


def test_this_machine_trains(tmp_path, monkeypatch):
    """With a folder for compiled programs that does not exist yet; the working directory stays as it was."""
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path / "cache/new"))
    (tmp_path / "work").mkdir()
    done = run("-m", "dreamer.doctor", folder=tmp_path / "work")
    assert done.returncode == 0, done.stdout
    lines = done.stdout.splitlines()
    starts = [line for line in lines[:-2] if not line.startswith(" ")]
    width = max(map(len, CHECKS))
    assert [line[:width].strip() for line in starts] == list(CHECKS)
    assert {line[width + 2 :].split()[0] for line in starts} <= {OK, WARNING}
    assert starts[-1].split() == ["compiled", OK, str(tmp_path / "cache/new")]
    assert lines[-1].startswith("0 failed")
    assert list((tmp_path / "work").iterdir()) == []


def test_a_broken_machine_names_every_fault_and_goes_on(tmp_path, monkeypatch, shadow):
    """One run with several faults; the doctor's own process imports neither JAX nor a simulator."""
    hidden = shadow("ale_py.py", "raise RuntimeError('not the emulator')")
    (tmp_path / "cache").write_text("in the way")
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("MUJOCO_GL", "nonsense")
    code = """
import sys
from dreamer.doctor.__main__ import main
code = main(["--json"])
assert not {"jax", "jaxlib", "ale_py", "mujoco", "dm_control"} & set(sys.modules)
sys.exit(code)
"""
    done = run("-c", code, folder=tmp_path)
    assert done.returncode == 1, done.stderr
    report = json.loads(done.stdout)
    assert report["works"] is False
    findings = {row["name"]: Finding(**row) for row in report["findings"]}
    assert list(findings) == list(CHECKS)
    assert_finding(findings["Atari"], FAIL, "RuntimeError: not the emulator", f"mv {hidden} {hidden}.aside")
    assert_finding(findings["ale-py"], WARNING, str(hidden), f"mv {hidden} {hidden}.aside")
    assert findings["compiled"].status == WARNING
    assert findings["compiled"].remedy.startswith("export JAX_COMPILATION_CACHE_DIR=")
    assert {findings[name].status for name in ("Python", "jax", "device", "workers", "memory")} == {OK}
    if sys.version_info < (3, 13):
        assert_finding(findings["rendering"], FAIL, "MUJOCO_GL is 'nonsense'", "unset MUJOCO_GL")


@pytest.mark.parametrize(("status", "code", "last"), [(OK, 0, "works"), (WARNING, 0, "works"), (FAIL, 1, "mend")])
def test_only_failures_fail(capsys, status, code, last):
    assert main([], checks={"part": lambda name: Finding(name, status, "a text", "a remedy")}) == code
    first, second, *_, summary = capsys.readouterr().out.splitlines()
    assert first.split() == ["part", status, "a", "text"]
    assert second.strip() == "-> a remedy"
    assert last in summary


def test_an_unknown_flag_is_wrong_usage(capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["--yaml"])
    assert stopped.value.code == 2
    assert "--yaml" in capsys.readouterr().err


def test_neither_a_crash_nor_a_hang_stops_the_others():
    end = threading.Event()

    def raises(name):
        raise KeyError("a fault\nof two lines")

    def leaves(name):
        sys.exit("a library gave up")

    def lacks(name):
        raise ModuleNotFoundError("No module named 'rich'")

    def hangs(name):
        end.wait(60)
        return Finding(name, OK, "")

    checks = {check.__name__: check for check in (raises, leaves, hangs, lacks)}
    started = time.monotonic()
    findings = list(run_checks(checks | {"fine": lambda name: Finding(name, OK, "here")}, seconds=1.0))
    assert time.monotonic() - started < 10
    end.set()
    assert [finding.name for finding in findings] == ["raises", "leaves", "hangs", "lacks", "fine"]
    assert [finding.status for finding in findings] == [FAIL] * 4 + [OK]
    texts = [finding.text for finding in findings]
    for text, part in zip(
        texts, ["KeyError", "a library gave up", "no answer within 1 s", "'rich'", "here"], strict=True
    ):
        assert part in text
    assert findings[3].remedy == "pip install -e ."
    assert all(finding.remedy for finding in findings[:4])


# Probes in other processes


def test_ctrl_c_leaves_no_process_behind(tmp_path, shadow):
    """Twice, as an impatient user (and `timeout`) does."""
    ids = tmp_path / "ids"
    shadow("ale_py.py", f"import os, time; open({str(ids)!r}, 'w').write(str(os.getpid())); time.sleep(600)")
    # A shell's background jobs, say the whole test run, ignore SIGINT, and so do their children until they set it back.
    start = "import runpy, signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
    command = [sys.executable, "-c", start + "runpy.run_module('dreamer.doctor', run_name='__main__')"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL) as doctor:
        deadline = time.monotonic() + 30
        while not (ids.exists() and ids.read_text()) and time.monotonic() < deadline:
            time.sleep(0.05)
        doctor.send_signal(signal.SIGINT)
        doctor.send_signal(signal.SIGINT)
        assert doctor.wait(10) in (130, -signal.SIGINT)
    assert ended(int(ids.read_text()))


def test_a_hanging_probe_ends_with_all_that_it_started(tmp_path, shadow):
    ids = tmp_path / "ids"
    code = f"""
import os, pathlib, subprocess, time
child = subprocess.Popen(["sleep", "600"])
pathlib.Path({str(ids)!r}).write_text(f"{{os.getpid()}} {{child.pid}}")
time.sleep(600)
"""
    shadow("ale_py.py", code)
    finding = parts.check_roms("Atari", seconds=3)
    assert finding.status == FAIL
    assert "no answer within 3 s" in finding.text
    probe, child = map(int, ids.read_text().split())
    assert ended(probe)
    assert ended(child)


def ended(process: int) -> bool:
    """Gone, or dead and not yet collected by whoever adopted it."""
    for _ in range(50):
        try:
            state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return True
        if state == "Z":
            return True
        time.sleep(0.05)
    return False


def test_a_crashing_probe_is_named(monkeypatch, shadow):
    hidden = shadow("ale_py.py", "import os; os.abort()")
    monkeypatch.delitem(
        sys.modules, "ale_py", raising=False
    )  # another test of this process may have imported the real one
    monkeypatch.syspath_prepend(hidden.parent)
    assert_finding(parts.check_roms("Atari"), FAIL, "crashed with SIGABRT", f"mv {hidden} {hidden}.aside")


def test_missing_roms(shadow):
    """The installed ale-py, whose ROMs cannot be found."""
    shadow(
        "sitecustomize.py",
        "import ale_py.roms as roms\ndef lost(game): raise OSError('no ROM')\nroms.get_rom_path = lost",
    )
    remedy = "pip install --force-reinstall --no-deps 'ale-py>=0.12.1'"
    assert_finding(parts.check_roms("Atari"), FAIL, "no Atari game starts", remedy)


def test_workers_that_import_jax(shadow):
    shadow("sitecustomize.py", "import sys, types; sys.modules['jaxlib'] = types.ModuleType('jaxlib')")
    remedy = "python -X importtime -c pass 2>&1 | grep -B 40 jax"
    assert_finding(parts.check_workers("workers"), FAIL, "worker processes import JAX", remedy)


def test_workers_that_do_not_start(shadow):
    shadow("sitecustomize.py", "import multiprocessing.connection as c\ndel c.Pipe")
    remedy = "python -m dreamer.train --env ... --environment.workers none"
    assert_finding(parts.check_workers("workers"), FAIL, "do not start", remedy)


# Rendering


@pytest.fixture(autouse=True)
def _as_a_new_process_finds_it(monkeypatch):
    """dm_control, once imported by another test, leaves its choice of a platform to all child processes."""
    monkeypatch.delenv("PYOPENGL_PLATFORM", raising=False)


@pytest.fixture
def a_user_of_debian(monkeypatch):
    """Simulated: not root, and no dnf."""
    monkeypatch.setattr(parts.shutil, "which", lambda name: None)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)


@NEEDS_DM_CONTROL
@pytest.mark.usefixtures("a_user_of_debian")
def test_no_backend_draws(monkeypatch, shadow):
    """A PyOpenGL that finds no library."""
    shadow("OpenGL.py", "raise ImportError('no OpenGL library')")
    monkeypatch.setattr(parts, "find_nvidia", lambda: None)
    remedy = "sudo apt-get install libosmesa6"
    assert_finding(parts.check_rendering("rendering"), FAIL, "osmesa: ImportError: no OpenGL library", remedy)


@NEEDS_DM_CONTROL
@pytest.mark.usefixtures("a_user_of_debian")
@pytest.mark.parametrize(
    ("has_gpu", "status", "remedy"), [(False, OK, ""), (True, WARNING, "sudo apt-get install libegl1")]
)
def test_simulated_gpu_that_does_not_draw(monkeypatch, has_gpu, status, remedy):
    """EGL fails, OSMesa draws: all that there is without a GPU, slower than needed with one."""
    monkeypatch.setattr(rendering, "probe", lambda backend, **limits: "no display" if backend == "egl" else None)
    monkeypatch.setattr(rendering, "CANDIDATES", ("egl", "osmesa"))
    monkeypatch.setattr(parts, "find_nvidia", lambda: devices.Nvidia("Simulated H200") if has_gpu else None)
    assert_finding(parts.check_rendering("rendering"), status, "osmesa draws, on the CPU (egl: no display)", remedy)


@NEEDS_DM_CONTROL
def test_a_simulated_gpu_that_does_not_draw_because_another_is_there(monkeypatch):
    monkeypatch.setenv("MUJOCO_EGL_DEVICE_ID", "7")
    monkeypatch.setattr(rendering, "CANDIDATES", ("egl", "osmesa"))
    monkeypatch.setattr(rendering, "probe", lambda backend, *, timeout_seconds, unset="": None if unset else "no GPU 7")
    finding = parts.check_rendering("rendering")
    assert_finding(finding, FAIL, "MUJOCO_EGL_DEVICE_ID is '7'", "unset MUJOCO_EGL_DEVICE_ID")


@NEEDS_DM_CONTROL
def test_a_backend_that_hangs(shadow):
    shadow("OpenGL.py", "import time; time.sleep(600)")
    finding = parts.check_rendering("rendering", seconds=0.3)
    assert finding.status == FAIL
    assert "egl: no picture within 0.3 s; osmesa: no picture within 0.3 s" in finding.text


@NEEDS_DM_CONTROL
def test_a_broken_simulator_is_not_blamed_on_the_renderer(shadow):
    shadow("mujoco.py", "raise ImportError('libmujoco is damaged')")
    assert_finding(parts.check_rendering("rendering"), FAIL, "libmujoco is damaged", "pip install -e .")


# Versions


def pretend_installed(name: str, version: str, *, folder: Path) -> None:
    """What pip leaves of a package, in a folder that is searched first."""
    info = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")


@pytest.mark.parametrize(
    ("name", "version", "text", "remedy"),
    [
        ("mujoco", "4.0.0", "dm-control 1.0.50 fails on 4.0.0", "pip install 'mujoco<4'"),
        ("ale-py", "0.11.0", "0.11.0, but >=0.12.1 is needed", "pip install 'ale-py>=0.12.1'"),
        ("orbax-checkpoint", "0.13.1", "<0.13", "pip install 'orbax-checkpoint>=0.12,<0.13'"),
    ],
)
def test_versions_that_do_not_work(tmp_path, monkeypatch, name, version, text, remedy):
    pretend_installed(name, version, folder=tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    assert_finding(packages.check_package(name), FAIL, text, remedy)
    others = packages.check_others("other packages")
    assert (others.status == FAIL, others.remedy == remedy) == (name in packages.OTHERS,) * 2


def test_a_jaxlib_that_jax_does_not_want(tmp_path, monkeypatch):
    pretend_installed("jaxlib", "0.4.0", folder=tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    finding = packages.check_package("jaxlib")
    assert finding.status == FAIL
    assert "jax says so" in finding.text
    assert finding.remedy.startswith("pip install 'jaxlib")
    assert packages.check_package("jax").status == OK


def test_a_package_whose_files_are_gone(tmp_path, monkeypatch):
    pretend_installed("optax", "0.2.8", folder=tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    monkeypatch.delitem(sys.modules, "optax", raising=False)
    remedy = "pip install --force-reinstall --no-deps 'optax==0.2.8'"
    assert_finding(packages.check_package("optax"), FAIL, "nothing provides `import optax`", remedy)


def test_missing_packages(monkeypatch):
    monkeypatch.setattr(sys, "path", [])
    assert_finding(packages.check_package("optax"), FAIL, "missing", "pip install -e .")
    assert_finding(packages.check_others("other packages"), FAIL, "chex missing; jaxtyping missing", "pip install -e .")


def test_dm_control_is_not_expected_on_python_3_13(monkeypatch):
    monkeypatch.setattr(sys, "path", [])
    monkeypatch.setattr(sys, "version_info", (3, 13, 0, "final", 0))
    assert_finding(packages.check_package("dm-control"), WARNING, "no wheel for Python 3.13", packages.NEW_PYTHON)
    assert_finding(parts.check_rendering("rendering"), WARNING, "dm-control is missing", packages.NEW_PYTHON)


@pytest.mark.parametrize(("version", "status"), [((3, 10), FAIL), ((3, 11), OK), ((3, 13), OK), ((3, 14), FAIL)])
def test_versions_of_python(monkeypatch, version, status):
    monkeypatch.setattr(sys, "version_info", (*version, 0, "final", 0))
    assert packages.check_python("Python").status == status


def test_the_tables_ask_for_what_pyproject_asks_for():
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    asked = [Requirement(line) for line in project["dependencies"]]
    asked = [each for each in asked if each.marker is None or each.marker.evaluate()]
    ours = {name: Requirement(f"{name}{each.wanted}") for name, each in (packages.PACKAGES | packages.OTHERS).items()}
    for requirement in asked:
        assert ours[requirement.name].specifier == requirement.specifier
    assert ours.keys() - {requirement.name for requirement in asked} <= {"jaxlib", "dm-control"}
    (major, oldest), (_, newest) = packages.PYTHONS
    assert project["requires-python"] == f">={major}.{oldest},<{major}.{newest + 1}"


@pytest.mark.parametrize(
    ("version", "wanted", "holds"),
    [
        ("0.10.0", ">=0.10", True),
        ("0.9.9", ">=0.10", False),
        ("3.17.0", "<4", True),
        ("4.0.0rc1", "<4", False),
        ("0.12.8", ">=0.12,<0.13", True),
        ("0.13", ">=0.12,<0.13", False),
        ("0.10.2", "<=0.10.2,>=0.10.1", True),
        ("0.10.3", "<=0.10.2,>=0.10.1", False),
    ],
)
def test_conditions(version, wanted, holds):
    assert packages.meets(version, wanted) is holds


# Machine


def test_a_control_group_that_leaves_little(tmp_path):
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text("0::/\n")
    (tmp_path / "sys/fs/cgroup").mkdir(parents=True)
    limit = tmp_path / "sys/fs/cgroup/memory.max"
    limit.write_text("1000000000")
    finding = machine.check_memory("memory", root=tmp_path)
    assert_finding(finding, FAIL, "1.0 GB of the machine's", "docker run --memory 16g ...")
    limit.write_text("4000000000")
    assert machine.check_memory("memory", root=tmp_path).status == WARNING


def test_a_working_directory_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    finding = machine.check_disk("disk", folder=tmp_path / "file" / "inside")
    assert_finding(finding, FAIL, "runs cannot be written", "python -m dreamer.train --env ... --logdir /a/larger/disk")


@pytest.mark.parametrize(("free", "status"), [(10**8, FAIL), (5 * 10**9, WARNING), (10**11, OK)])
def test_simulated_disk(tmp_path, monkeypatch, free, status):
    usage = type("Usage", (), {"free": free})
    monkeypatch.setattr("dreamer.plan.shutil.disk_usage", lambda folder: usage)
    assert machine.check_disk("disk", folder=tmp_path).status == status


@pytest.mark.parametrize(
    ("mode", "status", "text"),
    [
        ("always madvise [never]", WARNING, "switched off in the kernel"),
        ("[always] madvise never", OK, "to everybody"),
        (None, OK, "not offered"),
    ],
)
def test_large_pages(tmp_path, monkeypatch, mode, status, text):
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    file = tmp_path / "enabled"
    if mode:
        file.write_text(mode)
    remedy = f"echo madvise | tee {file}" if status == WARNING else ""
    assert_finding(machine.check_pages("large pages", mode_file=file), status, text, remedy)


def test_large_pages_that_somebody_switched_off(monkeypatch):
    monkeypatch.setenv(huge_pages.TUNABLES, f"{huge_pages.HUGE_PAGES}=0")
    assert_finding(machine.check_pages("large pages"), WARNING, "switched off by GLIBC", "unset GLIBC_TUNABLES")


def test_a_folder_for_compiled_programs_that_cannot_be_made(tmp_path, monkeypatch):
    """One that JAX was given; it does not look at the disk when it names it."""
    (tmp_path / "file").write_text("")
    facts = {"folder": str(tmp_path / "file/inside")}
    monkeypatch.setattr(machine, "ask", lambda probe, **settings: Answer(facts, "", ""))
    remedy = 'export JAX_COMPILATION_CACHE_DIR="$PWD/runs/compilations"'
    assert_finding(machine.check_cache("compiled"), WARNING, "file/inside", remedy)


# GPUs: every one of them simulated


@pytest.fixture
def simulated_gpu(tmp_path, monkeypatch):
    """A program `nvidia-smi` that shows a GPU, what pip leaves of CUDA plugins, and what the JAX probe answers."""
    monkeypatch.delenv("JAX_PLATFORMS", raising=False)

    def pretend(*, driver="580.65", capability="9.0", plugins=(), answer: Answer | None = CPU) -> None:
        program = tmp_path / "bin/nvidia-smi"
        program.parent.mkdir()
        program.write_text(f"#!/bin/sh\necho 'Simulated H200, {driver}, {capability}'\n")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
        for name, version in plugins:
            pretend_installed(name, version, folder=tmp_path / "site")
        monkeypatch.syspath_prepend(tmp_path / "site")
        if answer is not None:
            monkeypatch.setattr(devices, "ask", lambda probe, **settings: answer)

    return pretend


JAXLIB = packages.installed_version("jaxlib")
CUDA_13, CUDA_12 = ("jax-cuda13-plugin", JAXLIB), ("jax-cuda12-plugin", JAXLIB)
TO_CUDA_12 = "pip uninstall -y jax-cuda13-plugin jax-cuda13-pjrt && pip install -e '.[cuda12]'"


@pytest.mark.parametrize(
    ("driver", "capability", "plugins", "cause", "remedy"),
    [
        ("580.65", "9.0", [], "JAX has no CUDA plugin", "pip install -e '.[cuda]'"),
        ("550.54", "9.0", [], "JAX has no CUDA plugin", "pip install -e '.[cuda12]'"),
        ("580.65", "7.0", [], "JAX has no CUDA plugin", "pip install -e '.[cuda12]'"),
        ("550.54", "9.0", [CUDA_13], "driver 550.54 is older than the 580 that CUDA 13 needs", TO_CUDA_12),
        ("580.65", "6.1", [CUDA_13], "compute capability 6.1 is below the 7.5 of CUDA 13", TO_CUDA_12),
        ("470.1", "9.0", [CUDA_12], "older than the 525 that CUDA 12 needs", "apt-get install nvidia-driver"),
        ("580.65", "9.0", [("jax-cuda13-plugin", "0.9.0")], "0.9.0 does not work with", "pip install -e '.[cuda]'"),
        ("580.65", "[N/A]", [CUDA_13], "JAX does not say why", "pip install -e '.[cuda]' --force-reinstall"),
    ],
)
def test_simulated_gpu_that_jax_leaves_idle(monkeypatch, simulated_gpu, driver, capability, plugins, cause, remedy):
    simulated_gpu(driver=driver, capability=capability, plugins=plugins)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    finding = devices.check_devices("device")
    assert_finding(finding, FAIL, cause, remedy)
    assert finding.text.startswith("running on CPU, though this machine has Simulated H200")


@pytest.mark.parametrize(
    ("code", "cause", "remedy"),
    [
        (
            "def initialize(): raise RuntimeError('Unable to load cuSPARSE')",
            "running on CPU, though this machine has Simulated H200: RuntimeError: Unable to load cuSPARSE",
            "pip install -e '.[cuda]' --force-reinstall",
        ),
        (
            "import os; os.abort()",
            "no device, though this machine has Simulated H200: crashed with SIGABRT",
            "pip install -e '.[cuda]' --force-reinstall",
        ),
    ],
    ids=["raises", "crashes"],
)
def test_simulated_plugin_that_fails_in_the_real_jax(simulated_gpu, shadow, code, cause, remedy):
    simulated_gpu(plugins=[CUDA_13], answer=None)
    shadow("jax_plugins/xla_cuda13.py", code)
    assert_finding(devices.check_devices("device"), FAIL, cause, remedy)


@pytest.mark.parametrize("device", ["auto", "cpu"])
def test_simulated_gpu_that_a_training_leaves_idle(capsys, simulated_gpu, device):
    """The real JAX, which runs on the CPU here; whoever asks for the CPU knows."""
    simulated_gpu()
    warn_of_idle_gpu(Config(device=device, log=LogConfig(quiet=True)))
    loud = (
        "WARNING: running on CPU, though this machine has Simulated H200: JAX has no CUDA plugin -> "
        "pip install -e '.[cuda]' (python -m dreamer.doctor tells more, --device gpu accepts no CPU)\n"
    )
    assert capsys.readouterr().err == (loud if device == "auto" else "")


@pytest.mark.parametrize(("name", "value"), [("JAX_PLATFORMS", "cpu"), ("CUDA_VISIBLE_DEVICES", "")])
def test_simulated_gpu_that_somebody_switched_off(monkeypatch, simulated_gpu, name, value):
    simulated_gpu(plugins=[CUDA_13])
    monkeypatch.setenv(name, value)
    assert_finding(devices.check_devices("device"), WARNING, "running on CPU, though", f"unset {name}")


def test_simulated_driver_that_was_updated_without_a_restart(tmp_path, monkeypatch, simulated_gpu):
    simulated_gpu(plugins=[CUDA_13])
    program, file = tmp_path / "bin/nvidia-smi", tmp_path / "nvidia0"
    program.write_text("#!/bin/sh\necho 'Failed to initialize NVML: Driver/library version mismatch'\nexit 18\n")
    file.write_text("")
    monkeypatch.setattr(devices, "DEVICE_FILES", [str(file)])
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert_finding(devices.check_devices("device"), FAIL, "version mismatch", "sudo reboot")


@pytest.mark.parametrize(
    ("fault", "cause", "remedy"),
    [
        ("XlaRuntimeError: RESOURCE_EXHAUSTED: Out of memory while trying", "its memory is taken", "nvidia-smi"),
        ("no answer within 40 s", "does not start", "CUDA_VISIBLE_DEVICES=0 python -m dreamer.doctor"),
    ],
)
def test_simulated_gpu_whose_backend_does_not_start(simulated_gpu, fault, cause, remedy):
    simulated_gpu(plugins=[CUDA_13], answer=Answer({}, "", fault))
    assert_finding(devices.check_devices("device"), FAIL, cause, remedy)


def test_simulated_gpus_that_work(simulated_gpu):
    simulated_gpu(plugins=[CUDA_13], answer=Answer({"platform": "gpu", "kind": "NVIDIA H200", "count": 2}, "", ""))
    assert_finding(devices.check_devices("device"), OK, "2 x NVIDIA H200 (gpu, driver 580.65)", "")


@pytest.mark.parametrize(("marks", "remedy"), [(["/"], "docker run --gpus all ..."), ([], "modprobe nvidia")])
def test_simulated_plugin_without_a_gpu(tmp_path, monkeypatch, marks, remedy):
    pretend_installed(*CUDA_13, folder=tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(devices, "find_nvidia", lambda: None)
    monkeypatch.setattr(devices, "ask", lambda probe, **settings: CPU)
    monkeypatch.setattr(devices, "CONTAINER_MARKS", marks)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert_finding(devices.check_devices("device"), WARNING, "running on CPU: JAX's plugin for CUDA 13", remedy)


def test_a_platform_that_is_not_there(monkeypatch):
    """The real JAX, asked for a device that it has no plugin for."""
    monkeypatch.setattr(devices, "find_nvidia", lambda: None)
    monkeypatch.setenv("JAX_PLATFORMS", "tpu")
    assert_finding(devices.check_devices("device"), FAIL, "JAX_PLATFORMS is 'tpu'", "unset JAX_PLATFORMS")
