"""Figures: functions from results to matplotlib figures."""
