"""What a measurement has to say of where it was made."""

import platform
import subprocess
from pathlib import Path


def output(*command: str) -> str:
    """A command's stdout, stripped; its failure ends the comparison."""
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


def cpu_model() -> str:
    """The processor's name, as Linux tells it."""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor()


def commit() -> str:
    """The commit that is checked out, marked if what is measured, or measures, has changed since."""
    root = str(Path(__file__).parents[2])
    head = output("git", "-C", root, "describe", "--always")
    measured = ["crates", "recipes", "bench/peers", "Cargo.toml", "Cargo.lock"]
    changed = output("git", "-C", root, "status", "--porcelain", "--untracked-files=no", "--", *measured)
    return f"{head}-dirty" if changed else head
