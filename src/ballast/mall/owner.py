"""Whose cart, whose coupon, whose order it is."""

from __future__ import annotations

from uuid import UUID

import msgspec


class Owner(msgspec.Struct, frozen=True):
    """A guest is known by his visitor alone, a member by his customer."""

    visitor_id: UUID | None = None
    customer_id: UUID | None = None

    @property
    def id(self) -> UUID:
        """What `owner_id` holds. ValueError for nobody."""
        found = self.customer_id or self.visitor_id
        if found is None:
            raise ValueError("An owner is a visitor or a customer; neither was given.")
        return found

    @property
    def actor(self) -> str:
        """As events and movements name him."""
        return f"customer:{self.customer_id}" if self.customer_id else f"visitor:{self.visitor_id}"
