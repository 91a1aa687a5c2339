"""Trains a small neural network on the handwritten digits that ship inside scikit-learn.

Run it anywhere (`python examples/train_digits.py`) or on the market:

    tallystick submit examples/train_digits.py --gpu gpu1 --count 1 --time 10m

It follows the three conventions of a task: read from `TALLYSTICK_INPUT`, write what should come
back to `TALLYSTICK_OUTPUT`, and print `::progress <percent> <message>` lines for whoever watches.
"""

from __future__ import annotations

import json
import os
import pickle
import sys
import time
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits
from sklearn.metrics import accuracy_score, confusion_matrix
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier

EPOCHS = int(os.environ.get("EPOCHS", "60"))
SECONDS_PER_EPOCH = float(os.environ.get("SECONDS_PER_EPOCH", "0"))
"""Slows each epoch down to at least this long, to watch a failover happen."""


def main() -> int:
    output = Path(os.environ.get("TALLYSTICK_OUTPUT", "."))
    digits = load_digits()
    pixels = digits.data / 16.0
    train_x, test_x, train_y, test_y = train_test_split(
        pixels, digits.target, test_size=0.25, random_state=7, stratify=digits.target
    )
    model = MLPClassifier(hidden_layer_sizes=(128, 64), random_state=7, learning_rate_init=2e-3)
    history: list[dict[str, float]] = []
    for epoch in range(1, EPOCHS + 1):
        started = time.monotonic()
        model.partial_fit(train_x, train_y, classes=np.unique(digits.target))
        accuracy = float(accuracy_score(test_y, model.predict(test_x)))
        history.append({"epoch": epoch, "loss": float(model.loss_), "accuracy": accuracy})
        time.sleep(max(0.0, SECONDS_PER_EPOCH - (time.monotonic() - started)))
        print(f"::progress {epoch * 100 // EPOCHS} epoch {epoch}/{EPOCHS}", flush=True)
        if epoch % 10 == 0 or epoch == EPOCHS:
            print(f"epoch {epoch:3d}  loss {model.loss_:.4f}  accuracy {accuracy:.4f}", flush=True)

    predicted = model.predict(test_x)
    result = {
        "accuracy": float(accuracy_score(test_y, predicted)),
        "test_images": len(test_y),
        "train_images": len(train_y),
        "epochs": EPOCHS,
        "confusion": confusion_matrix(test_y, predicted).tolist(),
        "history": history,
    }
    (output / "metrics.json").write_text(json.dumps(result, indent=2) + "\n")
    with (output / "model.pkl").open("wb") as file:
        pickle.dump(model, file)
    print(f"accuracy {result['accuracy']:.4f} on {result['test_images']} images it never saw")
    return 0


if __name__ == "__main__":
    sys.exit(main())
