"""Rows: tables, sessions, and repositories that hold all the SQL there is."""
