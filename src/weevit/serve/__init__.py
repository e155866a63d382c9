"""A model as a server: HTTP protocols that clients already speak, a page, and tools over MCP."""

__all__ = [
    "addresses",
    "app",
    "bounds",
    "folders",
    "keys",
    "load",
    "mcp",
    "metrics",
    "names",
    "place",
    "server",
    "service",
]
