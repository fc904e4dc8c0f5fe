"""`bertune sweep`: hyper-parameters found in the time there is, and the winner trained again on fresh seeds."""
