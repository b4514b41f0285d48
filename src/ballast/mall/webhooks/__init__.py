"""Webhooks: a shop's own software is told what happened in it, by a signed POST to an address that the shop registered.

`endpoints` are the addresses; `subscribe` writes down, in the transaction in which an event is handed out, who is to be told of
it; `sending` tells them, at least once and again for a day; `reach` keeps requests out of the installation's own network;
`signature` and `schedule` are the rules: Standard Webhooks (standardwebhooks.com), and how long to wait.
"""

from __future__ import annotations

from ballast.mall.webhooks.sending import Sender, subscribe

__all__ = ["Sender", "subscribe"]
