"""The work of a night, as plain functions. Only `tasks.steps` knows Prefect."""
