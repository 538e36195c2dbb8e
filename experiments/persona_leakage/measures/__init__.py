"""Measures of persona leakage: functions of arrays, and of texts where a mark is looked for."""
