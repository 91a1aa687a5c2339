"""Alembic migrations, inside the package: whoever installs the backend can migrate."""
