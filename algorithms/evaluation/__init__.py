"""Are the images better, and at what price? Metrics with intervals, acceptance checks, reports, best of N."""
