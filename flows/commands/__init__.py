"""The commands of the terminal, a file for each kind; `flows.cli` lists them."""
