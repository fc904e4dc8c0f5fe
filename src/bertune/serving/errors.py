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


class ItemsError(RequestError):
    """Items that the task cannot take. problems: message by the item's index."""

    def __init__(self, problems: Mapping[int, str]) -> None:
        text = "; ".join(f"item {index}: {problem}" for index, problem in list(problems.items())[:5])
        if len(problems) > 5:
            text += f"; and {len(problems) - 5} more items"
        super().__init__(422, "bad_item", text)
