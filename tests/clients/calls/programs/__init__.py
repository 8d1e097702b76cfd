"""Programs of users, each with its SDK: they read names of jobs, a line each, and answer each by a line of JSON."""
