"""What a receipt says, looked up."""

from typing import Any


def layer(receipt: Any, name: str) -> Any:
    """One layer of it."""
    return next(each for each in receipt["layers"] if each["layer"] == name)


def sessions(receipt: Any) -> list[Any]:
    """The sessions that AWS still honours."""
    return [each for each in receipt["remains"] if each["what"] == "session"]
