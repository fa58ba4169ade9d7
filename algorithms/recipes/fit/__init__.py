"""Fit the models that rewards and judges need: classifier, segmenter, reference statistics."""
