"""Errors of a request, as the service answers them."""

from collections.abc import Mapping


class RequestError(Exception):
    """A request that gets no predictions.

    status: the HTTP status.  kind: the answer's `error_type`.  headers: further headers of the answer.
    """

    def __init__(self, status: int, kind: str, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status, self.kind = status, kind
        self.headers = dict(headers or {})

    def body(self) -> dict[str, str]:
        """The answer's JSON."""
        return {"error": str(self), "error_type": self.kind}


_LONGEST = 500
"""Characters of a message: it may quote an item, and an item may be as long as a body."""


class ItemsError(RequestError):
    """Items that the task cannot take. problems: message by the item's index."""

    def __init__(self, problems: Mapping[int, str]) -> None:
        text = "; ".join(f"item {index}: {_short(problem)}" for index, problem in list(problems.items())[:5])
        if len(problems) > 5:
            text += f"; and {len(problems) - 5} more items"
        super().__init__(422, "bad_item", text)


def _short(message: str) -> str:
    """A message without its middle, if it is long: what is wrong stands at the ends."""
    return message if len(message) <= _LONGEST else f"{message[: _LONGEST // 2]} … {message[-_LONGEST // 2 :]}"
