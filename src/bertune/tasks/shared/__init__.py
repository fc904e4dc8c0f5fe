"""What several tasks are made of: text features, heads, losses, class weights, metrics, simple baselines."""
