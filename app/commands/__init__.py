"""The commands of `laurel`, one module each; what they need is imported when they run."""
