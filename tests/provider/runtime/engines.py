"""A Docker engine of the test's own, to be restarted, frozen and killed; and an image for it."""

from __future__ import annotations

import io
import os
import shutil
import signal
import subprocess
import tarfile
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import docker
import psutil
import pytest
from docker.errors import DockerException

from tallystick_provider.runtime.docker import require_socket

START_SECONDS = 60
STORAGES = ("overlay2", "vfs")
"""As `tools/docker-engine` tries them."""


def busybox_image(api: Any) -> str:
    """Busybox alone, imported from a tree: no registry is needed."""
    busybox = shutil.which("busybox")
    if busybox is None:
        pytest.skip("busybox is not installed (apt-get install busybox-static)")
    if subprocess.run(["ldd", busybox], capture_output=True, check=False).returncode == 0:
        pytest.skip("this busybox is not static (apt-get install busybox-static)")
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w") as archive:
        archive.add(busybox, "bin/busybox")
        for name in ("bin/sh", "bin/cat", "bin/id", "bin/dd", "bin/sleep", "bin/mount", "bin/env"):
            link = tarfile.TarInfo(name)
            link.type, link.linkname = tarfile.SYMTYPE, "busybox"
            archive.addfile(link)
        for name in ("tmp", "proc", "sys", "dev", "etc", "task"):
            place = tarfile.TarInfo(name)
            place.type, place.mode = tarfile.DIRTYPE, 0o777
            archive.addfile(place)
    tag = "tallystick-test/provider"
    api.import_image_from_data(target.getvalue(), repository=tag, tag="1")
    return str(api.inspect_image(f"{tag}:1")["Id"])


@dataclass
class Engine:
    """One dockerd, its data and its socket in one directory. Ended by the id we started."""

    root: Path
    storage: str
    options: tuple[str, ...] = ()
    image: str = ""
    _daemon: subprocess.Popen[bytes] | None = None
    _frozen: bool = False
    _apis: list[Any] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"unix://{self.root / 'docker.sock'}"

    def start(self) -> None:
        for left in ("docker.pid", "exec/containerd/containerd.pid"):  # by a killed one
            (self.root / left).unlink(missing_ok=True)
        path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
        with (self.root / "log").open("ab") as log:
            self._daemon = subprocess.Popen(
                [
                    shutil.which("dockerd", path=path) or "dockerd",
                    *("--storage-driver", self.storage, "--host", self.url),
                    *("--data-root", str(self.root / "data")),
                    *("--exec-root", str(self.root / "exec")),
                    *("--pidfile", str(self.root / "docker.pid")),
                    *("--bridge=none", "--iptables=false", *self.options),
                ],
                env={**os.environ, "PATH": path},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        deadline = time.monotonic() + START_SECONDS
        while not self._answers():
            if self._daemon.poll() is not None or time.monotonic() > deadline:
                tail = (self.root / "log").read_text(errors="replace").splitlines()[-3:]
                raise RuntimeError(f"dockerd does not come up: {tail}")
            time.sleep(0.1)

    def _answers(self) -> bool:
        with suppress(DockerException, OSError):
            require_socket(self.url)  # the SDK would leave a socket open
            api = docker.APIClient(self.url, version="auto", timeout=5)
            try:
                return bool(api.ping())
            finally:
                api.close()
        return False

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        """SIGTERM: as `systemctl stop`. SIGKILL: as a crash."""
        if self._daemon is None:
            return
        if self._frozen:
            self.go_on()
        self._daemon.send_signal(how)
        self._daemon.wait(60)
        self._daemon = None

    def _processes(self, name: str) -> list[psutil.Process]:
        """Those with our directory in their command line."""
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                if process.name() == name and str(self.root) in " ".join(process.cmdline()):
                    found.append(process)
        return found

    def freeze(self) -> None:
        assert self._daemon is not None
        self._daemon.send_signal(signal.SIGSTOP)
        self._frozen = True

    def go_on(self) -> None:
        assert self._daemon is not None
        self._daemon.send_signal(signal.SIGCONT)
        self._frozen = False

    def api(self) -> Any:
        """Closed with the engine."""
        self._apis.append(docker.APIClient(self.url, version="auto", timeout=30))
        return self._apis[-1]

    def close(self) -> None:
        """Nothing of it stays: one that is down is started once more to end its containers."""
        if self._daemon is None:
            self.start()
        elif self._frozen:
            self.go_on()
        api = self.api()
        for container in api.containers(all=True):
            api.remove_container(container["Id"], force=True)
        for each in self._apis:
            each.close()
        self.stop()
        for shim in self._processes("containerd-shim"):
            shim.kill()
        subprocess.run(["umount", "--lazy", str(self.root / "data")], check=False)
        shutil.rmtree(self.root, ignore_errors=True)


def open_engine(root: Path, *options: str) -> Engine:
    """Skips the test where there can be none."""
    if os.geteuid() != 0:
        pytest.skip("only root can start a Docker engine of the test's own")
    if shutil.which("dockerd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin") is None:
        pytest.skip("dockerd is not installed (apt-get install docker.io)")
    why = ""
    for storage in STORAGES:
        engine = Engine(root, storage, options)
        try:
            engine.start()
        except RuntimeError as error:
            engine.stop()
            why = str(error)
            continue
        engine.image = busybox_image(engine.api())
        return engine
    pytest.skip(f"no Docker engine of the test's own: {why}")
