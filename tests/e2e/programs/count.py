"""Counts to N, a step each `STEP_SECONDS`, and writes how far it came: a task to interrupt."""

import os
import time
from pathlib import Path

steps = int(os.environ.get("STEPS", "5"))
pause_seconds = float(os.environ.get("STEP_SECONDS", "0.2"))
output = Path(os.environ["TALLYSTICK_OUTPUT"])

for step in range(1, steps + 1):
    time.sleep(pause_seconds)
    (output / "counted.txt").write_text(f"{step}\n")
    print(f"::progress {step * 100 // steps} counted {step}", flush=True)
    print(f"step {step} of {steps}", flush=True)

words = Path(os.environ["TALLYSTICK_INPUT"]) / "words.txt"
if words.exists():
    (output / "loud.txt").write_text(words.read_text().upper() + os.environ.get("MARK", ""))
