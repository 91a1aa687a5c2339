"""The hostile programs with how each must end."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

HOSTILE = Path(__file__).with_name("hostile.py")
Ending = Literal["well", "by the limit", "with a code", "refused"]
"""By itself with 0; 124, by the agent; by itself with another code; as the task's own fault."""
Tier = Literal["bounded", "watched"]
"""Of the output: a file system of its own, or looked at now and then."""


@dataclass(frozen=True, slots=True)
class Program:
    name: str
    ends: tuple[Ending, ...] = ("well",)
    tries: bool = True
    """Whether its log must hold refusals, and no success."""
    seconds: int = 60
    tiers: tuple[Tier, ...] = ("bounded",)
    says: str = ""
    """Must be in its log."""
    memory_mib: int = 256


def _names(text: str) -> Iterable[str]:
    return text.split()


ESCAPES = tuple(
    Program(name)
    for name in _names("""
        mounts namespaces cloned_namespaces another_root keyrings kernel_programs kernel_counters
        another_kernel machine_accounts clocks fault_handlers rings file_handles outsiders rights
        old_doors ports_and_nodes watching_everything kernel_settings machine_tree process_tree
        crash_handler control_groups devices nodes_of_the_image root_by_the_image setuid_of_its_own
        ambient_rights ways_out_of_the_tree own_program_file everybody_killed engines_sockets
        secrets_hunt metadata_service neighbourhood names_and_packets every_family kernel_lines
        terminals storm_of_calls
    """)
)

BOTH: tuple[Tier, ...] = ("bounded", "watched")
LIMIT: tuple[Ending, ...] = ("by the limit",)
ANY: tuple[Ending, ...] = ("well", "by the limit", "with a code", "refused")
FLOODS = (
    *(
        Program(name, LIMIT, seconds=4)
        for name in _names("""
            pipes files_on_their_way timers queued_signals watchers
            message_queues
        """)
    ),
    *(
        Program(name, LIMIT, tries=False, seconds=3)
        for name in _names(
            "busy_loops socket_buffers log_without_an_end_of_line log_of_empty_lines"
        )
    ),
    Program("disk_without_rest", LIMIT, tries=False, seconds=3),
    Program("fork_bomb", LIMIT, seconds=6, memory_mib=1024),
    Program("thread_bomb", ("by the limit", "well", "with a code"), seconds=6),
    Program("heap", ("with a code",), tries=False),
    Program("recursion", ("with a code",), tries=False),
    Program("memory_files", ("well", "with a code"), tries=False),
    Program("shared_segments", ("well", "with a code"), tries=False),
    Program("memory_disk", ("well", "with a code"), tries=False),
    Program("shared_memory", ("well", "with a code"), tries=False),
    Program("temporary_disk"),
    Program("root_disk"),
    Program("page_cache"),
    Program("output_disk", ("well", "refused"), tries=False, tiers=BOTH),
    Program("small_files_in_output", ("well", "refused"), tries=False, tiers=BOTH),
    Program("small_files_in_memory", ("well", "with a code"), tries=False),
    Program("missing_names"),
    Program("holes"),
    Program("reserved_space"),
    Program("log_of_rubbish", tries=False, says="end of rubbish"),
    Program("log_with_forged_stamps", tries=False, says="said after the forged stamps"),
    Program("open_files"),
    Program("locked_memory", ("well", "with a code"), tries=False),
    Program("huge_pages"),
    Program("semaphores", ("well", "with a code"), tries=False),
    Program("mappings", ("well", "with a code"), tries=False),
    Program("record_locks"),
)

LIVES = (
    *(Program(name, LIMIT, tries=False, seconds=3) for name in _names("zombies sessions stopped")),
    Program("deaf", LIMIT, tries=False, seconds=3, says="deaf"),
    Program("more_time", LIMIT, seconds=3),
    Program("daemons", tries=False),
    Program("output_without_end", (*LIMIT, "refused"), tries=False, seconds=3, tiers=BOTH),
    Program("strange_ends", ("with a code",), tries=False),
    Program("killed_by_itself", ("with a code",), tries=False),
    Program("forged_progress", tries=False, says="said after progress"),
)

OUTPUTS = (
    *(
        Program(name, tries=name in ("hard_links", "locked_files", "forged_receipts"), tiers=BOTH)
        for name in _names("""
            links_to_secrets hard_links odd_names dangerous_modes bomb_for_the_consumer
            forged_receipts
        """)
    ),
    Program("locked_files"),
    Program("things_that_are_no_files"),
    Program("very_many_files", ("refused", "well", "with a code"), tries=False, tiers=BOTH),
    Program("very_deep", ("refused",), tries=False, tiers=BOTH),
    Program("long_ways", ("refused",), tries=False, tiers=BOTH),
    Program("swapped_while_looked_at", LIMIT, tries=False, seconds=3, tiers=BOTH),
)

PROGRAMS = (*ESCAPES, *FLOODS, *LIVES, *OUTPUTS)
ORDINARY = Program("ordinary", tries=False, says="ordinary, 64")
