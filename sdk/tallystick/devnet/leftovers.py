"""What a killed agent leaves behind: tasks that outlived it. Only those of one market are ended."""

from __future__ import annotations

from pathlib import Path

import psutil

from tallystick.devnet import images

_TASK_VARIABLE = "TALLYSTICK_OUTPUT"


def sweep(directory: Path) -> None:
    """Ends tasks whose output lies in `directory`, whichever runtime they run in."""
    _sweep_processes(directory)
    if images.engine_answers():
        _sweep_containers(directory)


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
