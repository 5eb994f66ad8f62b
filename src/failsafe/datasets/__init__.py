"""The store on disk, and the renderer that turns its traces into frames."""
