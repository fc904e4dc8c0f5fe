"""`bertune report`: what a model does on labelled rows, as one HTML file to read and one JSON file to compute with."""
