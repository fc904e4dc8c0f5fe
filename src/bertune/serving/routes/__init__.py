"""One file a protocol; each turns requests into items and answers into its own form."""
