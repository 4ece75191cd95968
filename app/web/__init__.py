"""The pages that Laurel serves to a browser: built from `src/` with npm, served from `dist/`."""
