"""How much of the money contracts the tests hold: change one thing at a time, see who notices.

Every mutant is applied to a copy of the tree; the source is never touched. A mutant that does not
compile is not counted, and neither is one whose bytecode is the original's. A kill is a named test
that fails; one that makes the tests run out of time, or Foundry stop for another reason, is none.
The quick tests come first, the laws only if they all pass. Results are kept by the mutant's
content, so that a run that was cut off goes on where it stopped.

    python tools/mutate.py --sample 120 --seed 1        a sample of the generated mutants
    python tools/mutate.py --hand                       the hand-written ones, all to be killed
    python tools/mutate.py --report                     what is known, without running anything
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
WORK = ROOT / "build" / "mutation"
HAND = ROOT / "tests" / "foundry" / "mutants.json"
SURVIVORS = ROOT / "tests" / "foundry" / "survivors.json"
MONEY = (
    "contracts/ComputeEscrow.sol",
    "contracts/ProviderStaking.sol",
    "contracts/TaskMarket.sol",
    "contracts/DisputeCourt.sol",
    "contracts/libraries/CallPricing.sol",
    "contracts/libraries/SharePot.sol",
    "contracts/libraries/FeeStream.sol",
    "contracts/libraries/Signatures.sol",
    "contracts/libraries/ExactTransfer.sol",
    "contracts/libraries/Channels.sol",
)
COPIED = ("contracts", "tests/foundry", "tests/protocol/vectors", "foundry.toml")
LINKED = ("node_modules", ".make")
COMPILED = "build/foundry"
# Edges, roles and fuzz tests take two seconds, the laws most of a minute: they see what is left.
STAGES = ("tests/foundry/{unit,fuzz}/*", "tests/foundry/laws/*")
FAILED_TEST = re.compile(r"\b((?:test|testFuzz|invariant)_\w+|setUp|afterInvariant)\(")
TEST_TIMEOUT_S = 240
COMPILE_TIMEOUT_S = 240
AIM_PERCENT = 85
NO_KILL = ("survived", "timeout", "crashed")

# Each pattern changes one thing that a reviewer could overlook.
SWAPS: tuple[tuple[str, str, str], ...] = (
    (r"(?<![<>=!])<(?![<=])", "<=", "bound"),
    (r"(?<![<>=!-])>(?![>=])", ">=", "bound"),
    (r"<=", "<", "bound"),
    (r">=", ">", "bound"),
    (r"==", "!=", "condition"),
    (r"!=", "==", "condition"),
    (r"&&", "||", "condition"),
    (r"\|\|", "&&", "condition"),
    (r"(?<!\+)\+(?![+=])", "-", "arithmetic"),
    (r"(?<!-)-(?![-=>])", "+", "arithmetic"),
    (r"\+=", "-=", "arithmetic"),
    (r"-=", "+=", "arithmetic"),
    (r"(?<=\s)\*(?=\s)", "/", "arithmetic"),
    (r"(?<=\s)/(?=\s)", "*", "arithmetic"),
    (r"(?<=\s)%(?=\s)", "/", "arithmetic"),
    (r"\btrue\b", "false", "constant"),
    (r"\bfalse\b", "true", "constant"),
    (r"\bmsg\.sender\b", "tx.origin", "sender"),
    (r" nonReentrant\b", "", "modifier"),
    (r" only(?:Market|Court|Escrow)\b(?= )", "", "modifier"),
)
STATEMENT = re.compile(r"^\s+(?!return|uint|int|bool|bytes|address|emit|assembly)[\w.\[\]()]+.*;$")


@dataclass(frozen=True)
class Mutant:
    """One line of one file, as it was and as it becomes."""

    path: str
    line: int
    kind: str
    before: str
    after: str
    why: str = ""

    @property
    def key(self) -> str:
        text = f"{self.path}\0{self.line}\0{self.before}\0{self.after}"
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def generated(root: Path) -> list[Mutant]:
    return [mutant for path in MONEY if (root / path).exists() for mutant in _of_file(root, path)]


def _of_file(root: Path, path: str) -> Iterator[Mutant]:
    inside_assembly = 0
    inside_function = False
    for number, line in enumerate((root / path).read_text().splitlines(), 1):
        code = line.split("//")[0].rstrip()
        inside_function = inside_function or code.startswith(("    function", "    constructor"))
        if line == "    }":
            inside_function = False
        if not inside_function or not code.strip() or code.strip().startswith("*"):
            continue
        if "assembly" in code:
            inside_assembly = 1
        if '"' in code:
            continue
        seen = set()
        for pattern, swap, kind in SWAPS:
            for match in re.finditer(pattern, code):
                after = code[: match.start()] + swap + code[match.end() :]
                if after not in seen:
                    seen.add(after)
                    yield Mutant(path, number, kind, line, after)
        if STATEMENT.match(code) and not inside_assembly and "{" not in code:
            blank = re.match(r"^\s*", code)
            assert blank is not None
            yield Mutant(path, number, "statement", line, blank[0] + "{}")
        if code.strip() == "}":
            inside_assembly = 0


def hand_written() -> list[Mutant]:
    """From the table: a text that occurs once in its file, and what takes its place."""
    mutants = []
    for row in json.loads(HAND.read_text()):
        text = (ROOT / row["path"]).read_text()
        if text.count(row["before"]) != 1:
            sys.exit(
                f"{HAND.name}: {row['before']!r} occurs {text.count(row['before'])} times in "
                f"{row['path']}: name a text that occurs once"
            )
        line = text[: text.index(row["before"])].count("\n") + 1
        mutants.append(Mutant(row["path"], line, "hand", row["before"], row["after"], row["why"]))
    return mutants


class Bench:
    """A copy of the tree with warm compiler caches, in which one mutant at a time lives."""

    def __init__(self, folder: Path, stages: tuple[str, ...]) -> None:
        self.folder = folder
        self.original = ""
        self.stages = stages
        folder.mkdir(parents=True, exist_ok=True)
        for name in COPIED:
            target = folder / name
            if target.is_dir():
                shutil.rmtree(target)
            target.parent.mkdir(parents=True, exist_ok=True)
            source = ROOT / name
            if source.is_dir():
                shutil.copytree(source, target)
            else:
                shutil.copyfile(source, target)
        for name in LINKED:
            link = folder / name
            if not link.exists():
                link.symlink_to((ROOT / name).resolve(), target_is_directory=True)

    def another(self, folder: Path) -> Bench:
        """The same once more, without compiling and judging the original again."""
        bench = Bench(folder, self.stages)
        shutil.rmtree(folder / COMPILED, ignore_errors=True)
        shutil.copytree(self.folder / COMPILED, folder / COMPILED)
        bench.original = self.original
        return bench

    def start(self) -> None:
        """The original must compile and pass, or nothing could be said of a mutant."""
        if self._forge("build", COMPILE_TIMEOUT_S * 4)[0] != 0:
            sys.exit("the original does not compile: run forge build")
        self.original = self._bytecodes()
        began = time.monotonic()
        verdict, by = self._test()
        if verdict != "survived":
            sys.exit(f"the original fails its tests ({verdict} {by}): run them first")
        print(f"original: passes in {time.monotonic() - began:.0f} s", flush=True)

    def judge(self, mutant: Mutant) -> tuple[str, str]:
        """killed, survived, timeout, crashed, uncompilable or equal; and the tests that failed."""
        target = self.folder / mutant.path
        original = (ROOT / mutant.path).read_text()
        target.write_text(_apply(original, mutant))
        try:
            code, _ = self._forge("build", COMPILE_TIMEOUT_S)
            if code is None:
                return "timeout", ""
            if code != 0:
                return "uncompilable", ""
            if self._bytecodes() == self.original:
                return "equal", ""
            return self._test()
        finally:
            target.write_text(original)

    def _test(self) -> tuple[str, str]:
        for stage in self.stages:
            code, output = self._forge(f"test --fail-fast --mp {stage}", TEST_TIMEOUT_S)
            if code is None:
                return "timeout", ""
            if code != 0:
                summary = output.partition("\nFailing tests:\n")[2]
                failed = sorted(set(FAILED_TEST.findall(summary)))
                return ("killed" if failed else "crashed"), ", ".join(failed)
        return "survived", ""

    def _forge(self, command: str, timeout_s: float) -> tuple[int | None, str]:
        """The exit status, None if it ran out of time; and what was printed."""
        environment = dict(os.environ, FOUNDRY_PROFILE="mutation")
        with tempfile.TemporaryFile("w+") as printed:
            process = subprocess.Popen(
                [str(self.folder / ".make/bin/forge"), *command.split()],
                cwd=self.folder,
                env=environment,
                stdout=printed,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
            try:
                code: int | None = process.wait(timeout_s)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                code = None
            printed.seek(0)
            return code, printed.read()

    def _bytecodes(self) -> str:
        """Of what is deployed, without the metadata at the end, which names every comment."""
        digest = hashlib.sha256()
        names = {Path(path).stem for path in MONEY if "/libraries/" not in path} | {"Harness"}
        for name in sorted(names):
            path = self.folder / "build/foundry/out" / f"{name}.sol" / f"{name}.json"
            if path.exists():
                code = json.loads(path.read_text())["bytecode"]["object"]
                digest.update(
                    re.sub(r"a264697066735822.{68}64736f6c6343.{6}0033", "", code).encode()
                )
        return digest.hexdigest()


def _apply(text: str, mutant: Mutant) -> str:
    if mutant.kind == "hand":
        return text.replace(mutant.before, mutant.after)
    lines = text.splitlines()
    if lines[mutant.line - 1] != mutant.before:
        sys.exit(f"{mutant.path}:{mutant.line} is not what it was: start afresh")
    lines[mutant.line - 1] = mutant.after
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--hand", action="store_true", help="the hand-written mutants")
    parser.add_argument("--sample", type=int, default=0, help="so many of the generated ones")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=0, help="stop after so long")
    parser.add_argument(
        "--tests",
        nargs="+",
        default=list(STAGES),
        help="paths, each tried if the last finds nothing",
    )
    parser.add_argument("--workers", type=int, default=2, help="so many copies side by side")
    parser.add_argument("--only", default="", help="those whose path or reason contains this")
    parser.add_argument("--retry", action="store_true", help="survivors too, once more")
    parser.add_argument("--again", action="store_true", help="all of them, whatever is known")
    parser.add_argument("--report", action="store_true", help="only tell what is known")
    options = parser.parse_args()

    mutants = hand_written() if options.hand else generated(ROOT)
    mutants = [mutant for mutant in mutants if options.only in f"{mutant.path} {mutant.why}"]
    if options.sample:
        mutants = random.Random(options.seed).sample(mutants, min(options.sample, len(mutants)))
    results_path = WORK / ("hand.json" if options.hand else "generated.json")
    results = json.loads(results_path.read_text()) if results_path.exists() else {}
    if not options.report:
        _run(mutants, results, results_path, options)
    return _report(mutants, results, all_must_die=options.hand)


def _run(
    mutants: list[Mutant],
    results: dict[str, dict[str, object]],
    path: Path,
    options: argparse.Namespace,
) -> None:
    undone = list(mutants) if options.again else []
    for mutant in mutants:
        known = results.get(mutant.key)
        if not options.again and (not known or (options.retry and known["verdict"] in NO_KILL)):
            undone.append(mutant)
    if not undone:
        return
    waiting = iter(enumerate(undone, 1))
    lock = threading.Lock()

    first = Bench(WORK / "bench0", tuple(options.tests))
    first.start()
    others = [first.another(WORK / f"bench{number}") for number in range(1, options.workers)]
    began = time.monotonic()

    def work(bench: Bench) -> None:
        while not options.minutes or time.monotonic() - began < options.minutes * 60:
            with lock:
                at, mutant = next(waiting, (0, None))
            if mutant is None:
                return
            verdict, by = bench.judge(mutant)
            with lock:
                results[mutant.key] = {"verdict": verdict, "by": by, **asdict(mutant)}
                path.write_text(json.dumps(results, indent=1) + "\n")
                print(f"{at}/{len(undone)} {verdict} {by}: {_describe(mutant)}", flush=True)

    with ThreadPoolExecutor(options.workers) as pool:
        # Reading each result lets an error of a worker end the run.
        for done in [pool.submit(work, bench) for bench in (first, *others)]:
            done.result()
    print(f"took {time.monotonic() - began:.0f} s for {len(undone)} at most")


def _report(
    mutants: list[Mutant], results: dict[str, dict[str, object]], *, all_must_die: bool
) -> int:
    verdicts = [results[mutant.key]["verdict"] for mutant in mutants if mutant.key in results]
    counted = [verdict for verdict in verdicts if verdict in ("killed", *NO_KILL)]
    killed = counted.count("killed")
    share = 100 * killed / len(counted) if counted else 0.0
    unexplained = 0
    reasons = _reasons()
    for mutant in mutants:
        known = results.get(mutant.key)
        if known and known["verdict"] in NO_KILL:
            reason = reasons.get(_change(mutant))
            unexplained += reason is None
            print(f"{known['verdict']}: {_describe(mutant)}\n    {reason or 'NOT EXPLAINED'}")
    print(
        f"{killed} of {len(counted)} killed ({share:.1f} %), "
        f"{counted.count('timeout')} timed out, {counted.count('crashed')} crashed; not counted: "
        f"{verdicts.count('uncompilable')} do not compile, {verdicts.count('equal')} change "
        f"nothing; not run: {len(mutants) - len(verdicts)} of {len(mutants)}"
    )
    if all_must_die:
        return 0 if killed == len(counted) == len(verdicts) == len(mutants) else 1
    if unexplained:
        print(f"{unexplained} survivors have no reason in {SURVIVORS.relative_to(ROOT)}")
    return 0 if share >= AIM_PERCENT and not unexplained else 1


def _reasons() -> dict[tuple[str, str], str]:
    """Why a survivor may live, by its change: line numbers move."""
    if not SURVIVORS.exists():
        return {}
    return {(row["path"], row["change"]): row["why"] for row in json.loads(SURVIVORS.read_text())}


def _change(mutant: Mutant) -> tuple[str, str]:
    return mutant.path, f"{mutant.before.strip()}  ->  {mutant.after.strip()}"


def _describe(mutant: Mutant) -> str:
    return f"{mutant.path}:{mutant.line} [{mutant.kind}] {mutant.why or _change(mutant)[1]}"


if __name__ == "__main__":
    sys.exit(main())
