"""The store in SQL: SQLAlchemy Core on SQLite (a file) or PostgreSQL. Only `engine` and `moved` know which."""
