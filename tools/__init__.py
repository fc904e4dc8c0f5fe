"""Programs of the project's own upkeep; nothing here is installed."""
