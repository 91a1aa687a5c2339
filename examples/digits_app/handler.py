"""Reads a handwritten digit. The model is made once, when the worker starts; a call only asks it.

    cd examples/digits_app && tallystick app serve -i @seven.json

Run here it needs scikit-learn; in a container, a base image that has it.
"""

from __future__ import annotations

from typing import Any

from tallystick.app import InputRefused, handler

SIDE = 8
SHADES = 16

model: Any = None


def load() -> None:
    """The warm-up: learning from 1,797 pictures stands in for loading weights."""
    global model
    from sklearn.datasets import load_digits
    from sklearn.neighbors import KNeighborsClassifier

    images, digits = load_digits(return_X_y=True)
    model = KNeighborsClassifier(n_neighbors=5).fit(images, digits)


@handler
def read(pixels: list[float]) -> dict[str, Any]:
    """`pixels`: 64 shades from 0 (white) to 16 (black), row by row."""
    if len(pixels) != SIDE * SIDE:
        raise InputRefused(f"pixels has {len(pixels)} values; a picture has {SIDE * SIDE}")
    if not all(isinstance(shade, int | float) and 0 <= shade <= SHADES for shade in pixels):
        raise InputRefused(f"a pixel is a number from 0 to {SHADES}")
    chances = model.predict_proba([pixels])[0]
    digit = int(chances.argmax())
    return {"digit": digit, "chance": round(float(chances[digit]), 3)}
