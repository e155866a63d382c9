"""Whatever is kept on disk: files whole or not at all, folders held by one process, what an output may not replace."""

__all__ = ["cache", "extras", "files", "folder", "home", "locks", "outputs", "own", "provenance"]
