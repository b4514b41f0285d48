"""Money comes in and goes back through a provider (`provider.Provider`), which tells us later, by callbacks, what became of it.

`start` begins a payment and says where to pay it (`begin` and `ask` are its halves); `Asking` begins one with its order. `take`
hears a callback: verified, each once, in any order. A payment that comes for an order that is cancelled, or paid already, goes
back by itself (`received`). `send_refund` asks a provider to pay back. `sandbox` is the provider for trying everything out; its
other half is the application `ballast.mall.sandbox`.

No transaction waits for a provider.
"""

from __future__ import annotations

from ballast.mall.payments.provider import Forged, Notice, Opened, Provider, ProviderAway, ProviderRefused
from ballast.mall.payments.received import pay_nothing
from ballast.mall.payments.start import Asking, Begun, Payment, ask, begin, of_order, start, where_to_pay

__all__ = [
    "Asking",
    "Begun",
    "Forged",
    "Notice",
    "Opened",
    "Payment",
    "Provider",
    "ProviderAway",
    "ProviderRefused",
    "ask",
    "begin",
    "of_order",
    "pay_nothing",
    "start",
    "where_to_pay",
]
