"""The system calls that a task may make, as a seccomp profile of our own. Pure.

An engine's default profile changes with its version: Docker 20.10's lets a task use io_uring and
vsock, past everything else that holds it. So every container brings this one, and what a task may
call does not depend on the provider's engine.

It is a list of what is allowed. `REFUSED` changes nothing at run time; it is there so that every
call of the kernel's tables of x86_64 and aarch64, up to number 469 (Linux 6.18), is in exactly one
place, with its reason, and a test says so. A call that is in neither is refused: EPERM, or ENOSYS
from runc where its number is beyond all of these, as from a kernel that is too old for it.

Only the machine's own ABI is allowed. 32-bit programs are killed: through their one call for all
of networking, `socketcall`, no rule about families of sockets can look.

A name that the engine's libseccomp does not know is left out by runc; that call is then refused.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache
from typing import Any, Final

INT = 0xFFFF_FFFF
"""The kernel reads an `int` from the lower half of a register; a rule that compared the upper half
as well would say something about bits that nobody set."""

ALLOWED: Final = {
    # The task's own memory; what it may hold is bounded by its cgroup. userfaultfd is refused.
    "memory": """
        brk madvise map_shadow_stack membarrier mincore mlock mlock2 mlockall mmap mprotect mremap
        mseal msync munlock munlockall munmap pkey_alloc pkey_free pkey_mprotect remap_file_pages
    """,
    # On which memory bank its pages lie: CUDA, NCCL and libnuma ask for it. Reaches only processes
    # of this task; pinning other nodes than the cgroup has would take a capability.
    "NUMA": """
        get_mempolicy mbind migrate_pages move_pages set_mempolicy set_mempolicy_home_node
    """,
    # Starting, ending and waiting. `clone` and `personality` have rules of their own, below.
    "processes and threads": """
        arch_prctl execve execveat exit exit_group fork get_robust_list getpgid getpgrp getpid
        getppid getsid gettid kcmp kill pidfd_getfd pidfd_open pidfd_send_signal prctl
        process_madvise process_mrelease restart_syscall rseq set_robust_list set_tid_address
        setpgid setsid tgkill tkill uprobe uretprobe vfork wait4 waitid
    """,
    # Without capabilities each of these gives up rights, or sets what is already so.
    "identity": """
        capget capset getegid geteuid getgid getgroups getresgid getresuid getuid setfsgid setfsuid
        setgid setgroups setregid setresgid setresuid setreuid setuid
    """,
    # A task may narrow itself further.
    "confinement": "landlock_add_rule landlock_create_ruleset landlock_restrict_self seccomp",
    "signals": """
        pause rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn rt_sigsuspend
        rt_sigtimedwait rt_tgsigqueueinfo sigaltstack signalfd signalfd4
    """,
    # Of its own processes, within its CPU limit; real-time priority would take a capability.
    "scheduling and limits": """
        getcpu getpriority getrlimit getrusage ioprio_get ioprio_set prlimit64
        sched_get_priority_max sched_get_priority_min sched_getaffinity sched_getattr sched_getparam
        sched_getscheduler sched_rr_get_interval sched_setaffinity sched_setattr sched_setparam
        sched_setscheduler sched_yield setpriority setrlimit
    """,
    # Reading clocks and waiting by them; setting them is refused.
    "time": """
        alarm clock_getres clock_gettime clock_nanosleep getitimer gettimeofday nanosleep setitimer
        time timer_create timer_delete timer_getoverrun timer_gettime timer_settime timerfd_create
        timerfd_gettime timerfd_settime times
    """,
    "waiting": """
        epoll_create epoll_create1 epoll_ctl epoll_pwait epoll_pwait2 epoll_wait eventfd eventfd2
        futex futex_requeue futex_wait futex_waitv futex_wake inotify_add_watch inotify_init
        inotify_init1 inotify_rm_watch poll ppoll pselect6 select
    """,
    # What a file may be opened for is decided by its mounts and its owner. A device node takes a
    # capability to make; `ioctl` reaches only the devices that the container was given, its GPUs.
    "files": """
        access cachestat chdir chmod chown close close_range copy_file_range creat dup dup2 dup3
        faccessat faccessat2 fadvise64 fallocate fchdir fchmod fchmodat fchmodat2 fchown fchownat
        fcntl fdatasync fgetxattr file_getattr file_setattr flistxattr flock fremovexattr fsetxattr
        fstat fstatfs fsync ftruncate futimesat getcwd getdents getdents64 getxattr getxattrat ioctl
        lchown lgetxattr link linkat listxattr listxattrat llistxattr lremovexattr lseek lsetxattr
        lstat memfd_create mkdir mkdirat mknod mknodat newfstatat open openat openat2 pipe pipe2
        pread64 preadv preadv2 pwrite64 pwritev pwritev2 read readahead readlink readlinkat readv
        removexattr removexattrat rename renameat renameat2 rmdir sendfile setxattr setxattrat
        splice stat statfs statx symlink symlinkat sync sync_file_range syncfs tee truncate umask
        unlink unlinkat utime utimensat utimes vmsplice write writev
    """,
    # On sockets that are there. Which ones may be made is said below.
    "sockets": """
        accept accept4 bind connect getpeername getsockname getsockopt listen recvfrom recvmmsg
        recvmsg sendmmsg sendmsg sendto setsockopt shutdown
    """,
    # The container's IPC namespace is its own.
    "System V and POSIX messages": """
        mq_getsetattr mq_notify mq_open mq_timedreceive mq_timedsend mq_unlink msgctl msgget msgrcv
        msgsnd semctl semget semop semtimedop shmat shmctl shmdt shmget
    """,
    "the machine, read only": "getrandom sysinfo uname",
}

TRACING = "process_vm_readv process_vm_writev ptrace"
"""Debuggers, and libraries that copy between workers. The container's processes are all it can see.
Before Linux 4.8 a traced process could make calls past its filter: there they are refused."""

CLONE_NEW = 0x7E02_0000
"""Every CLONE_NEW* flag that `clone` knows: no namespaces, where a task would have capabilities."""

PERSONALITIES = (0, 0x0004_0000, INT)
"""The usual one, the same without randomized addresses (debuggers, sanitizers), and asking."""

AF_UNIX, AF_INET, AF_INET6, AF_NETLINK = 1, 2, 10, 16
STREAM, DATAGRAM = 1, 2
SOCKET_TYPE = 0xF
"""The rest of the argument is flags."""
TRANSPORTS = ((STREAM, 0), (STREAM, 6), (DATAGRAM, 0), (DATAGRAM, 17))
"""Type and protocol: TCP and UDP, by name and by default. Others a kernel loads when asked."""
NETLINK_ROUTE = 0
"""Lists the container's own interfaces, for getaddrinfo(); the other netlink families stay shut."""

ABSENT: Final = {
    "clone3": "its flags are behind a pointer, where no filter looks; libc falls back to clone",
    "io_uring_setup io_uring_enter io_uring_register": (
        "a second way to make calls, past this filter, and years of kernel holes"
    ),
    "io_setup io_submit io_cancel io_destroy io_getevents io_pgetevents": (
        "the older asynchronous files: one count for the whole machine (fs.aio-max-nr), which one "
        "task could use up for all"
    ),
    "memfd_secret": "memory that the machine's owner cannot see either",
    "statmount listmount": "mounts of the machine; /proc/self/mountinfo has the task's",
    "lsm_get_self_attr lsm_set_self_attr lsm_list_modules": "security labels are the engine's",
}
"""Refused as ENOSYS, so that programs take the older way."""

REFUSED: Final = {
    "mount umount2 pivot_root chroot fsopen fsconfig fsmount fspick move_mount open_tree "
    "open_tree_attr mount_setattr": "the file system's shape decides what a task sees",
    "unshare setns": "in a namespace of its own a task would have capabilities",
    "init_module finit_module delete_module create_module get_kernel_syms query_module": (
        "code in the kernel"
    ),
    "kexec_load kexec_file_load reboot": "another kernel, or none",
    "bpf perf_event_open": "programs and counters in the kernel; they measure other tasks, too",
    "userfaultfd": "stops the kernel in the middle of a copy, which makes races easy to win",
    "add_key keyctl request_key": "keyrings know no container",
    "open_by_handle_at name_to_handle_at": "a file by its number, past the mounts (Shocker)",
    "fanotify_init fanotify_mark": "events of whole file systems",
    "clock_settime settimeofday adjtimex clock_adjtime": "the machine's clock",
    "sethostname setdomainname": "the engine's to give",
    "swapon swapoff": "the machine's memory",
    "acct quotactl quotactl_fd": "accounts of the machine's disks and processes",
    "syslog": "the kernel's log has addresses and other tenants' names",
    "iopl ioperm": "ports of the hardware",
    "modify_ldt": "segments of 16-bit programs, and a history of holes",
    "vhangup": "the machine's terminals",
    "lookup_dcookie nfsservctl sysfs uselib ustat _sysctl": "left over; later kernels lack them",
    "afs_syscall epoll_ctl_old epoll_wait_old get_thread_area getpmsg putpmsg security "
    "set_thread_area tuxcall vserver": "numbers without a call behind them",
}

CONDITIONAL = ("clone", "personality", "socket", "socketpair")


@cache
def profile() -> str:
    """The whole profile, compact and always the same, as Docker takes it in `SecurityOpt`."""
    rules = [
        *(_rule(names, why) for why, names in ALLOWED.items()),
        {**_rule(TRACING, "tracing"), "includes": {"minKernel": "4.8"}},
        _rule("clone", "no namespaces", _is(0, 0, mask=CLONE_NEW)),
        *(_rule("personality", "harmless ones", _is(0, value)) for value in PERSONALITIES),
        *_sockets(),
        *(
            {"names": names.split(), "action": "SCMP_ACT_ERRNO", "errnoRet": 38, "comment": why}
            for names, why in ABSENT.items()
        ),
    ]
    whole = {
        "defaultAction": "SCMP_ACT_ERRNO",
        "archMap": [
            {"architecture": "SCMP_ARCH_X86_64", "subArchitectures": []},
            {"architecture": "SCMP_ARCH_AARCH64", "subArchitectures": []},
        ],
        "syscalls": rules,
    }
    return json.dumps(whole, separators=(",", ":"), sort_keys=True)


def _sockets() -> Iterator[dict[str, Any]]:
    """Families with a use in a container without network. Not vsock (the hypervisor answers it,
    past every network namespace), AF_ALG, packet, or any other door into the kernel."""
    for call in ("socket", "socketpair"):
        yield _rule(call, "AF_UNIX", _is(0, AF_UNIX))
    yield _rule("socket", "NETLINK_ROUTE", _is(0, AF_NETLINK), _is(2, NETLINK_ROUTE))
    for family in (AF_INET, AF_INET6):
        for kind, protocol in TRANSPORTS:
            yield _rule(
                "socket",
                "TCP and UDP",
                _is(0, family),
                _is(1, kind, mask=SOCKET_TYPE),
                _is(2, protocol),
            )


def _rule(names: str, why: str, *arguments: dict[str, Any]) -> dict[str, Any]:
    allowed = {"names": names.split(), "action": "SCMP_ACT_ALLOW", "comment": why}
    return {**allowed, "args": list(arguments)} if arguments else allowed


def _is(index: int, value: int, *, mask: int = INT) -> dict[str, Any]:
    """Of argument `index`, the bits in `mask` are those of `value`."""
    return {"index": index, "value": mask, "valueTwo": value, "op": "SCMP_CMP_MASKED_EQ"}
