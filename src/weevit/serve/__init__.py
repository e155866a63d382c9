"""A model as a server: HTTP protocols that clients already speak, a page, and tools over MCP."""

__all__ = ["load", "mcp", "server"]
