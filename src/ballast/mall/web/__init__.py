"""The mall's faces: the storefront, the merchants' admin, the platform's admin, the API; one ASGI application (``app``)."""
