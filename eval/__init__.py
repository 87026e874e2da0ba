"""Measure all four arms: datasets, metrics, paired statistics, reports."""
