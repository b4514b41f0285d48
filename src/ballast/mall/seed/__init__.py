"""Plausible shops out of nothing: goods, people, ninety days of orders; for a demonstration, for benchmarks, for drills.

``seed(settings, shops=…, orders=…)`` is all that others need. What is made depends on `seed` and the number of the shop
alone, so the same call makes the same; a shop that is there is left as it is, so that calling again goes on where it was
broken off. Everything is written as the application's own roles and keeps their rules: rows of one shop in one transaction,
prices by `rules.pricing`, lives of orders by `rules.states`, books by `rules.books`.
"""

from ballast.mall.seed.people import DEMO_PHONE
from ballast.mall.seed.planting import DEMO_LOGIN, Seeded, Watch, plant, seed

__all__ = ["DEMO_LOGIN", "DEMO_PHONE", "Seeded", "Watch", "plant", "seed"]
