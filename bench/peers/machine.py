"""What a measurement has to say of where it was made."""

import platform
import subprocess
from pathlib import Path


def output(*command: str) -> str:
    """A command's stdout, stripped; its failure ends the comparison."""
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


def cpu_model() -> str:
    """The processor's name, as Linux tells it, and whether it lacks AVX-512, which decides what kernels run."""
    facts = {}
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        key, _, value = line.partition(":")
        facts.setdefault(key.strip(), value.strip())
    name = facts.get("model name", platform.processor())
    lacks = "avx2" in facts.get("flags", "") and "avx512f" not in facts["flags"]
    return f"{name} without AVX-512" if lacks else name


def commit() -> str:
    """The commit that is checked out, marked if what is measured, or measures, has changed since."""
    root = str(Path(__file__).parents[2])
    head = output("git", "-C", root, "describe", "--always")
    measured = ["crates", "recipes", "bench/peers", "Cargo.toml", "Cargo.lock"]
    changed = output("git", "-C", root, "status", "--porcelain", "--untracked-files=no", "--", *measured)
    return f"{head}-dirty" if changed else head
