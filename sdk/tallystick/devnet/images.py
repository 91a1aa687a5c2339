"""The container images that local tasks and apps run in, built from this machine's own Python.

A local market must work where no image registry can be reached, so the image is not pulled: the
interpreter that runs us, scikit-learn (for apps: the server) with what it needs, and the shared
libraries they link are packed into one layer. Real providers run images of the consumer's choice,
by digest.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import io
import os
import re
import socket
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from tallystick.devnet.processes import DevnetError

_TASKS = "tallystick/python-ml"
_APPS = "tallystick/python-app"
_SERVER = (
    "uvicorn",
    "httptools",
    "uvloop",
    "pydantic",
    "jsonschema-rs",
    "eth-hash",
    "eth-utils",
    "pycryptodome",
)
"""What `tallystick.app` needs to serve; this package itself comes along as it lies here."""
_SITE = "/opt/python"
"""Where packages lie in the image. Interpreters differ in where they look by themselves (Debian's
does not look into site-packages), so the image says it in PYTHONPATH."""
_LEFT_OUT = ("__pycache__", "test", "tests", "idlelib", "tkinter", "turtledemo", "ensurepip")
_SHARED_OBJECT = re.compile(r"\.so(\.\d+)*$")


def engine_answers() -> bool:
    """Whether a Docker engine that may be used answers on this machine."""
    import docker
    from docker.errors import DockerException

    if not _is_there():
        return False
    try:
        client = docker.from_env(timeout=5)
        try:
            return bool(client.ping())
        finally:
            client.close()
    except DockerException:
        return False


def _is_there() -> bool:
    """Whether anybody listens on the engine's Unix socket; docker's own client leaves its end open
    when nobody does. An engine elsewhere is asked right away."""
    address = os.environ.get("DOCKER_HOST") or "unix:///var/run/docker.sock"
    if not address.startswith("unix://"):
        return True
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(address.removeprefix("unix://")) == 0


Report = Callable[[str, str], None]


def python_image(report: Report = lambda _step, _detail: None) -> str:
    """Id of the local Python image, `sha256:...`; builds it the first time (about a minute)."""
    return _image(_TASKS, ("scikit-learn",), {}, "Python and scikit-learn", report)


def app_base_image(report: Report = lambda _step, _detail: None) -> str:
    """Id of a local image that apps can start from: Python and `tallystick[app]`."""
    return _image(_APPS, _SERVER, dict(_own_files()), "Python and tallystick[app]", report)


def _image(
    repository: str,
    packages: tuple[str, ...],
    sources: dict[str, Path],
    contents: str,
    report: Report,
) -> str:
    import docker
    from docker.errors import ImageNotFound

    client = docker.from_env(timeout=300)
    tag = _fingerprint(packages, sources)
    try:
        try:
            return str(client.images.get(f"{repository}:{tag}").id)
        except ImageNotFound:
            report("image", f"packing {contents} into a container image, once")
        with tempfile.NamedTemporaryFile(suffix=".tar") as file:
            with tarfile.open(fileobj=file, mode="w") as archive:
                for name, source in {**dict(_tree(packages)), **sources}.items():
                    _add(archive, name, source)
                _add_base_files(archive)
            file.flush()
            client.api.import_image_from_file(
                file.name,
                repository=repository,
                tag=tag,
                changes=["ENV PATH=/usr/bin", f"ENV PYTHONPATH={_SITE}", "USER 65534"],
            )
        return str(client.images.get(f"{repository}:{tag}").id)
    finally:
        client.close()


def _fingerprint(packages: tuple[str, ...], sources: dict[str, Path]) -> str:
    """Changes when the interpreter, a packed package or a packed file does."""
    packed = [f"{found.name}={found.version}" for found in _distributions(packages)]
    files = [f"{n}={hashlib.sha256(p.read_bytes()).hexdigest()}" for n, p in sources.items()]
    parts = [sys.version, sys.base_prefix, _SITE, *sorted(packed), *sorted(files)]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def _own_files() -> Iterator[tuple[str, Path]]:
    """The parts of this package that a worker loads."""
    package = Path(__file__).resolve().parents[1]
    for path in (package / "__init__.py", *_files(package / "app"), *_files(package / "protocol")):
        yield f"{_SITE}/tallystick/{path.relative_to(package)}", path


def _distributions(names: tuple[str, ...]) -> list[importlib.metadata.Distribution]:
    """These installed distributions and everything they require, without extras."""
    found: dict[str, importlib.metadata.Distribution] = {}
    wanted = list(names)
    while wanted:
        package = wanted.pop()
        if package in found:
            continue
        try:
            found[package] = importlib.metadata.distribution(package)
        except importlib.metadata.PackageNotFoundError:
            if package in names:
                raise DevnetError(
                    f"{package} is not installed, and the local image needs it.",
                    next_step="Run `make setup`, which installs every group.",
                ) from None
            continue
        for requirement in found[package].requires or []:
            if "extra ==" not in requirement:
                wanted.append(re.split(r"[^A-Za-z0-9._-]", requirement, maxsplit=1)[0])
    return list(found.values())


def _tree(packages: tuple[str, ...]) -> Iterator[tuple[str, Path]]:
    """Pairs of path inside the image and file on this machine."""
    prefix = Path(sys.base_prefix).resolve()
    library = Path(sysconfig.get_path("stdlib", vars={"base": str(prefix)})).resolve()
    binary = Path(sys.executable).resolve()
    objects = [binary]
    yield str(binary), binary
    for path in _files(library, skip=("site-packages", *_LEFT_OUT)):
        objects += [path] if _SHARED_OBJECT.search(path.name) else []
        yield str(path), path
    for path in sorted((prefix / "lib").glob("libpython*.so*")):
        yield str(path), path
    for name, path in _package_files(packages):
        objects += [path] if _SHARED_OBJECT.search(path.name) else []
        yield f"{_SITE}/{name}", path
    for linked in _linked_libraries(objects):
        yield str(linked), linked.resolve()


def _package_files(packages: tuple[str, ...]) -> Iterator[tuple[str, Path]]:
    for distribution in _distributions(packages):
        for entry in distribution.files or []:
            if entry.parts[0] == ".." or "tests" in entry.parts or entry.suffix == ".pyc":
                continue
            yield str(entry), Path(str(entry.locate()))


def _files(folder: Path, skip: tuple[str, ...] = _LEFT_OUT) -> Iterator[Path]:
    for root, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if name not in skip and "config-" not in name]
        for name in names:
            if not name.endswith((".pyc", ".a")):
                yield Path(root) / name


def _linked_libraries(objects: list[Path]) -> set[Path]:
    """What the loader would map for these, by asking it (`ldd`), outside of the packages."""
    found: set[Path] = set()
    for start in range(0, len(objects), 200):
        done = subprocess.run(
            ["ldd", *map(str, objects[start : start + 200])],
            capture_output=True,
            text=True,
            check=False,
        )
        for match in re.finditer(r"(/\S+?) \(0x", done.stdout):
            path = Path(match.group(1))
            if "site-packages" not in path.parts:
                found.add(path)
    if not found:
        raise DevnetError("`ldd` told nothing about the Python interpreter's libraries.")
    return found


def _add(archive: tarfile.TarFile, name: str, source: Path) -> None:
    info = archive.gettarinfo(str(source.resolve()), arcname=name.lstrip("/"))
    info.uid = info.gid = 0
    info.uname = info.gname = "root"
    if not info.isreg():
        return
    with source.open("rb") as file:
        archive.addfile(info, file)


def _add_base_files(archive: tarfile.TarFile) -> None:
    for folder in ("tmp", "task", "task/in", "task/out", "task/work"):
        info = tarfile.TarInfo(folder)
        info.type, info.mode = tarfile.DIRTYPE, 0o755
        archive.addfile(info)
    for name in ("usr/bin/python", "usr/bin/python3"):
        info = tarfile.TarInfo(name)
        info.type, info.linkname = tarfile.SYMTYPE, str(Path(sys.executable).resolve())
        archive.addfile(info)
    passwd = b"root:x:0:0::/:/\nnobody:x:65534:65534::/:/\n"
    info = tarfile.TarInfo("etc/passwd")
    info.size = len(passwd)
    archive.addfile(info, io.BytesIO(passwd))
