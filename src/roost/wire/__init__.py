"""What crosses a process: ids, errors, specs, control bodies, frames. Standard library only."""
