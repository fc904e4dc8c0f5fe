"""Small data sets written for this project: one folder per task, described in README.md."""
