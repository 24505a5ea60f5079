"""Examples of the documentation; tests run every one."""
