"""What a killed agent leaves behind: tasks that outlived it, and the file systems that their output
was mounted on. Only those of one market are touched."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import psutil

from tallystick.devnet import images

_TASK_VARIABLE = "TALLYSTICK_OUTPUT"
_MOUNTS = Path("/proc/self/mountinfo")
_OUTPUT_IMAGES = "provider-*/tasks/*/out.ext4"


def sweep(directory: Path) -> None:
    """Ends tasks whose output lies in `directory`, whichever runtime they run in."""
    _sweep_processes(directory)
    if images.engine_answers():
        _sweep_containers(directory)
    unmount(directory)


def unmount(directory: Path) -> None:
    """Takes down what is mounted in `directory`; nothing may be deleted there before."""
    for target in _mounted_in(directory):
        # Lazily: whatever still has a file open there was not ours to wait for.
        subprocess.run(["umount", "--lazy", str(target)], capture_output=True, check=False)
    for image in directory.glob(_OUTPUT_IMAGES):
        image.unlink(missing_ok=True)  # reserved in full: each costs its whole size


def _mounted_in(directory: Path) -> list[Path]:
    """Deepest first. Elsewhere than on Linux agents mount nothing."""
    if not _MOUNTS.exists():
        return []
    found = []
    for line in _MOUNTS.read_text().splitlines():
        target = Path(re.sub(r"\\([0-7]{3})", lambda m: chr(int(m[1], 8)), line.split()[4]))
        if target.is_relative_to(directory.resolve()) and target != directory.resolve():
            found.append(target)
    return sorted(found, reverse=True)


def _sweep_processes(directory: Path) -> None:
    for process in psutil.process_iter():
        try:
            output = process.environ().get(_TASK_VARIABLE, "")
            if output and Path(output).is_relative_to(directory):
                process.kill()
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue


def _sweep_containers(directory: Path) -> None:
    import docker

    client = docker.from_env(timeout=30)
    try:
        for container in client.containers.list(all=True, filters={"label": "tallystick.task"}):
            sources = [Path(mount.get("Source", "/")) for mount in container.attrs["Mounts"]]
            if any(source.is_relative_to(directory) for source in sources):
                container.remove(force=True)
    finally:
        client.close()
