"""How the demo tells what it does: one line a step, with a mark that turns while a step takes longer than a second."""

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console


class StepFailed(Exception):
    """A step is not as told. `hint` says where to look."""

    def __init__(self, text: str, hint: str) -> None:
        super().__init__(text)
        self.hint = hint


class Story:
    """Prints to standard output; coloured on a terminal, plain in a pipe."""

    def __init__(self) -> None:
        self._out = Console(highlight=False, markup=False, emoji=False, soft_wrap=True)
        self._count = 0
        self.step = ""

    @contextmanager
    def telling(self, title: str) -> Iterator[list[str]]:
        """A step. What the block appends to the list is shown below it, indented."""
        self._count += 1
        self.step = title
        notes: list[str] = []
        begun = time.monotonic()
        label = f"{self._count:>2}  {title}"
        if self._out.is_terminal:
            with _Turning(self._out, label):
                yield notes
        else:
            with _Sign(label):
                yield notes
        took = time.monotonic() - begun
        self._out.print("✓ ", style="green", end="")
        self._out.print(label, end="")
        self._out.print(f"  ({took:.1f} s)" if took >= 1 else "", style="dim")
        for note in notes:
            self._out.print("      " + note, style="dim")

    def failed(self, error: StepFailed) -> int:
        """Say which step is not as told; the exit status."""
        self._out.print(f"✗ {self._count:>2}  {self.step}", style="bold red")
        self._out.print(f"error: step {self._count} ({self.step}): {error}", style="red")
        self._out.print(f"hint: {error.hint}")
        return 1

    def say(self, text: str = "") -> None:
        """A line outside of any step."""
        self._out.print(text)


class _Turning:
    """Shows a turning mark once a second has passed."""

    def __init__(self, out: Console, label: str) -> None:
        self._status = out.status(label, spinner="dots")
        self._timer = threading.Timer(1, self._status.start)

    def __enter__(self) -> None:
        self._timer.start()

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()
        self._timer.join()
        self._status.stop()


class _Sign:
    """In a pipe: one sign of life on standard error for a step that takes longer than five seconds."""

    def __init__(self, label: str) -> None:
        self._timer = threading.Timer(5, print, args=(f"… {label.strip()}",), kwargs={"file": sys.stderr})

    def __enter__(self) -> None:
        self._timer.start()

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()
        self._timer.join()


def demand(holds: object, text: str, hint: str = "The logs are in .demo/.") -> None:
    """Raise StepFailed unless it holds."""
    if not holds:
        raise StepFailed(text, hint)
