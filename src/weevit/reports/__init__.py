"""Pages for people: one HTML file each, which needs nothing but itself."""

__all__ = ["axes", "charts", "grid", "page", "thumbnails"]
