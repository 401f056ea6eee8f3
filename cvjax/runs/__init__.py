"""What a run is made of: typed configurations, and the model, task, data and steps that they stand for."""
