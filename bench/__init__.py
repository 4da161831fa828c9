"""Measures gitopsd beside what people use today. docs/performance.md says what the figures mean."""
