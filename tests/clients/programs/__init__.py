"""Programs of users, each with its SDK: they read prefixes on standard input, and answer each by a line of JSON."""
