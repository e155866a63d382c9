"""Images with classes: folders, tables and archives as splits whose classes have one order for ever."""
