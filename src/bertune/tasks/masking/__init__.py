"""How text becomes masked sequences: google-research/bert's instances, and masks drawn anew every epoch."""
