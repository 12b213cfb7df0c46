# Shortcuts for those who work on flashctl; nothing here is needed to use it.
.PHONY: test check completions docs

test:
	.venv/bin/pytest

check:
	.venv/bin/ruff check . && .venv/bin/ruff format --check . && .venv/bin/mypy

completions:
	.venv/bin/python -m flashctl.cli.completions completions

docs:
	.venv/bin/python docs/generate.py
