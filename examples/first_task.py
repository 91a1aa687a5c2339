"""The first task from Python: submit, follow, fetch, check.

python examples/first_task.py              on the market that your settings name
python examples/first_task.py --in-memory  without any market: nothing real is bought or paid
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from tallystick import GPUClient, JobState
from tallystick.testing import InMemoryMarket, run_script

SCRIPT = """\
import os, pathlib

for step in range(1, 4):
    print(f"::progress {step * 33} step {step}")
    print("step", step)
pathlib.Path(os.environ["TALLYSTICK_OUTPUT"], "answer.txt").write_text("42")
"""


def main(client: GPUClient, place: Path) -> str:
    script = place / "train.py"
    script.write_text(SCRIPT)

    print("4 GPUs at 0.5 for 8 hours cost at most", client.estimate(4, "0.5", "8h"))
    job = client.submit(script, "gpu1", 4, "8h", name="first task", max_price="0.6")
    print("submitted", job.id, "for at most", job.max_charge)

    for entry in client.logs(job, follow=True):
        print("  |", entry.text, end="")

    status = client.get_job_status(job.id)
    assert status.state in (JobState.FINISHED, JobState.PROVEN)

    result = client.result(job, to=place / "result")  # verified, opened, accepted
    print("charged", result.charge, "for", result.receipt.gpu_seconds, "GPU-seconds")
    return (result.outputs / "answer.txt").read_text()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        if "--in-memory" in sys.argv:
            opened = InMemoryMarket(work=run_script).client()
        else:
            opened = GPUClient()
        with opened:
            print("the answer is", main(opened, Path(folder)))
