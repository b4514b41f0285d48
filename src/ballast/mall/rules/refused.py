"""How a rule says no: a key that pages translate, what it is about, and a sentence for logs and callers of the API."""

from __future__ import annotations

from ballast.errors import BallastError


class Refused(BallastError):
    """A rule says no. `key` and `params` choose and fill the text of a page, in either language; `what` and `do` are the
    same in English, as in any error."""

    def __init__(self, key: str, what: str, do: str = "", **params: str | int) -> None:
        super().__init__(what, do)
        self.key = key
        self.params = params
