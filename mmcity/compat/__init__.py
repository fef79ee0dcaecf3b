"""Bridges to host frameworks, and import paths of earlier versions."""
