"""A task's output as a file system of its own: what a task may write there has a hard end.

    <task>/out.ext4     an image, reserved on this disk in full before the task begins
    <task>/out          where it is mounted; the container's /task/out

Every step is safe to repeat, and each leaves what `remove` takes away: an agent ended at any line
leaks neither a mount nor a loop device nor the image. Needs root; without it the agent looks at
the output's size now and then, which stops a task but does not bound it (`why_not`).
"""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from itertools import count
from pathlib import Path

import structlog

from tallystick_provider.bundle import MAX_FILES
from tallystick_provider.errors import RuntimeFailure
from tallystick_provider.runtime import TaskDirectory

MIB = 1024 * 1024
BLOCK_BYTES = 4096
INODE_BYTES = 256
GROUP_BYTES = 128 * MIB
"""One bitmap of blocks describes as much."""
OWN_INODES = 16
"""ext4 numbers its own things first."""
HELD_BACK_BYTES_MAX = 16 * MIB
"""ext4 lets nobody use 2 % of the blocks, at most 4096 of them: room for its own late tables."""
TOOL_SECONDS = 120
TRIAL = ".tallystick-trial-"
TRIAL_MIB = 1
TOOL_PATH = "/usr/sbin:/sbin:/usr/bin:/bin"
OPTIONS = "loop,nosuid,nodev,noatime"

log = structlog.get_logger()


def inodes_for(size_mib: int) -> int:
    """As many files as there are blocks for them, and no more than a result may hold."""
    return OWN_INODES + min(MAX_FILES, size_mib * MIB // BLOCK_BYTES)


def image_bytes_up(size_mib: int) -> int:
    """What is reserved for `size_mib` of output: that, and the tables ext4 needs to hold it."""
    data = size_mib * MIB
    groups = -(-data // GROUP_BYTES) + 1
    tables = inodes_for(size_mib) * INODE_BYTES + groups * 16 * BLOCK_BYTES
    held_back = min(HELD_BACK_BYTES_MAX, (data + tables) // 48)
    return -(-(data + tables + held_back) // BLOCK_BYTES) * BLOCK_BYTES


def make(place: TaskDirectory, size_mib: int, owner: int) -> None:
    """Mounts the task's own file system at its output. Raises RuntimeFailure."""
    if os.path.ismount(place.output):
        return
    image = image_of(place)
    if not image.exists():
        _format(image, size_mib, owner)
    _mount(image, place.output)


def reattach(place: TaskDirectory) -> None:
    """After the machine was started again the image is there and the mount is not: without this a
    finished task's result would be packed empty. Raises RuntimeFailure."""
    image = image_of(place)
    if not image.exists() or os.path.ismount(place.output):
        return
    # Without a journal in it, whatever was cut off is put right first. 1: it was, and now is.
    done = _tool("e2fsck", "-p", str(image))
    if done.returncode not in (0, 1):
        raise RuntimeFailure(
            f"the output's file system {image} is damaged ({_said(done)}); the task must run again"
        )
    _mount(image, place.output)
    log.info("output_reattached", directory=str(place.root))


def release(place: TaskDirectory) -> None:
    """Back to a plain directory; what was in the output goes. Raises RuntimeFailure."""
    while os.path.ismount(place.output):
        # Lazily: an open file must not keep it. The kernel lets go of the loop device by itself.
        done = _tool("umount", "--lazy", str(place.output))
        if done.returncode != 0:
            raise RuntimeFailure(f"{place.output} cannot be unmounted: {_said(done)}")
    image_of(place).unlink(missing_ok=True)


def remove(root: Path) -> bool:
    """The task's directory goes, unmounted first: never is anything deleted through a mount.
    False when something of it is left for the next try. Never raises."""
    try:
        release(TaskDirectory(root))
    except (RuntimeFailure, OSError) as error:
        log.warning("output_left", directory=str(root), why=str(error))
        return False
    try:
        _delete(root)
    except OSError as error:
        log.warning("directory_left", directory=str(root), why=str(error))
    return not root.exists()


def _delete(root: Path) -> None:
    """However deep it is, and whatever is closed in it: a directory's own directories are moved up
    to the top before it goes, so no path grows and nothing recurses. Raises OSError."""
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        os.chmod(root, 0o700)
        top = os.open(root, flags)
    except FileNotFoundError:
        return
    try:
        # Never a name that a delete which was cut short has left.
        moved = (f".tallystick-{secrets.token_hex(8)}-{n}" for n in count())
        todo = _empty(top, top, moved)
        while todo:
            name = todo.pop()
            os.chmod(name, 0o700, dir_fd=top)
            here = os.open(name, flags, dir_fd=top)
            try:
                todo += _empty(here, top, moved)
            finally:
                os.close(here)
            os.rmdir(name, dir_fd=top)
    finally:
        os.close(top)
    os.rmdir(root)


def _empty(here: int, top: int, moved: Iterator[str]) -> list[str]:
    """All files of a directory go; the names that its directories have in `top` from now on."""
    found = []
    with os.scandir(here) as entries:
        names = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
    for name, is_directory in names:
        if not is_directory:
            os.unlink(name, dir_fd=here)
            continue
        aside = next(moved)
        os.chmod(name, 0o700, dir_fd=here)  # its own entry `..` is about to change
        os.rename(name, aside, src_dir_fd=here, dst_dir_fd=top)
        found.append(aside)
    return found


def image_of(place: TaskDirectory) -> Path:
    return place.root / "out.ext4"


@cache
def why_not(data_dir: Path) -> str:
    """Empty where outputs get file systems of their own, else the reason. Tried once."""
    if sys.platform != "linux":
        return "only Linux mounts images"
    if os.geteuid() != 0:
        return "the agent is not root"
    for tool in ("mkfs.ext4", "mount", "umount", "e2fsck"):
        if shutil.which(tool, path=TOOL_PATH) is None:
            return f"{tool} is not installed"
    existing = next(p for p in (data_dir, *data_dir.parents) if p.exists())
    try:
        for left in existing.glob(f"{TRIAL}*"):
            remove(left)  # of an agent that was killed in the middle of this
        trial = TaskDirectory(Path(tempfile.mkdtemp(prefix=TRIAL, dir=existing)))
        try:
            trial.output.mkdir()
            make(trial, TRIAL_MIB, os.geteuid())
        finally:
            remove(trial.root)
    except (RuntimeFailure, OSError) as error:
        return str(error)
    return ""


def _format(image: Path, size_mib: int, owner: int) -> None:
    draft = image.with_suffix(".draft")
    size_bytes = image_bytes_up(size_mib)
    try:
        with draft.open("wb") as file:
            os.fchmod(file.fileno(), 0o600)
            file.truncate(size_bytes)
        done = _tool(
            "mkfs.ext4",
            *("-q", "-F", "-m", "0", "-b", str(BLOCK_BYTES), "-I", str(INODE_BYTES)),
            *("-N", str(inodes_for(size_mib)), "-O", "^has_journal,^resize_inode"),
            *("-E", f"nodiscard,lazy_itable_init=0,root_owner={owner}:{owner}"),
            str(draft),
        )
        if done.returncode != 0:
            raise RuntimeFailure(f"the output's file system cannot be made: {_said(done)}")
        with draft.open("r+b") as file:
            # Last: making the file system leaves holes, which somebody else's data could take.
            os.posix_fallocate(file.fileno(), 0, size_bytes)
    except OSError as error:
        draft.unlink(missing_ok=True)
        raise RuntimeFailure(
            f"{size_bytes // MIB} MiB for the task's output cannot be reserved in {image.parent}: "
            f"{error.strerror}; free some space, or offer less with TALLYSTICK_PROVIDER_DISK_MIB"
        ) from error
    draft.replace(image)


def _mount(image: Path, target: Path) -> None:
    done = _tool("mount", "-t", "ext4", "-o", OPTIONS, str(image), str(target))
    if done.returncode != 0:
        raise RuntimeFailure(f"the output's file system cannot be mounted: {_said(done)}")
    with suppress(OSError):
        (target / "lost+found").rmdir()  # the task's directory is the task's alone


def _tool(*command: str) -> subprocess.CompletedProcess[str]:
    # Nothing of the agent's environment, and messages in one language.
    environment = {"PATH": TOOL_PATH, "LC_ALL": "C"}
    try:
        return subprocess.run(
            command,
            capture_output=True,
            text=True,
            check=False,
            stdin=subprocess.DEVNULL,
            timeout=TOOL_SECONDS,
            env=environment,
        )
    except subprocess.TimeoutExpired as error:
        raise RuntimeFailure(f"{command[0]} did not end within {TOOL_SECONDS} s") from error
    except OSError as error:
        raise RuntimeFailure(f"{command[0]} cannot be run: {error.strerror}") from error


def _said(done: subprocess.CompletedProcess[str]) -> str:
    return " ".join((done.stderr or done.stdout).split())[:200] or f"exit {done.returncode}"
