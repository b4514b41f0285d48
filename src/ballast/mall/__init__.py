"""Mall: the multi-tenant commerce application. `rules` is what it decides by; the rest reads, writes and shows."""
