"""A replay written down: on the terminal, and as a page for a browser that needs nothing beside itself."""
